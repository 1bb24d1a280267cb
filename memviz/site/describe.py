"""What the pages of a layer's units say, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from memviz.explanation.ablation import AblatedUnit, Ablation
from memviz.explanation.labels import Label
from memviz.gallery.describe import unit_card
from memviz.gallery.page import Card, Photo
from memviz.gallery.pictures import Picture
from memviz.index import Index, IndexedLayer
from memviz.index.crops import seen_box
from memviz.layers.unit import Unit
from memviz.site.photographs import COUNT, photograph_file


@dataclass(frozen=True)
class Shown:
    """A photograph on a unit's page.

    Attributes:
        photo: its name, the unit's activation and the model's score; without photographs the name is empty.
        whole: the small copy of the whole one, below the site's folder.
        field: what the unit saw of it, as x, y, width and height in percent.
        shape: width over height.
    """

    photo: Photo
    whole: str
    field: tuple[float, float, float, float]
    shape: float


@dataclass(frozen=True)
class Scale:
    """A unit's activations over the photographs, as places on a line, in percent.

    Attributes:
        mean, low, high: the mean, and one standard deviation below and above it.
        ticks: the photographs that are kept at both ends.
        picture: the picture's; None where there is none.
        zero: where zero is; None where it is not on the line.
        ends: the activations at the line's ends.
    """

    mean: float
    low: float
    high: float
    ticks: tuple[float, ...]
    picture: float | None
    zero: float | None
    ends: tuple[float, float]


@dataclass(frozen=True)
class UnitFacts:
    """One unit: everything that its page says.

    Attributes:
        card: picture, best photograph and how they compare, as a gallery shows them.
        mean, std: of its activation over the photographs.
        highest, lowest: the photographs at both ends.
        pictures: how the first and the other pictures of it were made, with what they reach.
        drivers: what a survey says of its contribution; None where there is none.
        ablated: what came of replacing it; None where that was not done.
        label: what it answers to; None where nobody knows.
        neighbours: the channels that are excited by the same photographs.
        name: of the class, where the layer's outputs have names.
    """

    card: Card
    mean: float
    std: float
    highest: tuple[Shown, ...]
    lowest: tuple[Shown, ...]
    pictures: tuple[dict[str, Any], ...]
    drivers: dict[str, float] | None
    ablated: AblatedUnit | None
    label: Label | None
    neighbours: tuple[int, ...]
    name: str

    @cached_property
    def scale(self) -> Scale | None:
        """None where the unit does not vary."""
        values = [each.photo.value for each in (*self.lowest, *self.highest)]
        reached = self.card.peak if self.card.picture else None
        every = [*values, self.mean - self.std, self.mean + self.std, *([reached] if reached is not None else [])]
        least, most = min(every), max(every)
        if most <= least or self.std == 0:
            return None

        def place(value: float) -> float:
            return round(100 * (value - least) / (most - least), 2)

        return Scale(
            place(self.mean),
            place(self.mean - self.std),
            place(self.mean + self.std),
            tuple(place(value) for value in values),
            None if reached is None else place(reached),
            place(0.0) if least < 0 < most else None,
            (least, most),
        )

    def to_json(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What stands beside the page as JSON."""
        kept = {"highest": self.highest, "lowest": self.lowest}
        return {
            **facts,
            "unit": self.card.name,
            "name": self.name or None,
            "mean": self.mean,
            "std": self.std,
            "pictures": list(self.pictures),
            "ratio": self.card.ratio,
            "verdict": self.card.verdict if self.pictures else None,
            **{
                side: [
                    {"name": each.photo.name or None, "value": each.photo.value, "prediction": each.photo.prediction}
                    for each in shown
                ]
                for side, shown in kept.items()
            },
            "drivers": self.drivers,
            "ablation": None if self.ablated is None else asdict(self.ablated),
            "label": None if self.label is None else asdict(self.label) | {"unit": str(self.label.unit)},
            "neighbours": list(self.neighbours),
        }


