"""Activation maximization of many units in one batch, on the truncated network."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from memviz.errors import RenderError
from memviz.layers import ChannelsLast, fold_batch_norms, private_copy, replace_response_norms, truncate
from memviz.models import Model
from memviz.progress import Advance
from memviz.rendering.config import RenderConfig
from memviz.rendering.lucent import Lucent, ObjectiveBatch, lucent_names, resolve_lucent
from memviz.rendering.measure import measure
from memviz.rendering.objective import OUTPUT, Objective
from memviz.rendering.record import RenderRecord, State
from memviz.rendering.redirect import redirecting

# Steps after which a picture that no gradient has reached is given up. Lucid redirects for as many
# (optvis/overrides/redirected_relu_grad.py).
PATIENCE = 16
# Larger batches bring a CPU nothing; a GPU is full long before 128 pictures of 128 px.
MOST_IMAGES = {"cpu": 16, "cuda": 128}
# Adam's epsilon, relative to the largest entry of a picture's first gradient: above float32's rounding, which
# Adam would otherwise blow up. The usual absolute one leaves a grey square of a unit with tiny weights, as 17 of
# the first 64 of ResNet-152 have.
EPSILON = 1e-4
# What stands for a picture that shows nothing.
GREY = 128
# Random pictures by which a dead unit is told from one that only this engine could not excite.
PROBES = 8


@dataclass(frozen=True)
class RenderResult:
    """One finished picture, (3, H, W) uint8 on the CPU, and what is known of it."""

    picture: Tensor
    record: RenderRecord


def seed_of(seed: int, name: str) -> int:
    """A picture's own seed, from the seed given and what it shows; never from its companions."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little") >> 1


@contextlib.contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Runs the block without the caller's inference mode, in which there are no gradients, and autocast."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def needs_whole(model: Model, objectives: Sequence[Objective | Lucent]) -> bool:
    """Whether an objective looks at what needs the network's own input size, as the score or a vector's unit."""
    addresses = {term.address for o in objectives if isinstance(o, Objective) for _, term in o.terms}
    return any(address == OUTPUT or model.layers[address].receptive_field is None for address in addresses)


