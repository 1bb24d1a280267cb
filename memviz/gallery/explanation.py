"""The page and the figure of an explained photograph, and the page of several."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from memviz.artefacts import MANIFEST, Manifest, locked
from memviz.errors import StoreError
from memviz.explanation.explain import load_explanations
from memviz.explanation.labels import Label, load_labels
from memviz.explanation.record import (
    DATA,
    FORMAT,
    KIND,
    PICTURE,
    Contribution,
    Explanation,
    LayerShare,
    load_explanation,
)
from memviz.explanation.region import RegionCheck, top_region
from memviz.files import replacing
from memviz.gallery.describe import IMAGES, PHOTOS, write_crops
from memviz.gallery.explanation_figure import FIGURES, save_figure
from memviz.gallery.html import environment
from memviz.gallery.overlay import gradient, overlay
from memviz.gallery.page import Photo, number
from memviz.index import Index
from memviz.layers.unit import Unit, lies_in
from memviz.rendering.store import SavedRenders, load_renders

PAGE, OVERLAY = "index.html", "map.png"
_CROP = 192  # px: twice what the page shows


@dataclass(frozen=True)
class UnitCard:
    """A unit on the page.

    Attributes:
        unit: what it contributes.
        label: what it answers to, in words, and where that comes from; None where nobody knows.
        picture: file of its render, relative to the page; None where there is none.
        photos: what it saw of its best photographs; none without an index.
    """

    unit: Contribution
    label: Label | None
    picture: str | None
    photos: tuple[Photo, ...]

    @property
    def compared(self) -> str:
        """Its activation against that on the references, in words.

        >>> UnitCard(Contribution("conv:1", "", 0.1, 2.0, 0.5), None, None, ()).compared
        'mean activation 2.00, on the references 0.500'
        """
        return f"mean activation {number(self.unit.value)}, on the references {number(self.unit.reference)}"


@dataclass(frozen=True)
class LayerCards:
    """A layer on the page, with the units that raise and those that lower the score."""

    layer: LayerShare
    raising: tuple[UnitCard, ...]
    lowering: tuple[UnitCard, ...]


def explanation_page(
    folder: str | os.PathLike[str],
    *,
    index: Index | None = None,
    renders: str | os.PathLike[str] | None = None,
    labels: Mapping[Unit, Label] | None = None,
) -> Path:
    """Writes the page and the figure of one explained photograph, from saved results only.

    Args:
        folder: of a photograph, as `memviz.explain` makes them in `out`.
        index: whose crops are shown of each unit.
        renders: where renders are kept: in it a folder a layer, as `memviz render` writes them.
        labels: what units answer to, in words; None takes those that are kept beside the index.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        StoreError: there is no finished explanation; an index or renders of other weights, or damaged ones.
        LayerError: the index does not watch one of its layers.
        LabelError: a file of labels that cannot be read.
    """
    folder = Path(folder)
    found, manifest = load_explanation(folder), Manifest.read(folder, KIND, FORMAT)
    if index is not None and str(index.manifest.weights) != found.weights:
        raise StoreError(f"The index {index.path} is of other weights than the explanation {folder}. Give its own.")
    if labels is None:
        labels = load_labels(index) if index is not None else {}
    saved = {layer.address: _find_renders(renders, layer.address, found) for layer in found.layers}
    with locked(folder, wait=True):
        writer = _Writer(folder, index, saved, labels)
        layers = [writer.layer(each) for each in found.layers]
        with replacing(folder / OVERLAY) as temporary:
            draw_map(found).save(temporary)
        save_figure(found, folder, PICTURE, OVERLAY, title(found))
        text = (
            environment()
            .get_template("explanation.html")
            .render(
                found=found,
                title=title(found),
                manifest=manifest,
                layers=layers,
                pieces={"data": DATA, "picture": PICTURE, "map": OVERLAY, "png": FIGURES[0], "pdf": FIGURES[1]},
                gradient=gradient(41),
                dots=dots,
                left_out=_left_out(found),
                largest=largest,
            )
        )
        with replacing(folder / PAGE) as temporary:
            temporary.write_text(text.lstrip(), encoding="utf-8")
    return folder / PAGE


def explanations_page(folder: str | os.PathLike[str]) -> Path:
    """Writes the page from which those of all photographs in a folder are reached, the highest score first.

    Raises:
        StoreError: it is no folder that `memviz.explain` made, or an explanation in it is damaged.
    """
    folder = Path(folder)
    with locked(folder, wait=True):
        found = {name: each for name, each in load_explanations(folder).items() if (folder / name / PAGE).is_file()}
        ranked = dict(sorted(found.items(), key=lambda item: -item[1].score))
        manifest = Manifest.read(folder, "memviz-explanations", FORMAT)
        text = (
            environment()
            .get_template("explanations.html")
            .render(
                found=ranked, manifest=manifest, page=PAGE, picture=OVERLAY, first=next(iter(ranked.values()), None)
            )
        )
        with replacing(folder / PAGE) as temporary:
            temporary.write_text(text.lstrip(), encoding="utf-8")
    return folder / PAGE


def title(found: Explanation) -> str:
    """What the page asks."""
    return f"Why a {found.what} of {found.score:.3f}?"


def draw_map(found: Explanation) -> Image.Image:
    """The map over the photograph, with the outlines of what was filled as a check."""
    assert found.picture is not None
    assert found.map is not None
    mapped = torch.from_numpy(found.map)
    regions = (top_region(mapped, found.config.share, each.side) for each in found.regions)
    return overlay(found.picture, found.map, tuple(each for each in regions if each is not None))


def largest(layer: LayerShare) -> float:
    """The largest absolute contribution of a layer's shown units."""
    return max((abs(each.contribution) for each in (*layer.raising, *layer.lowering)), default=1.0)


