"""From saved renders and an index to a gallery's folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from memviz.artefacts import MANIFEST
from memviz.errors import RecipeError, StoreError
from memviz.files import provenance, read_json, write_json
from memviz.gallery.figure import save_figures
from memviz.gallery.page import Group, Page, Photo, Section, Unit, letters, to_html
from memviz.gallery.recipe import Choice, Recipe, load_recipe
from memviz.index import Index, load_index
from memviz.layers import Layer
from memviz.rendering.job import RenderJob
from memviz.rendering.store import SavedRenders, load_renders

PHOTOS = 9
CROP_SIZE = 256  # px: twice what the page shows, for dense screens
_OURS = {"index.html", "gallery.json", "figure.png", "figure.pdf", "images"}


def build_gallery(
    recipe: Recipe | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    renders: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
) -> Path:
    """Builds the gallery that a recipe describes, from saved results only.

    Args:
        recipe: a recipe or its TOML file.
        out: folder for index.html, images/, figure.png, figure.pdf and gallery.json. It becomes
            whole in one step; a gallery already there is replaced.
        renders: folder with one folder of renders a layer, as `memviz render` writes them.
        index: the index or its folder; None takes the one that the recipe names.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        RecipeError: a recipe that cannot be followed on this index.
        StoreError: renders that are missing, made otherwise than the recipe asks or of other weights
            than the index, and an `out` that holds something else than a gallery.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    index = _index(recipe, index)
    saved = _saved_renders(recipe, index, Path(renders))
    with _replacing_gallery(Path(out), keep=(Path(renders), Path(index.path))) as folder:
        (folder / "images").mkdir()
        page = _describe(recipe, index, saved, folder)
        (folder / "index.html").write_text(to_html(page), encoding="utf-8")
        save_figures(page, folder)
        write_json(folder / "gallery.json", page.to_dict())
    return Path(out) / "index.html"


def missing(recipe: Recipe, index: Index, renders: str | os.PathLike[str]) -> list[RenderJob]:
    """The jobs of a recipe of which `renders` does not hold every unit as asked."""
    return [job for job, _ in _lacking(recipe, index, Path(renders))]


def _index(recipe: Recipe, index: Index | str | os.PathLike[str] | None) -> Index:
    if isinstance(index, Index):
        return index
    folder = index if index is not None else recipe.index
    if folder is None:
        raise RecipeError(
            f"The recipe {recipe.title!r} names no index. Give one with index=, or --index; "
            f"`memviz index {recipe.model} PHOTOS --out INDEX` makes it."
        )
    return load_index(folder)


def _lacking(recipe: Recipe, index: Index, renders: Path) -> Iterator[tuple[RenderJob, str]]:
    manifest = index.manifest
    for job in recipe.jobs(index):
        folder = renders / job.address
        if not (folder / MANIFEST).exists():
            yield job, "not rendered"
            continue
        saved = load_renders(folder)
        wanted = job.manifest(str(manifest.model), str(manifest.weights), index.layers[job.address], index.inputs)
        if differences := saved.manifest.differences(wanted):
            raise StoreError(
                f"{folder} holds other renders than the recipe {recipe.title!r} asks for: {'; '.join(differences)}. "
                "Give another folder for the renders, or change the recipe."
            )
        if lacking := [unit for unit in job.units if unit not in saved.units]:
            yield job, f"without {'units' if len(lacking) > 1 else 'unit'} {', '.join(map(str, lacking))}"


def _saved_renders(recipe: Recipe, index: Index, renders: Path) -> dict[str, SavedRenders]:
    lacking = list(_lacking(recipe, index, renders))
    if lacking:
        lines = "; ".join(f"{job.address} ({why})" for job, why in lacking)
        raise StoreError(
            f"{renders} lacks renders for {recipe.title!r}: {lines}. `memviz gallery` makes them on its way."
        )
    return {job.address: load_renders(renders / job.address) for job in recipe.jobs(index)}


def _describe(recipe: Recipe, index: Index, saved: Mapping[str, SavedRenders], folder: Path) -> Page:
    """The page as plain data; its pictures are written into folder/images."""
    rows = recipe.resolve(index)
    shown = [unit for row in rows for choice in row for unit in choice.units]
    lettered = iter(letters(len(shown)) if recipe.layout != "branches" else [""] * len(shown))
    anchors: set[str] = set()

    def group(choice: Choice) -> Group:
        layer = choice.layer
        units = tuple(
            _unit(layer, unit, next(lettered), anchors, index, saved[layer.address], folder) for unit in choice.units
        )
        return Group(
            address=layer.address,
            ordinal=layer.ordinal,
            kind=layer.kind,
            block=layer.block,
            channels=layer.channels,
            size=(layer.height, layer.width),
            receptive_field=layer.receptive_field,
            field_share=_field_share(layer, index),
            units=units,
        )

    return Page(
        title=recipe.title,
        layout=recipe.layout,
        columns=recipe.columns,
        intro=recipe.intro,
        caption=recipe.caption,
        model=recipe.model,
        weights=str(index.manifest.weights),
        target=index.config.target,
        photographs=index.result.photographs,
        sections=tuple(
            Section(row.label, tuple(group(choice) for choice in found))
            for row, found in zip(recipe.rows, rows, strict=True)
        ),
        provenance=provenance()
        | {
            "recipe": recipe.to_dict(),
            # Not the photographs' folder: a page that is published should not tell about its maker's disk.
            "index": {key: getattr(index.manifest, key) for key in ("model", "weights", "created", "versions")}
            | {"photographs": index.result.photographs, "unreadable": index.result.unreadable, "k": index.config.k}
            | {"inputs": _inputs(index)},
            "renders": {
                address: {
                    key: getattr(of.manifest, key) for key in ("weights", "config", "seed", "created", "versions")
                }
                for address, of in saved.items()
            },
        },
    )