PhotographRow = tuple[str, int, int, float]
"""A photograph's name, width and height, and the model's score; nan where there is none."""


def photograph_rows(index: Index) -> list[PhotographRow]:
    """What the pages of all layers say of an index's photographs, by their numbers."""
    names = [str(path).rsplit("/", 1)[-1] for path in index.images["path"]]
    return list(zip(names, *(index.images[name].tolist() for name in ("width", "height", "prediction")), strict=True))


@dataclass(frozen=True)
class Sources:
    """What there is of one layer.

    Attributes:
        layer: of the index.
        pictures: of each folder of renders, the pictures by channel.
        drivers: the layer's rows of a survey, by channel; empty where there is none.
        ablation: of the layer, where there is one.
        labels: by unit.
        rows: of `photograph_rows`.
        photographs: whether photographs and their names may be shown.
    """

    layer: IndexedLayer
    pictures: tuple[dict[int, Picture], ...]
    drivers: dict[int, dict[str, Any]]
    ablation: Ablation | None
    labels: Mapping[Unit, Label]
    rows: list[PhotographRow]
    photographs: bool

    @cached_property
    def _ablated(self) -> dict[int, AblatedUnit]:
        return {} if self.ablation is None else {each.channel: each for each in self.ablation.units}

    def unit(self, channel: int, neighbours: list[int], files: tuple[str, ...]) -> UnitFacts:
        """What the page of a unit says.

        Args:
            channel: which.
            neighbours: as `memviz.site.neighbours` finds them.
            files: of each folder's picture, its name beside the page; empty where there is none.
        """
        layer = self.layer.layer
        unit = Unit(layer.address, channel)
        highest, lowest = (self._shown(channel, side) for side in (0, 1))
        made = [(each[channel], file) for each, file in zip(self.pictures, files, strict=True) if channel in each]
        first = next((picture for picture, _ in made if not picture.lowest), None)
        record = None if first is None else first.record
        label, drivers = self.labels.get(unit), self.drivers.get(channel)
        if label is not None and not self.photographs:
            label = replace(label, evidence=())
        file = next((file for picture, file in made if picture is first and file), None)
        card = unit_card(unit, self.layer, record, file, (each.photo for each in highest), drivers, label)
        pictures = tuple(
            {
                "file": file or None,
                "made": picture.made,
                "lowest": picture.lowest,
                "state": picture.record.state,
                "peak": picture.record.peak,
                "mean": picture.record.mean,
            }
            for picture, file in made
        )
        return UnitFacts(
            card,
            float(self.layer.mean[channel]),
            float(self.layer.std[channel]),
            highest,
            lowest,
            pictures,
            None if drivers is None else {name: value for name, value in drivers.items() if name != "name"},
            self._ablated.get(channel),
            label,
            tuple(neighbours),
            "" if drivers is None else str(drivers["name"]),
        )

    def _shown(self, channel: int, side: int) -> tuple[Shown, ...]:
        layer = self.layer
        found = []
        for rank in range(min(COUNT, layer.images.shape[2])):
            where = channel, side, rank
            image = int(layer.images[where])
            name, width, height, prediction = self.rows[image]
            known = None if math.isnan(prediction) else prediction
            photo = Photo("", name if self.photographs else "", float(layer.values[where]), known, None)
            box = self._field(where, (width, height))
            found.append(Shown(photo, photograph_file(image), box, width / height))
        return tuple(found)

    def _field(self, where: tuple[int, int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
        layer, inputs = self.layer, self.layer.index.inputs
        seen = seen_box(layer.layer, int(layer.y[where]), int(layer.x[where]), inputs.size)
        left, top, right, bottom = inputs.photo_box(seen, size)
        left, right = (min(max(edge / size[0], 0.0), 1.0) for edge in (left, right))
        top, bottom = (min(max(edge / size[1], 0.0), 1.0) for edge in (top, bottom))
        x, y, width, height = (round(100 * part, 1) for part in (left, top, right - left, bottom - top))
        return x, y, width, height
