"""What an objective is: how one is checked, evaluated for a batch, reported, and found by its name.

To add one for units, write its class, in one place; every command, recipe and function then takes its name::

    class Largest(UnitObjective):
        "The largest activation over positions."

        @staticmethod
        def evaluate(batch):
            return batch.maps.flatten(1).amax(dim=1)


    memviz.render(model, "alexnet.conv4", units=[5], objective="largest")
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from memviz.errors import RenderError, did_you_mean
from memviz.layers import Layer, LayerTable
from memviz.layers.unit import Unit, units_of

OUTPUT = ""
"""The address of the network's own output: torch's dotted name of the whole."""

UNIT_OBJECTIVES: dict[str, type[UnitObjective]] = {}
"""The objectives for the units of a layer, by name; each class adds itself by being written."""


class Objective:
    """What one picture is optimized for, to maximize. Objectives add up and multiply with numbers."""

    images: ClassVar[int] = 1

    @property
    def terms(self) -> tuple[tuple[float, Term], ...]:
        """Weights and terms, whose sum it is."""
        raise NotImplementedError

    def validate(self, layers: LayerTable) -> Self:
        """The objective with ordinals resolved to addresses, and its units found valid.

        Raises:
            LayerError: a layer or unit that the network does not have, or a direction of the wrong length.
        """
        raise NotImplementedError

    def report(self) -> Unit | None:
        """The unit whose mean and peak a record states beside the objective's value; None where it is not about one."""
        raise NotImplementedError

    def __add__(self, other: Objective) -> Objective:
        return Sum(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: Any) -> Objective:
        return self if other == 0 else NotImplemented  # where sum() starts

    def __mul__(self, factor: float) -> Objective:
        return Sum(tuple((factor * weight, term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


class Term(Objective):
    """One quantity, at the layer `address`. Its name is that of its class, in small letters."""

    address: str
    anywhere: ClassVar[bool] = True
    """Whether it asks for no place: what it wants may lie anywhere in the picture, which is then seen shifted and
    repeated."""

    @property
    def terms(self) -> tuple[tuple[float, Term], ...]:
        """Itself, once."""
        return ((1.0, self),)

    @staticmethod
    def evaluate(batch: Batch) -> Tensor:
        """The values (N,) of N pictures, which all have objectives of this class at one layer."""
        raise NotImplementedError

    @classmethod
    def refine(cls, batch: Batch) -> Tensor:
        """What to maximize in the last steps, in which pictures are seen as they will be measured, in place of
        `evaluate`."""
        return cls.evaluate(batch)


@dataclass(frozen=True)
class UnitObjective(Term):
    """A quantity of one unit; a subclass can be given by its name wherever units of a layer are rendered."""

    address: str
    unit: int

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name = cls.__name__.lower()
        known = UNIT_OBJECTIVES.setdefault(name, cls)
        # A notebook's cell may run again.
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise RenderError(f"There is an objective {name!r} in {known.__module__} already. Choose another name.")
        UNIT_OBJECTIVES[name] = cls

    def __str__(self) -> str:
        # The name seeds the picture, so whatever tells two objectives apart must be in it.
        own = ((field.name, getattr(self, field.name)) for field in fields(self)[2:])
        more = "".join(f", {name}={value!r}" for name, value in own if value is not None)
        return f"{type(self).__name__.lower()}({self.address}:{self.unit}{more})"

    def validate(self, layers: LayerTable) -> Self:
        """See `Objective.validate`."""
        (unit,) = units_of(layers[self.address], self.unit)
        return replace(self, address=unit.address)

    def report(self) -> Unit:
        """Its unit."""
        return Unit(self.address, self.unit)


@dataclass(frozen=True)
class Sum(Objective):
    """A weighted sum of terms."""

    weighted: tuple[tuple[float, Term], ...]

    @property
    def terms(self) -> tuple[tuple[float, Term], ...]:
        """Weights and terms."""
        return self.weighted

    def __str__(self) -> str:
        return " + ".join(str(term) if weight == 1 else f"{weight:g} * {term}" for weight, term in self.weighted)

    def validate(self, layers: LayerTable) -> Self:
        """See `Objective.validate`."""
        return replace(self, weighted=tuple((weight, term.validate(layers)) for weight, term in self.weighted))

    def report(self) -> Unit | None:
        """The unit that all its terms are about, if there is one."""
        units = {term.report() for _, term in self.weighted}
        return units.pop() if len(units) == 1 else None


def unit_objective(name: object) -> type[UnitObjective]:
    """The class of a unit objective by its name.

    Raises:
        RenderError: no name of one.
    """
    if not isinstance(name, str) or name not in UNIT_OBJECTIVES:
        raise RenderError(
            f"objective={name!r}: of the units of a layer, give one of {', '.join(UNIT_OBJECTIVES)}. "
            + (did_you_mean(name, UNIT_OBJECTIVES) if isinstance(name, str) else "")
        )
    return UNIT_OBJECTIVES[name]


@dataclass(frozen=True)
class Batch:
    """What `Term.evaluate` gets: terms of one class at one layer, one a picture, and the layer's activations.

    Attributes:
        terms: N of them; their other fields, as a neuron's position, are read from here or through `constant`.
        activations: of all pictures that are drawn together, (M, C, H, W) or (M, C) float32.
        rows: (N,), the places of the terms' pictures among these.
        constants: what `constant` has made before.
        table_row: what the model's table says of the layer; None for the network's output.
        size: (height, width) of the pictures as the network saw them.
        endless: whether it saw them as if repeated without end (`memviz.layers.torus`); `size` is then that of the
            network's input, at which they will be measured.
    """

    terms: tuple[Any, ...]
    activations: Tensor
    rows: Tensor
    constants: dict[str, Tensor]
    table_row: Layer | None
    size: tuple[int, int]
    endless: bool = False

    @property
    def maps(self) -> Tensor:
        """Each picture's own unit's activations (N, H, W); H and W are 1 where the layer gives a vector."""
        maps = self.activations[self.rows, self.constant("unit")]
        return maps if maps.dim() == 3 else maps[:, None, None]

    @property
    def interior(self) -> Tensor:
        """`maps` at the positions whose receptive field lies inside the picture; all where there is none."""
        maps = self.maps
        if self.table_row is None or self.endless:
            return maps
        rows, columns = self.table_row.interior(self.size, (maps.shape[1], maps.shape[2]))
        return maps[:, rows, columns]

    @property
    def lengths(self) -> tuple[int, int]:
        """How many positions in each axis `interior` has, or will have where the pictures are measured."""
        if self.endless and self.table_row is not None:
            rows, columns = self.table_row.interior(self.size)
            return rows.stop - rows.start, columns.stop - columns.start
        return self.interior.shape[1], self.interior.shape[2]

    @property
    def field(self) -> tuple[float, float]:
        """A receptive field's sides in positions; endless where every unit sees the whole picture."""
        row = self.table_row
        if row is None or row.receptive_field is None or row.stride is None:
            return math.inf, math.inf
        return row.receptive_field[0] / row.stride[0], row.receptive_field[1] / row.stride[1]

    @property
    def layer(self) -> Tensor:
        """Each picture's activations of the whole layer (N, C, H, W); H and W are 1 where it gives a vector."""
        layer = self.activations[self.rows]
        return layer if layer.dim() == 4 else layer[:, :, None, None]

    def constant(self, name: str) -> Tensor:
        """A field of the terms, as a tensor (N, ...) beside the activations."""
        if name not in self.constants:
            values = torch.tensor([getattr(term, name) for term in self.terms], device=self.activations.device)
            self.constants[name] = values.float() if values.is_floating_point() else values
        return self.constants[name]


class Evaluation:
    """The terms of several pictures, sorted into batches.

    Args:
        objectives: row of the picture and its objective.
        layers: of the model.
        device: of the activations.
    """

    def __init__(self, objectives: Sequence[tuple[int, Objective]], layers: LayerTable, device: torch.device) -> None:
        self._layers = layers
        grouped: dict[tuple[type[Term], str], list[tuple[int, float, Term]]] = defaultdict(list)
        for row, objective in objectives:
            for weight, term in objective.terms:
                grouped[type(term), term.address].append((row, weight, term))
        self._groups: list[tuple[str, tuple[Term, ...], Tensor, Tensor, dict[str, Tensor]]] = []
        for (_, address), items in grouped.items():
            rows = torch.tensor([row for row, _, _ in items], device=device)
            weights = torch.tensor([weight for _, weight, _ in items], dtype=torch.float32, device=device)
            self._groups.append((address, tuple(term for _, _, term in items), rows, weights, {}))

    def add(
        self,
        values: Tensor,
        activations: Mapping[str, Tensor],
        size: tuple[int, int],
        refining: bool,
        endless: bool,
    ) -> Tensor:
        """The values (M,) with those of the objectives added; the rest as `Batch` has it."""
        for address, terms, rows, weights, constants in self._groups:
            table_row = None if address == OUTPUT else self._layers[address]
            batch = Batch(terms, activations[address].float(), rows, constants, table_row, size, endless)
            term = type(terms[0])
            values = values.index_add(0, rows, weights * (term.refine(batch) if refining else term.evaluate(batch)))
        return values
