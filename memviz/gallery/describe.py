"""A plan's page as plain data; the pictures that it shows are copied beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from memviz.artefacts import Manifest
from memviz.explanation.labels import Label
from memviz.files import replacing
from memviz.gallery.layouts import LAYOUTS
from memviz.gallery.page import Card, Group, NetworkFacts, Page, Photo, Section, letters
from memviz.gallery.plan import Plan, PlannedPanel
from memviz.index import Index, IndexedLayer
from memviz.layers import Layer
from memviz.layers.unit import Unit
from memviz.rendering.record import RenderRecord
from memviz.rendering.store import SavedRenders

IMAGES = "images"
PHOTOS = 9
CROP_SIZE = 256  # px: twice what the page shows, for dense screens


def describe(plan: Plan, saved: Mapping[tuple[str, str], SavedRenders], folder: Path, manifest: Manifest) -> Page:
    """The page as plain data; its pictures are written into folder/images.

    Args:
        plan: what to show.
        saved: the renders of each of its jobs, by the job's key.
        folder: of the page.
        manifest: says when and with what it is made.
    """
    recipe = plan.recipe
    count = sum(len(panel.units) for panel in plan.panels)
    lettered = letters(count) if LAYOUTS[recipe.layout].lettered else [""] * count
    writer = _Writer(plan, saved, folder, iter(lettered))
    (folder / IMAGES).mkdir()
    return Page(
        title=recipe.title,
        layout=recipe.layout,
        columns=recipe.columns,
        intro=recipe.intro,
        caption=recipe.caption,
        networks=tuple(
            NetworkFacts(each.label, each.weights, each.index.result.photographs, each.index.inputs.size)
            for each in plan.networks
        ),
        sections=tuple(Section(row.label, tuple(writer.group(panel) for panel in row.panels)) for row in plan.rows),
        created=manifest.created,
        memviz=manifest.versions["memviz"],
    )


@dataclass
class _Writer:
    """Describes panel after panel, and writes their pictures."""

    plan: Plan
    saved: Mapping[tuple[str, str], SavedRenders]
    folder: Path
    letters: Iterator[str]
    anchors: set[str] = field(default_factory=set)

    def group(self, panel: PlannedPanel) -> Group:
        """The units of one panel."""
        layer, index = panel.layer, panel.network.index
        return Group(
            network=panel.network.label if len(self.plan.networks) > 1 else "",
            target=index.config.target,
            address=layer.address,
            ordinal=layer.ordinal,
            kind=layer.kind,
            block=layer.block,
            channels=layer.channels,
            size=(layer.height, layer.width),
            receptive_field=layer.receptive_field,
            field_share=field_share(layer, index),
            interior=_has_interior(layer, index.inputs.size),
            cards=tuple(self.card(panel, unit) for unit in panel.units),
            finding=panel.network.finding(layer.address),
        )

    def card(self, panel: PlannedPanel, unit: Unit) -> Card:
        """One unit; its files and its link are named after the network too where there are several."""
        several, slug = len(self.plan.networks) > 1, panel.network.slug
        stem = f"{IMAGES}/{slug}-{unit.stem}" if several else f"{IMAGES}/{unit.stem}"
        anchor = f"{slug}/{unit}" if several else str(unit)
        if panel.lowest:
            stem, anchor = f"{stem}-lowest", f"{anchor}-lowest"
        first = anchor not in self.anchors
        self.anchors.add(anchor)
        saved = self.saved[panel.key]
        record = saved.units[unit.channel]
        label = None if panel.lowest else panel.network.labels.get(unit)  # says what raises it
        picture = None
        # Read before it is copied: what is published is a picture.
        if saved.picture(record) is not None and (source := saved.path(record)):
            picture = f"{stem}.png"
            shutil.copyfile(source, self.folder / picture)
        return Card(
            address=unit.address,
            channel=unit.channel,
            anchor=anchor,
            first=first,
            letter=next(self.letters),
            state=record.state,
            picture=picture,
            peak=record.peak,
            mean=record.mean,
            varies=bool(panel.network.index.layer(unit.address).std[unit.channel] > 0),
            photos=tuple(self.photos(panel, unit, stem)),
            lowest=panel.lowest,
            drive=panel.network.drive(unit),
            label=label.text or "" if label else "",
            origin=label.origin if label else "",
        )

    def photos(self, panel: PlannedPanel, unit: Unit, stem: str) -> Iterator[Photo]:
        """What the unit saw of its top photographs, or of the lowest."""
        index = panel.network.index
        top = index.bottom(unit, PHOTOS) if panel.lowest else index.top(unit, PHOTOS)
        for row, photo in write_crops(self.folder, stem, top, index.crops(unit, PHOTOS, CROP_SIZE, panel.lowest)):
            yield replace(photo, ring=ring(panel.layer, int(row.y), int(row.x), index))


def write_crops(
    folder: Path, stem: str, top: pd.DataFrame, crops: Iterable[Image.Image]
) -> Iterator[tuple[Any, Photo]]:
    """Writes what a unit saw into a folder; each row of `top`, as `Index.top` gives it, with what is told of it."""
    for rank, (row, crop) in enumerate(zip(top.itertuples(), crops, strict=True), start=1):
        picture = f"{stem}-top{rank}.jpg"
        crop.info.clear()  # a photograph's comment may say who took it, and where
        with replacing(folder / picture) as temporary:
            crop.save(temporary, quality=88)
        prediction = None if pd.isna(row.prediction) else float(row.prediction)
        yield row, Photo(picture, str(row.path).rsplit("/", 1)[-1], float(row.value), prediction, None)


def _has_interior(layer: Layer, input_size: tuple[int, int]) -> bool:
    """Whether some position's receptive field lies inside the picture."""
    rows, columns = layer.interior(input_size)
    seen = layer.field(rows.start, columns.start)
    if seen is None:
        return False
    left, top, right, bottom = seen
    return min(left, top) >= 0 and bottom <= input_size[0] and right <= input_size[1]