class Engine:
    """Optimizes pictures for the objectives of one model.

    The network is traced once, cut after the layers that the objectives need, with batch norms folded
    and weights frozen, on a private copy, which lives as long as the engine.

    Args:
        model: whose module stays as it is.
        objectives: all that will be drawn, validated.
        config: how.
        seed: from which, with what it shows, each picture's own seed is made.

    Raises:
        LayerError: a layer that the model does not have.
        RenderError: a size on which the network does not run.
    """

    def __init__(
        self, model: Model, objectives: Sequence[Objective | Lucent], config: RenderConfig, seed: int = 0
    ) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.device = model.device
        size = config.resolve(needs_whole(model, objectives), model.inputs.size).size
        self.size = model.inputs.size if size is None else (size, size)
        self._names = lucent_names(model.module)
        addresses = {term.address for o in objectives if isinstance(o, Objective) for _, term in o.terms}
        with isolated(self.device), self._running():
            private = private_copy(model.module)
            for objective in objectives:
                if isinstance(objective, Lucent):
                    addresses |= self._addresses(objective, private)
            self._network = self._prepared(truncate(private, sorted(addresses)) if addresses else _NoLayers())
            self._bytes_per_image = self._measure_bytes()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Says what to do where the network does not run at the pictures' size."""
        try:
            yield
        except RuntimeError as error:
            height, width = self.model.inputs.size
            raise RenderError(
                f"{self.model.name} does not run up to there on pictures of {self.size[0]}x{self.size[1]} px "
                f"({error}). Choose a larger size, or the network's own, {height}x{width}."
            ) from error

    def _prepared(self, network: nn.Module) -> nn.Module:
        if isinstance(network, torch.fx.GraphModule):
            fold_batch_norms(network)
        replace_response_norms(network)
        return ChannelsLast(network)

    def _addresses(self, objective: Lucent, private: nn.Module) -> set[str]:
        """Which layers a lucent objective asks for, found by letting it ask."""
        found: set[str] = set()
        example = torch.full((objective.images, 3, *self.size), 0.5, device=self.device)

        def look(name: str) -> Tensor:
            if name == "input":
                return example
            address = resolve_lucent(name, self._names)
            found.add(address)
            activation: Tensor = truncate(private, [address])(self.model.inputs.from_tensor(example, resize=False))[
                address
            ]
            return activation

        with torch.no_grad():
            objective.objective(look)
        return found

    def _forward(self, pictures: Tensor) -> dict[str, Tensor]:
        inputs = self.model.inputs.from_tensor(pictures, resize=False).to(self.model.dtype)
        mixed = self.device.type == "cuda" and self.config.mixed_precision and torch.cuda.is_bf16_supported()
        with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
            out: dict[str, Tensor] = self._network(inputs)
        return out

    def _measure_bytes(self) -> int:
        """Bytes that autograd keeps for one picture; also shows that the network runs at this size."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            # The tensor itself would make a cycle through the graph, which is never freed.
            return tensor.detach()

        weights = {tensor.untyped_storage().data_ptr() for tensor in self._network.parameters()}
        picture = torch.full((1, 3, *self.size), 0.5, device=self.device, requires_grad=True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._forward(picture)
        return sum(size for pointer, size in kept.items() if pointer not in weights)

    def chunks(self, objectives: Sequence[Objective | Lucent]) -> Iterator[list[Objective | Lucent]]:
        """The objectives in batches that fit into memory."""
        # Gradients and the optimizer take about as much again as what autograd keeps.
        fit = max(1, int(_free_memory(self.device) // (2 * self._bytes_per_image + 1)))
        most = min(fit, self.config.batch_size or MOST_IMAGES.get(self.device.type, 16))
        chunk: list[Objective | Lucent] = []
        images = 0
        for objective in objectives:
            if chunk and images + objective.images > most:
                yield chunk
                chunk, images = [], 0
            chunk.append(objective)
            images += objective.images
        if chunk:
            yield chunk

    def draw(
        self, objectives: Sequence[Objective | Lucent], advance: Advance = lambda count=1: None
    ) -> list[RenderResult]:
        """Draws one batch; a picture whose gradient is wholly blocked is retried with redirected gradients.

        Args:
            objectives: which fit into memory together; see `chunks`.
            advance: counts each finished step of each picture.
        """
        with isolated(self.device):
            parameters, alive = self._optimize(objectives, advance)
            states: list[State] = ["ok"] * len(alive)
            blocked: list[Objective | Lucent] = []
            rows: list[int] = []
            row = 0
            for objective in objectives:
                own = range(row, row := row + objective.images)
                # Pictures that share an objective are drawn again together.
                if not all(alive[place] for place in own):
                    blocked.append(objective)
                    rows += own
            if blocked:
                again, excited = self._optimize(blocked, lambda count=1: None, redirect=True)
                parameters[rows] = again
                shown = [objective for objective in blocked for _ in range(objective.images)]
                for row, objective, success in zip(rows, shown, excited, strict=True):
                    if success:
                        states[row] = "redirected"
                    else:
                        states[row] = "not excited" if self._varies(objective) else "dead"
            return self._finish(objectives, parameters, states)

    def _optimize(
        self, objectives: Sequence[Objective | Lucent], advance: Advance, redirect: bool = False
    ) -> tuple[Tensor, list[bool]]:
        """Parameters (N, ...), and whether an unredirected gradient reached each picture."""
        config, transforms = self.config, self.config.transforms
        generators = self._generators(objectives)
        parameters = torch.stack([config.parameterization.start(self.size, generator) for generator in generators])
        parameters = parameters.to(self.device).requires_grad_()
        maps = [transforms.draw(config.steps, self.size, generator) for generator in generators] if transforms else []
        thetas = torch.stack(maps, dim=1).to(self.device) if maps else None
        batch = ObjectiveBatch(objectives, self._names, self.device)
        optimizer = torch.optim.Adam(
            [parameters],
            lr=config.learning_rate,
            eps=EPSILON,
            fused=self.device.type in ("cpu", "cuda"),
        )
        alive = torch.zeros(len(generators), dtype=torch.bool, device=self.device)
        scale, scaled = parameters.new_zeros(len(generators), *[1] * (parameters.dim() - 1)), False
        # Lucid's 16 steps leave many units of deep layers behind their ReLU; redirection does nothing to a
        # sample that is free, so it may last.
        redirected_steps = config.steps // 2 if redirect else 0
        for step in range(config.steps):
            with torch.enable_grad():
                pictures = config.parameterization.pictures(parameters, self.size)
                seen = transforms.apply(pictures, thetas[step]) if transforms and thetas is not None else pictures
                with redirecting() if step < redirected_steps else contextlib.nullcontext():
                    activations = self._forward(seen)
                (gradient,) = torch.autograd.grad(-batch(activations, pictures).sum(), [parameters])
            if not scaled:
                scale = scale.where(scale > 0, gradient.abs().amax(tuple(range(1, gradient.dim())), keepdim=True))
                scaled = bool((scale > 0).all())
            # The network's gradient may be channels_last, and fused Adam goes by places in memory.
            parameters.grad = (gradient / scale.clamp(min=torch.finfo(scale.dtype).tiny)).contiguous()
            if redirected_steps <= step < redirected_steps + PATIENCE:
                alive |= parameters.grad.flatten(1).any(dim=1)
                # The last look at who lives saves a hopeless batch its remaining steps.
                if step == redirected_steps + PATIENCE - 1 and not alive.any():
                    advance(len(generators) * (config.steps - step))
                    break
            optimizer.step()
            advance(len(generators))
        return parameters.detach(), alive.tolist()

    def _generators(self, objectives: Sequence[Objective | Lucent]) -> list[Generator]:
        names = []
        for objective in objectives:
            names += [f"{objective}/{place}" if place else str(objective) for place in range(objective.images)]
        return [Generator("cpu").manual_seed(seed_of(self.seed, name)) for name in names]

    def _varies(self, objective: Objective | Lucent) -> bool:
        """Whether an objective has different values on different pictures: black, white, colours and noise."""
        batch = ObjectiveBatch([objective], self._names, self.device)
        generator = Generator("cpu").manual_seed(seed_of(self.seed, f"probes/{objective}"))
        noise = torch.rand(PROBES, 3, *self.size, generator=generator, dtype=torch.float32, device="cpu")
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], device="cpu")] * 3)
        values: list[float] = []
        with torch.no_grad():
            for picture in [*noise, *noise.round(), *corners.view(-1, 3, 1, 1).expand(-1, -1, *self.size)]:
                pictures = picture.to(self.device).expand(objective.images, -1, -1, -1)
                values.append(batch(self._forward(pictures), pictures).sum().item())
        return max(values) - min(values) > 1e-6 * max(map(abs, values))

    def _finish(
        self, objectives: Sequence[Objective | Lucent], parameters: Tensor, states: Sequence[State]
    ) -> list[RenderResult]:
        """The pictures in 8 bits, as they are saved, and what is measured on them."""
        with torch.no_grad():
            exact = self.config.parameterization.pictures(parameters, self.size).float()
            hidden = [place for place, state in enumerate(states) if state in ("not excited", "dead")]
            pictures = exact.mul(255).round().clamp(0, 255).to(torch.uint8)
            pictures[hidden] = GREY
            shown = pictures.float() / 255
            values = ObjectiveBatch(objectives, self._names, self.device)(self._forward(shown), shown)
        if not (values.isfinite().all() and exact.isfinite().all()):
            raise RenderError(
                f"{self.model.name} gave values that are not finite while drawing {', '.join(map(str, objectives))}. "
                "Check its weights, or lower the learning rate."
            )
        rows = [objective for objective in objectives for _ in range(objective.images)]
        units = [objective.report() if isinstance(objective, Objective) else None for objective in rows]
        pictures = pictures.cpu()
        readings = measure(self._network, self.model, list(pictures), units)
        return [
            RenderResult(
                picture,
                RenderRecord(
                    objective=str(objective),
                    unit=unit.channel if unit else None,
                    value=value,
                    mean=reading.mean if reading else None,
                    peak=reading.peak if reading else None,
                    position=reading.position if reading else None,
                    steps=self.config.steps,
                    seed=self.seed,
                    state=state,
                ),
            )
            for objective, picture, unit, value, reading, state in zip(
                rows, pictures, units, values.tolist(), readings, states, strict=True
            )
        ]


class _NoLayers(nn.Module):
    """In place of a network at which no objective looks, only at the picture."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return {}


def _free_memory(device: torch.device) -> float:
    """Bytes that a batch may take: half of what is free."""
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    available: Any = 0
    with contextlib.suppress(ValueError, OSError, AttributeError):
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0.5 * (available if available > 0 else 4 * 2**30)
