"""Activation maximization of many units in one batch, on the truncated network."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from memviz.errors import RenderError
from memviz.layers import Layer, isolated, private_copy, truncate
from memviz.models import Model
from memviz.progress import Advance
from memviz.rendering.ascent import Values, ascend
from memviz.rendering.bounds import Bounds, bound
from memviz.rendering.config import Refinement, RenderConfig
from memviz.rendering.lucent import (
    Lucent,
    ObjectiveBatch,
    asks_for_no_place,
    lucent_names,
    resolve_lucent,
    rows_of,
)
from memviz.rendering.measure import as_endless, as_inputs, measure
from memviz.rendering.memory import bytes_kept, free_memory
from memviz.rendering.objective import OUTPUT, Objective
from memviz.rendering.prepared import Prepared
from memviz.rendering.record import RenderRecord, State
from memviz.rendering.redirect import redirecting

# Larger batches bring a CPU nothing; a GPU is full long before 128 pictures of 128 px.
MOST_IMAGES = {"cpu": 16, "cuda": 128}
# What stands for a picture that shows nothing.
GREY = 128


@dataclass(frozen=True)
class RenderResult:
    """One finished picture, (3, H, W) uint8 on the CPU, and what is known of it."""

    picture: Tensor
    record: RenderRecord


def seed_of(seed: int, name: str) -> int:
    """A picture's own seed, from the seed given and what it shows; never from its companions."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little") >> 1