def _left_out(found: Explanation) -> list[str]:
    """The branches of which something is known and no layer is shown."""
    shown = [each.address for each in found.layers]
    return [part for part in found.findings if not any(lies_in(address, part) for address in shown)]


def dots(check: RegionCheck) -> list[tuple[str, float, float]]:
    """What is drawn of a check on one scale: the kind of each dot, its place in percent, and its score."""
    levels = [*(("random", each.score) for each in check.random), ("before", check.before.score)]
    levels.append(("filled", check.filled.score))
    low, high = min(score for _, score in levels), max(score for _, score in levels)
    return [(kind, 100 * (score - low) / ((high - low) or 1), score) for kind, score in levels]


def _find_renders(renders: str | os.PathLike[str] | None, address: str, found: Explanation) -> SavedRenders | None:
    if renders is None:
        return None
    if not Path(renders).is_dir():
        raise StoreError(f"There is no folder {renders}. Give the folder that `memviz render --out` made.")
    folder = Path(renders) / address
    if not (folder / MANIFEST).is_file():
        return None
    saved = load_renders(folder)
    if saved.manifest.weights != found.weights:
        raise StoreError(
            f"The renders in {folder} are of other weights ({str(saved.manifest.weights)[:12]}) than the explanation "
            f"({found.weights[:12]}). Give another folder, or render the layer again."
        )
    return saved


@dataclass(frozen=True)
class _Writer:
    """Describes layer after layer, and writes the pictures of their units."""

    folder: Path
    index: Index | None
    saved: Mapping[str, SavedRenders | None]
    labels: Mapping[Unit, Label]

    def layer(self, layer: LayerShare) -> LayerCards:
        """A layer's units."""
        (self.folder / IMAGES).mkdir(exist_ok=True)
        raising, lowering = (
            tuple(self.card(layer.address, each) for each in side) for side in (layer.raising, layer.lowering)
        )
        return LayerCards(layer, raising, lowering)

    def card(self, address: str, unit: Contribution) -> UnitCard:
        """One unit; its pictures are written."""
        own = Unit(address, int(unit.unit.rpartition(":")[2]))
        picture = None
        saved = self.saved[address]
        record = saved.units.get(own.channel) if saved else None
        # Read before it is copied: what is shown is a picture.
        if saved and record and saved.picture(record) is not None and (source := saved.path(record)):
            picture = f"{IMAGES}/{own.stem}.png"
            with replacing(self.folder / picture) as temporary:
                shutil.copyfile(source, temporary)
        label = self.labels.get(own)
        return UnitCard(unit, label if label and label.text else None, picture, tuple(self.photos(own)))

    def photos(self, unit: Unit) -> list[Photo]:
        """What the unit saw of its best photographs."""
        if self.index is None:
            return []
        layer = self.index.layer(unit.address)
        top, crops = layer.top(unit.channel, PHOTOS), layer.crops(unit.channel, PHOTOS, _CROP)
        return [photo for _, photo in write_crops(self.folder, f"{IMAGES}/{unit.stem}", top, crops)]
