"""What is saved of a network's units, put together for widgets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageOps

from memviz.errors import StoreError
from memviz.explanation.labels import Label, load_labels
from memviz.gallery.describe import PHOTOS, field_share, ring, unit_card
from memviz.gallery.page import Card, Photo, field_words, number, signed
from memviz.gallery.pictures import Picture, Renders
from memviz.gallery.plan import Network
from memviz.gallery.recipe import Source
from memviz.index import Index, load_index
from memviz.index.crops import crop, seen_box
from memviz.layers import Layer
from memviz.layers.unit import Unit, units_of
from memviz.notebook.embed import data_uri
from memviz.progress import Advance

PICTURE, CROP = 256, 120  # px, the longer sides of a unit's picture and of what it saw of a photograph


@dataclass(frozen=True)
class LayerFacts:
    """What is saved of a layer.

    Attributes:
        layer, field: the layer, and what it sees in words.
        finding: what a checkup found of its part of the network.
        pictures: of its units, by channel.
        drivers: rows of a survey, by channel; empty where there is none.
        labels: of its units, by channel.
    """

    layer: Layer
    field: str
    finding: str
    pictures: dict[int, Picture]
    drivers: dict[int, dict[str, Any]]
    labels: dict[int, Label]


@dataclass(frozen=True)
class UnitFacts:
    """A unit as a widget shows it.

    Attributes:
        layer: that it is in.
        card: picture, best photographs and how they compare, as a gallery shows them; the files' names are data URIs,
            and empty where a photograph cannot be read any more.
        name: of the class, where the layer's outputs have names.
        mean, std: of its activation over the photographs.
        picture: its render; None where nobody tried to draw it.
        model, target, photographs: of the index.
    """

    layer: LayerFacts
    card: Card
    name: str
    mean: float
    std: float
    picture: Picture | None
    model: str
    target: str | None
    photographs: int

    @property
    def gone(self) -> int:
        """How many of its photographs cannot be read any more."""
        return sum(not photo.picture for photo in self.card.photos)

    @property
    def selectivity(self) -> float | None:
        """How many standard deviations its best photograph lies above its mean; None where it does not vary."""
        return (self.card.best - self.mean) / self.std if self.std > 0 else None

    @property
    def sentence(self) -> str:
        """The unit in words, where no picture can be shown."""
        named = self.card.label or self.name
        told = f"{self.card.name}{f' ({named})' if named else ''}: {self.card.verdict if self.picture else 'not drawn'}"
        return f"{told}; best photograph {number(self.card.best)}, mean {number(self.mean)}"


class Saved:
    """An index with what is kept beside it, and renders of its units.

    Args:
        index: or its folder.
        renders: folder of `memviz render`, with a folder a layer in it.

    Attributes:
        index: the index.
        model: the name of its network.

    Raises:
        StoreError: no index, or nothing rendered there.
    """

    def __init__(self, index: Index | str | os.PathLike[str], renders: str | os.PathLike[str] | None = None) -> None:
        self.index = index if isinstance(index, Index) else load_index(index)
        self._renders = None if renders is None else Renders(Path(renders))
        self.model = str(self.index.manifest.model)
        self._layers: dict[str, LayerFacts] = {}

    def layer(self, address: str) -> LayerFacts:
        """What is saved of a layer, given by address or ordinal.

        Raises:
            LayerError: a layer that the index does not watch.
            StoreError: renders of other weights than the index's, or damaged ones.
        """
        layer = self.index.layers[address]
        if layer.address not in self._layers:
            self._layers[layer.address] = self._read(layer)
        return self._layers[layer.address]

    def _read(self, layer: Layer) -> LayerFacts:
        # Nothing of other layers is kept: labels and drivers of a whole ResMem take 200 MB, in each widget.
        network, address = Network(Source(self.model), self.model, self.index), layer.address
        drawn = {} if self._renders is None else self._renders.of(address, self.index)
        return LayerFacts(
            layer,
            field_words(layer.receptive_field, field_share(layer, self.index)),
            network.finding(address),
            {channel: picture for channel, picture in drawn.items() if not picture.lowest},
            network.driven(address),
            {
                unit.channel: label
                for unit, label in load_labels(self.index, [address]).items()
                if unit.address == address  # a person's are in one file for all layers
            },
        )

    def units(self, given: str | Unit | Iterable[str | Unit]) -> list[Unit]:
        """The units of a layer, or those given, each once.

        Raises:
            LayerError: a layer that the index does not watch, or a unit that it does not have.
        """
        if isinstance(given, str) and ":" not in given:
            return units_of(self.index.layers[given])
        each = [given] if isinstance(given, str | Unit) else given
        return list(dict.fromkeys(Unit.parse(str(unit), self.index.layers) for unit in each))

    def text(self, unit: Unit) -> str:
        """What is known of a unit, in a phrase: its label, or its class's name, and its drive."""
        facts = self.layer(unit.address)
        row, label = facts.drivers.get(unit.channel), facts.labels.get(unit.channel)
        named = (label.text if label else "") or (str(row["name"]) if row else "")
        return ", ".join(filter(None, (named, f"drive {signed(row['drive'])}" if row else "")))

    def unit(self, unit: Unit) -> UnitFacts:
        """A unit with its pictures.

        Raises:
            StoreError: a damaged render.
        """
        facts, indexed = self.layer(unit.address), self.index.layer(unit.address)
        picture, row = facts.pictures.get(unit.channel), facts.drivers.get(unit.channel)
        drawn = None if picture is None else picture.read()
        label = facts.labels.get(unit.channel)
        record = None if picture is None else picture.record
        photos = self._photos(facts.layer, indexed.top(unit.channel, PHOTOS))
        uri = None if drawn is None else data_uri(drawn, PICTURE)
        card = unit_card(unit, indexed, record, uri, photos, row, label)
        return UnitFacts(
            facts, card, str(row["name"]) if row else "", float(indexed.mean[unit.channel]),
            float(indexed.std[unit.channel]), picture, self.model, self.index.config.target,
            self.index.result.photographs,
        )  # fmt: skip

    def _photos(self, layer: Layer, top: pd.DataFrame) -> Iterator[Photo]:
        for row in top.itertuples():
            y, x = int(row.y), int(row.x)
            seen = self._seen(int(row.image), layer, [(y, x)], CROP)[0]
            yield Photo(
                "" if seen is None else data_uri(seen, CROP),
                str(row.path).rsplit("/", 1)[-1],
                float(row.value),
                None if pd.isna(row.prediction) else float(row.prediction),
                ring(layer, y, x, self.index),
            )

    def faces(self, address: str, channels: Sequence[int], side: int, advance: Advance) -> dict[int, Image.Image]:
        """Small square pictures of units: the render of each, or what it saw of its best photograph.

        Of a unit that is dead, or whose photograph cannot be read any more, there is none.

        Raises:
            StoreError: a damaged render.
        """
        facts, indexed = self.layer(address), self.index.layer(address)
        found: dict[int, Image.Image] = {}
        saw: dict[int, list[int]] = {}
        for channel in channels:
            drawn = facts.pictures[channel].read() if channel in facts.pictures else None
            if drawn is not None:
                found[channel] = drawn.resize((side, side), Image.Resampling.LANCZOS)
                advance()
            elif indexed.std[channel] > 0:
                saw.setdefault(int(indexed.images[channel, 0, 0]), []).append(channel)
            else:
                advance()
        # Each photograph is opened once: of the 2,048 units of a layer many have the same best one.
        for image, excited in saw.items():
            places = [(int(indexed.y[each, 0, 0]), int(indexed.x[each, 0, 0])) for each in excited]
            for channel, seen in zip(excited, self._seen(image, facts.layer, places, side), strict=True):
                if seen is not None:
                    found[channel] = ImageOps.pad(seen, (side, side), color="white")
            advance(len(excited))
        return found

    def _seen(self, image: int, layer: Layer, places: Sequence[tuple[int, int]], side: int) -> list[Image.Image | None]:
        """What a layer's units saw of a photograph at places (y, x); None where it cannot be read any more."""
        try:
            photo = self.index.photo(image)
        except StoreError:  # a widget shows what there is; its message would name the maker's folders
            return [None] * len(places)
        inputs = self.index.inputs
        return [crop(photo, seen_box(layer, y, x, inputs.size), inputs, side) for y, x in places]
