"""Activation maximization of many units in one batch, on the truncated network."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from memviz.errors import RenderError
from memviz.layers import fold_batch_norms, private_copy, replace_response_norms, truncate
from memviz.models import Model
from memviz.progress import Advance
from memviz.rendering.config import RenderConfig
from memviz.rendering.objectives import Lucent, Objective, ObjectiveBatch, lucent_names, resolve_lucent
from memviz.rendering.redirect import redirect_relus

# Steps after which a picture that no gradient has reached is given up. Lucid redirects for as many
# (optvis/overrides/redirected_relu_grad.py).
PATIENCE = 16
# Larger batches bring a CPU nothing; a GPU is full long before 128 pictures of 128 px.
MOST_IMAGES = {"cpu": 16, "cuda": 128}
# Adam's epsilon, relative to the largest entry of a picture's first gradient: above float32's rounding, which
# Adam would otherwise blow up. The usual absolute one leaves a grey square of a unit with tiny weights, as 17 of
# the first 64 of ResNet-152 have.
EPSILON = 1e-4


@dataclass(frozen=True)
class RenderResult:
    """One finished picture.

    Attributes:
        picture: (3, H, W) float32 in [0, 1], on the CPU.
        activation: of a unit its mean over the positions of the picture as it is, without random
            transforms, and for a neuron its own; else the objective's value.
        peak: of a unit its largest activation over the positions; else `activation`.
        state: "ok"; "redirected" if it needed redirected gradients to start; "dead" if no gradient
            ever reached the picture.
    """

    picture: Tensor
    activation: float
    peak: float
    state: str


def seed_of(seed: int, name: str) -> int:
    """A picture's own seed, from the seed given and what it shows; never from its companions."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little") >> 1


class Engine:
    """Optimizes pictures for the objectives of one model.

    The network is traced once, cut after the layers that the objectives need, with batch norms folded
    and weights frozen, on a private copy.

    Args:
        model: whose module stays as it is.
        objectives: all that will be drawn.
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
        self.size = config.size_for(model, objectives)
        self._names = lucent_names(model.module)
        private = private_copy(model.module, channels_last=False)
        addresses = {term.address for o in objectives if isinstance(o, Objective) for _, term in o.terms}
        with self._running():
            for objective in objectives:
                if isinstance(objective, Lucent):
                    addresses |= self._addresses(objective, private)
            self._network = self._prepared(truncate(private, sorted(addresses)) if addresses else _NoLayers())
            self._bytes_per_image = self._measure()

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
        return network.to(memory_format=torch.channels_last)

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

    def _forward(self, network: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
        inputs = self.model.inputs.from_tensor(pictures, resize=False).to(self.model.dtype)
        mixed = self.device.type == "cuda" and self.config.mixed_precision and torch.cuda.is_bf16_supported()
        with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
            out: dict[str, Tensor] = network(inputs.contiguous(memory_format=torch.channels_last))
        return out

    def _measure(self) -> int:
        """Bytes that autograd keeps for one picture; also shows that the network runs at this size."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        weights = {tensor.untyped_storage().data_ptr() for tensor in self._network.parameters()}
        picture = torch.full((1, 3, *self.size), 0.5, device=self.device, requires_grad=True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._forward(self._network, picture)
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
        """Draws one batch; a picture whose gradient is wholly blocked is retried with redirected ReLUs.

        Args:
            objectives: which fit into memory together; see `chunks`.
            advance: told of each finished step of each picture.
        """
        drawn, alive = self._optimized(objectives, advance)
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
            redirected = private_copy(self._network, channels_last=False)
            redirect_relus(redirected)
            again, lives = self._optimized(blocked, lambda count=1: None, redirected)
            for row, picture, success in zip(rows, again, lives, strict=True):
                drawn[row] = replace(picture, state="redirected" if success else "dead")
        return drawn

    def _optimized(
        self, objectives: Sequence[Objective | Lucent], advance: Advance, first: nn.Module | None = None
    ) -> tuple[list[RenderResult], list[bool]]:
        """Pictures, and whether an unredirected gradient reached each; `first` runs the first steps."""
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
        redirected_steps = config.steps // 2 if first is not None else 0
        for step in range(config.steps):
            network = first if first is not None and step < redirected_steps else self._network
            with torch.enable_grad():
                pictures = config.parameterization.pictures(parameters, self.size)
                seen = transforms.apply(pictures, thetas[step]) if transforms and thetas is not None else pictures
                values = batch(self._forward(network, seen), pictures)
                (gradient,) = torch.autograd.grad(-values.sum(), [parameters])
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
        return self._finished(objectives, parameters.detach(), batch), alive.tolist()

    def _generators(self, objectives: Sequence[Objective | Lucent]) -> list[Generator]:
        names = []
        for objective in objectives:
            names += [f"{objective}/{place}" if place else str(objective) for place in range(objective.images)]
        return [Generator("cpu").manual_seed(seed_of(self.seed, name)) for name in names]

    def _finished(
        self, objectives: Sequence[Objective | Lucent], parameters: Tensor, batch: ObjectiveBatch
    ) -> list[RenderResult]:
        with torch.no_grad():
            pictures = self.config.parameterization.pictures(parameters, self.size)
            activations = self._forward(self._network, pictures)
            values = batch(activations, pictures)
        if not (values.isfinite().all() and pictures.isfinite().all()):
            raise RenderError(
                f"{self.model.name} gave values that are not finite while drawing {', '.join(map(str, objectives))}. "
                "Check its weights, or lower the learning rate."
            )
        rows: list[Objective | Lucent] = []
        for objective in objectives:
            rows += [objective] * objective.images
        return [
            RenderResult(picture, *_reached(objective, activations, row, value), "ok")
            for row, (objective, picture, value) in enumerate(
                zip(rows, pictures.float().cpu(), values.tolist(), strict=True)
            )
        ]


class _NoLayers(nn.Module):
    """In place of a network at which no objective looks, only at the picture."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        return {}


def _reached(
    objective: Objective | Lucent, activations: dict[str, Tensor], row: int, value: float
) -> tuple[float, float]:
    """Activation and peak of one picture."""
    if isinstance(objective, Objective) and len(objective.terms) == 1:
        weight, term = objective.terms[0]
        if term.kind in ("excitation", "channel", "neuron"):
            found = weight * activations[term.address][row, term.unit].float()
            return value if term.kind == "neuron" else found.mean().item(), found.max().item()
    return value, value


def _free_memory(device: torch.device) -> float:
    """Bytes that a batch may take: half of what is free."""
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    available: Any = 0
    with contextlib.suppress(ValueError, OSError, AttributeError):
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0.5 * (available if available > 0 else 4 * 2**30)