def field_share(layer: Layer, index: Index) -> float:
    """The receptive field's share of the input's side, at most 1."""
    if layer.receptive_field is None:
        return 1.0
    sides = zip(layer.receptive_field, index.inputs.size, strict=True)
    return min(1.0, *(field / side for field, side in sides))


def unit_card(
    unit: Unit,
    indexed: IndexedLayer,
    record: RenderRecord | None,
    picture: str | None,
    photos: Iterable[Photo],
    row: Mapping[str, Any] | None,
    label: Label | None,
) -> Card:
    """A unit by itself, outside a figure.

    Args:
        unit: which.
        indexed: its layer.
        record: of its picture; None where nobody tried to draw it.
        picture: the picture's file; None where there is none.
        photos: that excite it most.
        row: what a survey says of it, as `memviz.gallery.plan.Network.driven` gives it; None where there is none.
        label: what it answers to; None where nobody knows.
    """
    return Card(
        address=unit.address,
        channel=unit.channel,
        anchor="",
        first=True,
        letter="",
        state="ok" if record is None else record.state,
        picture=picture,
        peak=None if record is None else record.peak,
        mean=None if record is None else record.mean,
        varies=bool(indexed.std[unit.channel] > 0),
        photos=tuple(photos),
        drive=None if row is None else float(row["drive"]),
        label=label.text or "" if label else "",
        origin=label.origin if label else "",
    )


def ring(layer: Layer, y: int, x: int, index: Index) -> tuple[float, float] | None:
    """Where the unit sits, in percent of the square that holds a crop of the whole picture; None for smaller crops."""
    seen = layer.field(y, x)
    height, width = index.inputs.size
    if seen is None or field_share(layer, index) < 1:
        return None
    left, top, right, bottom = seen

    def percent(centre: float, side: int) -> float:
        inside = min(max(centre, 0.0), float(side))
        return round(50 + 100 * (inside - side / 2) / max(height, width), 2)

    return percent((left + right) / 2, width), percent((top + bottom) / 2, height)