def layers_of(model: Model, objectives: Sequence[Objective | Lucent]) -> list[Layer] | None:
    """The layers at which objectives look, if they ask for no place; None where one needs the network's own input."""
    terms = [term for o in objectives if isinstance(o, Objective) for _, term in o.terms]
    if any(term.address == OUTPUT for term in terms):
        return None
    layers = [model.layers[address] for address in {term.address: None for term in terms}]
    if any(layer.receptive_field is None for layer in layers):
        return None
    return layers if all(map(asks_for_no_place, objectives)) else []


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
        self._objectives = tuple(objectives)
        resolved = config.resolve(layers_of(model, objectives), model.inputs.size)
        side = resolved.canvas or resolved.size
        self.size = model.inputs.size if side is None else (side, side)
        self._tiles = 1 if resolved.size is None else resolved.size // self.size[0]
        self._names = lucent_names(model.module)
        addresses = {term.address for o in objectives if isinstance(o, Objective) for _, term in o.terms}
        with isolated(self.device), self._running():
            private = private_copy(model.module)
            for objective in objectives:
                if isinstance(objective, Lucent):
                    addresses |= self._addresses(objective, private)
            network = truncate(private, sorted(addresses)) if addresses else _NoLayers()
            self._network = Prepared(model, network, self.size, config.mixed_precision)
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

    def _measure_bytes(self) -> int:
        """Bytes that autograd keeps for one picture, at most; also shows that the network runs at these sizes."""
        picture = torch.full((1, 3, *self.size), 0.5, device=self.device, requires_grad=True)
        most = bytes_kept(self._network, picture, self._network.plain)
        if self.config.refining_steps and any(map(asks_for_no_place, self._objectives)):
            most = max(most, bytes_kept(lambda seen: self._measurably(seen, True), picture, self._network.plain))
        return most

    def _measurably(self, pictures: Tensor, anywhere: bool) -> tuple[dict[str, Tensor], tuple[int, int], bool]:
        """Activations of pictures as they will be measured, the size at which the network saw them, and whether it saw
        them as if repeated without end."""
        if not anywhere:
            return self._network(pictures), self.size, False
        if self._network.closes and (tiles := as_endless(pictures, self.model.inputs)) is not None:
            return self._network.endless(tiles), self.model.inputs.size, True
        seen = as_inputs(pictures, self.model.inputs)
        return self._network(seen), (seen.shape[2], seen.shape[3]), False

    def chunks(self, objectives: Sequence[Objective | Lucent]) -> Iterator[list[Objective | Lucent]]:
        """The objectives in batches that fit into memory, and are drawn in the same way."""
        # Gradients and the optimizer take about as much again as what autograd keeps.
        fit = max(1, int(free_memory(self.device) // (2 * self._bytes_per_image + 1)))
        most = min(fit, self.config.batch_size or MOST_IMAGES.get(self.device.type, 16))
        chunk: list[Objective | Lucent] = []
        images = 0
        for objective in objectives:
            if chunk and (self._way(objective) != self._way(chunk[0]) or images + objective.images > most):
                yield chunk
                chunk, images = [], 0
            chunk.append(objective)
            images += objective.images
        if chunk:
            yield chunk

    def _pace(self, objective: Objective | Lucent) -> float:
        """By how much a picture is refined faster; what wants several layers, by the slowest."""
        terms = objective.terms if isinstance(objective, Objective) else ()
        fields = [None if not each.address else self.model.layers[each.address].receptive_field for _, each in terms]
        return min((Refinement.pace(field and max(field)) for field in fields), default=1.0)

    def _way(self, objective: Objective | Lucent) -> tuple[bool, float]:
        """What must be the same for pictures that are drawn together."""
        return asks_for_no_place(objective), self._pace(objective)

    def draw(
        self, objectives: Sequence[Objective | Lucent], advance: Advance = lambda count=1: None
    ) -> list[RenderResult]:
        """Draws one batch; a picture whose gradient is wholly blocked is retried with redirected gradients.

        Args:
            objectives: which fit into memory together; see `chunks`.
            advance: counts each finished step of each picture.
        """
        start = time.perf_counter()
        with isolated(self.device):
            parameters, alive = self._optimize(objectives, advance, self.config.redirect)
            states: list[State] = ["redirected" if self.config.redirect else "ok"] * len(alive)
            blocked: list[Objective | Lucent] = []
            rows: list[int] = []
            for objective, own in zip(objectives, rows_of(objectives), strict=True):
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
                        states[row] = "dead" if self._constant(objective) else "not excited"
            results = self._finish(objectives, parameters, states)
        seconds = (time.perf_counter() - start) / len(results)
        return [replace(each, record=replace(each.record, seconds=seconds)) for each in results]

    def _optimize(
        self, objectives: Sequence[Objective | Lucent], advance: Advance, redirect: bool = False
    ) -> tuple[Tensor, list[bool]]:
        """Parameters (N, ...), and whether an unredirected gradient reached each picture."""
        generators, groups = self._generators(objectives), rows_of(objectives)
        start = torch.stack([self.config.parameterization.start(self.size, generator) for generator in generators])
        parameters, reached = self._explore(objectives, start.to(self.device), generators, redirect, advance)
        last = [group for group, rows in enumerate(groups) if reached[rows.start : rows.stop].all()]
        rows = [row for group in last for row in groups[group]]
        if rows:
            parameters[rows] = self._refine([objectives[group] for group in last], parameters[rows], advance)
        advance((len(generators) - len(rows)) * self.config.refining_steps)
        return parameters, reached.tolist()

    def _explore(
        self,
        objectives: Sequence[Objective | Lucent],
        start: Tensor,
        generators: Sequence[Generator],
        redirect: bool,
        advance: Advance,
    ) -> tuple[Tensor, Tensor]:
        """The first steps, on pictures through random transforms."""
        config, transforms, groups = self.config, self.config.transforms, rows_of(objectives)
        steps = config.steps - config.refining_steps
        # Lucid's 16 steps leave many units of deep layers behind their ReLU; redirection does nothing to a
        # sample that is free, so it may last.
        free = steps // 2 if redirect else 0
        maps = None
        if transforms is not None:
            anywhere = asks_for_no_place(objectives[0])
            drawn = [transforms.draw(steps, self.size, generator, anywhere) for generator in generators]
            maps = torch.stack(drawn, dim=1).to(self.device)

        def view(left: Sequence[int]) -> Values:
            batch = ObjectiveBatch([objectives[group] for group in left], self.model, self._names)
            own = None if maps is None else maps[:, [row for group in left for row in groups[group]]]

            def values(step: int, parameters: Tensor) -> Tensor:
                pictures = config.parameterization.pictures(parameters, self.size)
                seen = pictures if own is None or transforms is None else transforms.apply(pictures, own[step])
                with redirecting() if step < free else contextlib.nullcontext():
                    activations = self._network(seen)
                return batch(activations, pictures, self.size)

            return values

        return ascend(start, [config.learning_rate] * steps, groups, view, free, advance)

    def _refine(self, objectives: Sequence[Objective | Lucent], start: Tensor, advance: Advance) -> Tensor:
        """The last steps, on pictures as they will be measured."""
        if self.config.refinement is None:
            return start
        steps, anywhere = self.config.refining_steps, asks_for_no_place(objectives[0])

        def view(left: Sequence[int]) -> Values:
            batch = ObjectiveBatch([objectives[group] for group in left], self.model, self._names)

            def values(step: int, parameters: Tensor) -> Tensor:
                pictures = self.config.parameterization.pictures(parameters, self.size)
                maps, size, endless = self._measurably(pictures, anywhere)
                return batch(maps, pictures, size, refining=True, endless=endless)

            return values

        rate = self.config.refinement.learning_rate * self._pace(objectives[0])
        rates = [rate * (1 - step / steps) for step in range(steps)]
        return ascend(start, rates, rows_of(objectives), view, 0, advance)[0]

    def _generators(self, objectives: Sequence[Objective | Lucent]) -> list[Generator]:
        names = []
        for objective in objectives:
            names += [f"{objective}/{place}" if place else str(objective) for place in range(objective.images)]
        return [Generator("cpu").manual_seed(seed_of(self.seed, name)) for name in names]

    def _constant(self, objective: Objective | Lucent) -> bool:
        """Whether an objective is known to have one value on every picture."""
        if not isinstance(objective, Objective):
            return False
        black, white = (
            self.model.inputs.from_tensor(torch.full((1, 3, *self.size), value, device=self.device), resize=False)
            for value in (0.0, 1.0)
        )
        bounds = bound(self._network.plain.network, Bounds(black.to(self.model.dtype), white.to(self.model.dtype)))
        for _, term in objective.terms:
            if term.address not in bounds:
                return False
            unit = term.report()
            channels = slice(None) if unit is None else unit.channel
            if not torch.equal(bounds[term.address].low[:, channels], bounds[term.address].high[:, channels]):
                return False
        return True

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
            values = ObjectiveBatch(objectives, self.model, self._names)(self._network(shown), shown, self.size)
        if not (values.isfinite().all() and exact.isfinite().all()):
            raise RenderError(
                f"{self.model.name} gave values that are not finite while drawing {', '.join(map(str, objectives))}. "
                "Check its weights, or lower the learning rate."
            )
        rows = [objective for objective in objectives for _ in range(objective.images)]
        units = [objective.report() if isinstance(objective, Objective) else None for objective in rows]
        pictures = pictures.repeat(1, 1, self._tiles, self._tiles).cpu()
        readings = measure(self._network.plain, self.model, list(pictures), units)
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
