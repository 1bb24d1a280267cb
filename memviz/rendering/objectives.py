"""The objectives that there are, one class each::

    Channel("alexnet.conv4", 3) + 0.5 * Channel("resnet.layer2.3", 7)
    -Score()

Objectives of `lucent.optvis.objectives` run as they are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from memviz.errors import LayerError, RenderError
from memviz.layers import LayerTable
from memviz.rendering.lucent import Lucent
from memviz.rendering.objective import OUTPUT, Batch, Objective, Sum, Term, UnitObjective

__all__ = [
    "Batch",
    "Channel",
    "Direction",
    "Excitation",
    "Inhibition",
    "Lucent",
    "Neuron",
    "Objective",
    "Score",
    "Sum",
    "Term",
    "UnitObjective",
    "as_objective",
]

# How much of what lies below zero counts. With 0.5 the pictures of ResMem's convolutions reach nearly the means that
# they reach with 1, and higher peaks. This and the next three were measured in experiments/objectives.
INHIBITION = 0.5
# How much the largest activations count in the last steps, beside the mean.
PEAKS = 0.5
# The side of a cell that has one peak, in receptive fields: two, so that neighbouring peaks need not share pixels.
CELL_FIELDS = 2
# Of fields as large as the picture, no fewer cells than this in each axis: what excites a unit most is smaller than its
# field (Luo, Li, Urtasun and Zemel 2016, "Understanding the Effective Receptive Field").
LEAST_CELLS = 5


def excitation(activations: Tensor) -> Tensor:
    """Activations, of which those below zero count `INHIBITION`."""
    return torch.where(activations > 0, activations, INHIBITION * activations)


class Excitation(UnitObjective):
    """The mean of a unit's activation over the positions of the interior, of which inhibition counts half; at the end
    with its local peaks.

    First ``mean(max(a, 0) + min(a, 0) / 2)``. The plain mean of a convolution's signed output cannot draw a filter for
    edges: over the positions of any edge its answers cancel, and what is left to maximize is the colour of the whole
    picture. Halving the inhibition, which a ReLU would drop, breaks the tie and, unlike dropping it, blocks no
    gradient.

    In the last steps, half of that and half of the same mean over the local peaks: the largest activation of each cell
    of two receptive fields' side. What a unit wants cannot be everywhere at once, since the fields of neighbouring
    positions overlap; so the mean alone asks for a compromise, of a filter's colour and not of its pattern.
    """

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        return excitation(batch.interior).mean(dim=(1, 2))

    @classmethod
    def refine(cls, batch: Batch) -> Tensor:
        """See `Term.refine`."""
        maps = batch.interior
        sides = [
            min(whole, max(1, math.ceil(min(CELL_FIELDS * field, length // LEAST_CELLS))))
            for field, length, whole in zip(batch.field, batch.lengths, maps.shape[1:], strict=True)
        ]
        peaks = F.max_pool2d(maps[:, None], sides).flatten(1)
        return PEAKS * excitation(peaks).mean(dim=1) + (1 - PEAKS) * excitation(maps).mean(dim=(1, 2))


class Channel(UnitObjective):
    """The mean over positions of a unit's signed activation.

    Source: Erhan, Bengio, Courville and Vincent 2009, "Visualizing Higher-Layer Features of a Deep
    Network" (activation maximization), with the channel mean of Olah et al., Distill 2017.
    """

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        return batch.maps.mean(dim=(1, 2))


class Inhibition(UnitObjective):
    """Minus the mean over positions of a unit's signed activation: what it wants least."""

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        return -batch.maps.mean(dim=(1, 2))


@dataclass(frozen=True)
class Neuron(UnitObjective):
    """The signed activation of a unit at one position (y, x) of its map, the centre by default."""

    position: tuple[int, int] | None = None
    anywhere: ClassVar[bool] = False

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        maps = batch.maps
        height, width = maps.shape[1:]
        positions = [term.position or (height // 2, width // 2) for term in batch.terms]
        for term, (y, x) in zip(batch.terms, positions, strict=True):
            if not (0 <= y < height and 0 <= x < width):
                raise LayerError(
                    f"{term.address} has positions (0, 0) to ({height - 1}, {width - 1}) on pictures of this size; "
                    f"given was ({y}, {x})."
                )
        places = torch.tensor(positions, device=maps.device)
        return maps[torch.arange(len(maps), device=maps.device), places[:, 0], places[:, 1]]


@dataclass(frozen=True)
class Direction(Term):
    """The mean over positions of the activation along a direction of a layer's space.

    The dot product with `vector` (C), which is scaled to length 1.

    Raises:
        RenderError: a vector with entries that are not finite, or all zero.
    """

    address: str
    vector: Iterable[float]

    def __post_init__(self) -> None:
        values = torch.tensor([float(value) for value in self.vector], dtype=torch.float64, device="cpu")
        if not (values.isfinite().all() and values.norm() > 0):
            raise RenderError("A direction must have finite entries, not all zero.")
        object.__setattr__(self, "vector", tuple((values / values.norm()).tolist()))

    def __str__(self) -> str:
        digest = hashlib.blake2b(repr(self.vector).encode(), digest_size=4).hexdigest()
        return f"direction({self.address}, {digest})"

    def validate(self, layers: LayerTable) -> Self:
        """See `Objective.validate`."""
        layer, length = layers[self.address], len(tuple(self.vector))
        if length != layer.channels:
            raise LayerError(f"{layer.address} has {layer.channels} channels; the direction has {length}.")
        return replace(self, address=layer.address)

    def report(self) -> None:
        """It is about no unit."""

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        return (batch.layer.mean(dim=(2, 3)) * batch.constant("vector")).sum(dim=1)


@dataclass(frozen=True)
class Score(Term):
    """The network's own single output: the most memorable picture, and with `-Score()` the least."""

    address: str = field(default=OUTPUT, init=False)
    anywhere: ClassVar[bool] = False

    def __str__(self) -> str:
        return "score"

    def validate(self, layers: LayerTable) -> Self:
        """Every network has an output."""
        return self

    def report(self) -> None:
        """It is about no unit."""

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """See `Term.evaluate`."""
        out = batch.activations
        if out[0].numel() != 1:
            raise RenderError(
                f"The network gives {out[0].numel()} numbers a picture, so it has no score to maximize. "
                "Choose one of its layers and a unit."
            )
        return out.flatten()[batch.rows]


def as_objective(given: Any) -> Objective | Lucent:
    """An objective from one of ours or any of lucent's (whatever is callable).

    Raises:
        RenderError: something else.
    """
    if isinstance(given, (Objective, Lucent)):
        return given
    if callable(given) and not isinstance(given, type):
        return Lucent(given)
    raise RenderError(
        f"{given!r} is no objective. Give one of memviz.objectives, as Channel(address, unit) or Score(), "
        "or one of lucent.optvis.objectives."
    )
