"""What a picture is optimized for.

An objective is a weighted sum of terms, each about one layer of the network or about its score, and
is maximized. Objectives add up and multiply with numbers::

    channel("alexnet.conv4", 3) + 0.5 * channel("resnet.layer2.3", 7)
    -score()

Objectives of `lucent.optvis.objectives` run as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from memviz.errors import LayerError, RenderError, did_you_mean
from memviz.layers import LayerTable

Kind = Literal["excitation", "channel", "neuron", "direction", "score"]
Activations = Mapping[str, Tensor]
LucentObjective = Callable[[Callable[[str], Tensor]], Tensor]

# How much of what lies below zero counts. With 0.5 the pictures of ResMem's convolutions reach nearly the means that
# they reach with 1, and higher peaks (measured in experiments/objectives).
INHIBITION = 0.5

OUTPUT = ""
"""The address of the network's own output: torch's dotted name of the whole."""


@dataclass(frozen=True)
class Term:
    """One quantity of one picture: `kind` says which, of `unit` or `vector` at `address`."""

    kind: Kind
    address: str
    unit: int = 0
    position: tuple[int, int] | None = None
    vector: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.kind == "score":
            return "score"
        place = f"{self.address}:{self.unit}" if self.kind != "direction" else self.address
        return place if self.kind == "channel" else f"{self.kind}({place})"


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms, to maximize."""

    images: ClassVar[int] = 1

    terms: tuple[tuple[float, Term], ...]

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: Any) -> Objective:
        return self if other == 0 else NotImplemented  # where sum() starts

    def __mul__(self, factor: float) -> Objective:
        return Objective(tuple((factor * weight, term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __sub__(self, other: Objective) -> Objective:
        return self + -other

    def __str__(self) -> str:
        named = (str(term) if weight == 1 else f"{weight:g} * {term}" for weight, term in self.terms)
        return " + ".join(named)


def channel(address: str, unit: int) -> Objective:
    """The mean over positions of a channel's signed activation.

    Source: Erhan, Bengio, Courville and Vincent 2009, "Visualizing Higher-Layer Features of a Deep
    Network" (activation maximization), with the channel mean of Olah et al., Distill 2017.
    """
    return Objective(((1.0, Term("channel", address, unit)),))


def excitation(address: str, unit: int) -> Objective:
    """The mean over positions of a channel's activation, of which inhibition counts half.

    ``mean(max(a, 0) + min(a, 0) / 2)``. The plain mean of a convolution's signed output cannot draw a
    filter for edges: over the positions of any edge its answers cancel, and what is left to maximize is
    the colour of the whole picture. Halving the inhibition, which a ReLU would drop, breaks the tie and,
    unlike dropping it, blocks no gradient.
    """
    return Objective(((1.0, Term("excitation", address, unit)),))


def neuron(address: str, unit: int, position: tuple[int, int] | None = None) -> Objective:
    """The signed activation of a channel at one position (y, x), the centre by default."""
    return Objective(((1.0, Term("neuron", address, unit, position)),))


def direction(address: str, vector: Iterable[float]) -> Objective:
    """The mean over positions of the activation along a direction of a layer's space.

    The dot product with `vector` (C), scaled to length 1.
    """
    values = torch.tensor([float(value) for value in vector], dtype=torch.float64, device="cpu")
    if not (values.isfinite().all() and values.norm() > 0):
        raise RenderError("A direction must have finite entries, not all zero.")
    return Objective(((1.0, Term("direction", address, vector=tuple((values / values.norm()).tolist()))),))


def score() -> Objective:
    """The network's own single output: the most memorable picture, and with `-score()` the least."""
    return Objective(((1.0, Term("score", OUTPUT)),))


@dataclass(frozen=True)
class Lucent:
    """An objective of `lucent.optvis.objectives`, which is a loss to minimize.

    Attributes:
        objective: the objective, or anything that maps a function from layer name to activation
            (N, C, H, W) to a loss. Names are addresses, with or without lucent's underscores.
        images: pictures that it speaks about together, as `diversity` does.
    """

    objective: LucentObjective
    images: int = 1

    def __str__(self) -> str:
        return str(getattr(self.objective, "description", "") or "lucent")


def lucent_names(module: nn.Module) -> dict[str, str]:
    """Lucent's name of each layer (`alexnet_conv4`) and its address."""
    return {name.replace(".", "_"): name for name, _ in module.named_modules() if name}


def resolve_lucent(name: str, names: Mapping[str, str]) -> str:
    """The address behind a lucent layer name; "labels" is the network's output."""
    if name == "labels":
        return OUTPUT
    if name in names.values():
        return name
    if name not in names:
        raise LayerError(f"There is no layer {name!r}. {did_you_mean(name, names)}")
    return names[name]


class ObjectiveBatch:
    """Evaluates one objective for each picture of a batch, all of a kind at once.

    Args:
        objectives: objectives of one picture each, or `Lucent` ones of several.
        names: lucent's layer names, from `lucent_names`.
        device: of the activations.
    """

    def __init__(
        self, objectives: Sequence[Objective | Lucent], names: Mapping[str, str], device: torch.device
    ) -> None:
        self.count = sum(objective.images for objective in objectives)
        self._names = names
        self._lucent: list[tuple[slice, Lucent]] = []
        grouped: dict[tuple[Kind, str], list[tuple[int, float, Term]]] = defaultdict(list)
        row = 0
        for objective in objectives:
            if isinstance(objective, Lucent):
                self._lucent.append((slice(row, row + objective.images), objective))
                row += objective.images
            else:
                for weight, term in objective.terms:
                    grouped[term.kind, term.address].append((row, weight, term))
                row += 1
        self._groups = [_Group(kind, address, items, device) for (kind, address), items in grouped.items()]

    def __call__(self, activations: Activations, pictures: Tensor) -> Tensor:
        """Values (N,) to maximize; of several pictures with one objective, each has its share."""
        values = pictures.new_zeros(self.count, dtype=torch.float32)
        for group in self._groups:
            found = _KINDS[group.kind](activations[group.address].float(), group)
            values = values.index_add(0, group.rows, group.weights * found)
        for rows, objective in self._lucent:

            def look(name: str, rows: slice = rows) -> Tensor:
                if name == "input":
                    return pictures[rows]
                return activations[resolve_lucent(name, self._names)][rows]

            loss = objective.objective(look)
            if not isinstance(loss, Tensor):
                raise RenderError(
                    f"{objective} gave {loss!r} instead of a tensor. If it speaks about several pictures together, "
                    "say how many: memviz.objectives.Lucent(objective, images=4)."
                )
            gain = -loss / (rows.stop - rows.start)
            values = values.index_add(
                0, torch.arange(rows.start, rows.stop, device=values.device), gain.expand(rows.stop - rows.start)
            )
        return values


class _Group:
    """The terms of one kind at one layer, as tensors."""

    def __init__(
        self, kind: Kind, address: str, items: Sequence[tuple[int, float, Term]], device: torch.device
    ) -> None:
        self.kind, self.address = kind, address
        self.rows = torch.tensor([row for row, _, _ in items], device=device)
        self.weights = torch.tensor([weight for _, weight, _ in items], dtype=torch.float32, device=device)
        self.units = torch.tensor([term.unit for _, _, term in items], device=device)
        self.positions = [term.position for _, _, term in items]
        self.vectors = torch.tensor([term.vector for _, _, term in items], dtype=torch.float32, device=device)


def _channel(maps: Tensor, group: _Group) -> Tensor:
    found = maps[group.rows, group.units]
    return found.flatten(1).mean(dim=1) if maps.dim() == 4 else found


def _neuron(maps: Tensor, group: _Group) -> Tensor:
    if maps.dim() == 2:
        return maps[group.rows, group.units]
    centre = (maps.shape[2] // 2, maps.shape[3] // 2)
    positions = [position or centre for position in group.positions]
    for y, x in positions:
        if not (0 <= y < maps.shape[2] and 0 <= x < maps.shape[3]):
            raise LayerError(
                f"{group.address} has positions (0, 0) to ({maps.shape[2] - 1}, {maps.shape[3] - 1}) on pictures of "
                f"this size; given was ({y}, {x})."
            )
    places = torch.tensor(positions, device=maps.device)
    return maps[group.rows, group.units, places[:, 0], places[:, 1]]


def _direction(maps: Tensor, group: _Group) -> Tensor:
    return (
        (maps[group.rows].flatten(2) if maps.dim() == 4 else maps[group.rows, :, None])
        .mean(dim=2)
        .mul(group.vectors)
        .sum(dim=1)
    )


def _score(out: Tensor, group: _Group) -> Tensor:
    if out[0].numel() != 1:
        raise RenderError(
            f"The network gives {out[0].numel()} numbers a picture, so it has no score to maximize. "
            "Choose one of its layers and a unit."
        )
    return out.flatten()[group.rows]


def _excitation(maps: Tensor, group: _Group) -> Tensor:
    found = maps[group.rows, group.units]
    found = torch.where(found > 0, found, INHIBITION * found)
    return found.flatten(1).mean(dim=1) if maps.dim() == 4 else found


_KINDS: dict[Kind, Callable[[Tensor, _Group], Tensor]] = {
    "excitation": _excitation,
    "channel": _channel,
    "neuron": _neuron,
    "direction": _direction,
    "score": _score,
}


def checked(objective: Objective, layers: LayerTable) -> Objective:
    """The objective with ordinals resolved to addresses, and its units found valid.

    Raises:
        LayerError: a layer or unit that the network does not have, or a direction of the wrong length.
    """
    terms = []
    for weight, term in objective.terms:
        if term.kind == "score":
            terms.append((weight, term))
            continue
        layer = layers[term.address]
        if term.kind == "direction" and len(term.vector) != layer.channels:
            raise LayerError(f"{layer.address} has {layer.channels} channels; the direction has {len(term.vector)}.")
        if not 0 <= term.unit < layer.channels:
            raise LayerError(f"{layer.address} has units 0 to {layer.channels - 1}; given was {term.unit}.")
        terms.append((weight, Term(term.kind, layer.address, term.unit, term.position, term.vector)))
    return Objective(tuple(terms))


def as_objective(given: Any) -> Objective | Lucent:
    """An objective from one of ours or any of lucent's (whatever is callable)."""
    if isinstance(given, (Objective, Lucent)):
        return given
    if callable(given):
        return Lucent(given)
    raise RenderError(
        f"{given!r} is no objective. Give one of memviz.objectives (channel, neuron, direction, score), "
        "or one of lucent.optvis.objectives."
    )