def _inputs(index: Index) -> dict[str, Any]:
    """The preprocessing; of a mean image, which takes a megabyte in the index, only its checksum."""
    inputs, image = index.inputs.to_dict(), index.inputs.mean_image
    return inputs if image is None else inputs | {"mean_image": {"sha256": image.sha256}}


def _field_share(layer: Layer, index: Index) -> float:
    """The receptive field's share of the input's side, at most 1."""
    if layer.receptive_field is None:
        return 1.0
    sides = zip(layer.receptive_field, index.inputs.size, strict=True)
    return min(1.0, *(field / side for field, side in sides))


def _unit(
    layer: Layer, unit: int, letter: str, anchors: set[str], index: Index, saved: SavedRenders, folder: Path
) -> Unit:
    record = saved.units[unit]
    stem = f"images/{layer.address}-{unit:04d}"
    picture = None
    # Read before it is copied: what is published is a picture.
    if saved.picture(record) is not None and (source := saved.path(record)):
        picture = f"{stem}.png"
        shutil.copyfile(source, folder / picture)
    photos = tuple(_photos(layer, unit, stem, index, folder))
    name = f"{layer.address}:{unit}"
    anchor = "" if name in anchors else name
    anchors.add(name)
    return Unit(
        address=layer.address,
        unit=unit,
        anchor=anchor,
        letter=letter,
        state=record.state,
        picture=picture,
        peak=record.peak,
        mean=record.mean,
        best=photos[0].value if photos else None,
        photos=photos,
    )


def _photos(layer: Layer, unit: int, stem: str, index: Index, folder: Path) -> Iterator[Photo]:
    top = index.layer(layer.address).top(unit, PHOTOS)
    crops = index.layer(layer.address).crops(unit, PHOTOS, CROP_SIZE)
    for rank, (row, crop) in enumerate(zip(top.itertuples(), crops, strict=True), start=1):
        picture = f"{stem}-top{rank}.jpg"
        crop.save(folder / picture, quality=88)
        yield Photo(
            picture=picture,
            name=str(row.path).rsplit("/", 1)[-1],
            value=float(row.value),
            prediction=None if pd.isna(row.prediction) else float(row.prediction),
            ring=_ring(layer, int(row.y), int(row.x), index),
        )


def _ring(layer: Layer, y: int, x: int, index: Index) -> tuple[float, float] | None:
    """Where the unit sits, in percent of the square that holds a crop of the whole picture; None for smaller crops."""
    field = layer.field(y, x)
    height, width = index.inputs.size
    if field is None or _field_share(layer, index) < 1:
        return None
    left, top, right, bottom = field

    def percent(centre: float, side: int) -> float:
        inside = min(max(centre, 0.0), float(side))
        return round(50 + 100 * (inside - side / 2) / max(height, width), 2)

    return percent((left + right) / 2, width), percent((top + bottom) / 2, height)


@contextmanager
def _replacing_gallery(out: Path, keep: tuple[Path, ...]) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end; after an exception `out` is what it was."""
    _check_out(out, keep)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".writing-") as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        old = Path(scratch) / "old"
        try:
            if out.exists():
                os.replace(out, old)
            os.replace(folder, out)
        except BaseException:
            if old.exists() and not out.exists():
                os.replace(old, out)
            raise


def _check_out(out: Path, keep: tuple[Path, ...]) -> None:
    for path in keep:
        if path.resolve().is_relative_to(out.resolve()):
            raise StoreError(
                f"{out} would be replaced by the gallery, but {path} lies in it. Give another folder for the gallery."
            )
    if not out.exists():
        return
    if not out.is_dir():
        raise StoreError(f"{out} is a file. Give a folder for the gallery.")
    foreign = sorted({entry.name for entry in out.iterdir()} - _OURS)
    is_gallery = (out / "gallery.json").exists() and read_json(out / "gallery.json").get("kind") == "memviz-gallery"
    if foreign or not (is_gallery or not any(out.iterdir())):
        raise StoreError(
            f"{out} holds {', '.join(foreign) or 'files that are no gallery'}. Give a new folder, or one that holds "
            "a gallery only."
        )
