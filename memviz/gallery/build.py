"""From a plan and saved renders to a gallery's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from memviz.artefacts import (
    LOCK,
    MANIFEST,
    Manifest,
    check_folder,
    clear,
    heal,
    locked,
    partial_folder,
    previous_folder,
    publish,
    remove,
)
from memviz.errors import StoreError
from memviz.files import WRITING, provenance, write_json
from memviz.gallery.describe import IMAGES, describe
from memviz.gallery.figure import FIGURES, save_figures
from memviz.gallery.html import to_html
from memviz.gallery.plan import Plan, PlannedJob, plan_gallery
from memviz.gallery.recipe import Recipe
from memviz.index import Index
from memviz.rendering.store import SavedRenders, load_renders

KIND, FORMAT = "memviz-gallery", 1
PAGE, DATA = "index.html", "gallery.json"
_OURS = {PAGE, DATA, IMAGES, *FIGURES, MANIFEST}


def build_gallery(
    recipe: Plan | Recipe | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    renders: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
) -> Path:
    """Builds the gallery that a recipe describes, from saved results only; `memviz.make_gallery` also renders.

    Args:
        recipe: a recipe, its TOML file, or its plan, which needs no index, renders and photos.
        out: folder for index.html, images/, figure.png, figure.pdf, gallery.json (what the page shows) and
            manifest.json (where it came from). It becomes whole in one step; a gallery already there is replaced.
        index, renders, photos: as `memviz.gallery.plan_gallery` takes them.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        RecipeError: a recipe that cannot be followed with its indexes.
        StoreError: renders that are missing or made otherwise than the recipe asks, an `out` that holds something else
            than a gallery, or one that another process builds.
    """
    plan = recipe if isinstance(recipe, Plan) else plan_gallery(recipe, index=index, renders=renders, photos=photos)
    check_out(plan, out)
    found = _find_renders(plan)
    if lacking := _lacking(plan, found):
        names = "; ".join(f"{each.layer.address} of {each.network.label} in {each.renders}" for each in lacking[:5])
        raise StoreError(
            f"The renders for {plan.recipe.title!r} are missing, or not there of all units: {names}"
            f"{'; ...' if len(lacking) > 5 else ''}. `memviz gallery`, or memviz.make_gallery, makes them."
        )
    saved = {key: each for key, each in found.items() if each is not None}
    manifest = Manifest(KIND, FORMAT, config=plan.to_dict(), seed=plan.recipe.seed, **provenance())
    if len(plan.networks) == 1:
        (own,) = plan.networks
        manifest = replace(manifest, model=own.model, weights=own.weights, inputs=own.inputs)
    with _replacing(Path(out), manifest) as folder:
        page = describe(plan, saved, folder, manifest)
        write_json(folder / DATA, asdict(page))
        (folder / PAGE).write_text(to_html(page), encoding="utf-8")
        save_figures(page, folder)
        made = {" ".join(key): {"created": of.manifest.created, **of.manifest.versions} for key, of in saved.items()}
        pictures = sum(card.picture is not None for card in page.cards)
        succeed = sum(card.succeeds for card in page.cards)
        manifest.finished(units=len(page.cards), pictures=pictures, succeed=succeed, renders=made).write(folder)
    return Path(out) / PAGE


def missing(plan: Plan) -> list[PlannedJob]:
    """The jobs of a plan of which not every unit is rendered yet.

    Raises:
        StoreError: renders of other weights, another preprocessing or other settings are there; it says in which
            fields they differ from what the recipe asks for.
    """
    return _lacking(plan, _find_renders(plan))


def _find_renders(plan: Plan) -> dict[tuple[str, str], SavedRenders | None]:
    """What is there for each job of a plan."""
    found: dict[tuple[str, str], SavedRenders | None] = {}
    for key, planned in plan.jobs.items():
        found[key] = saved = load_renders(planned.folder) if (planned.folder / MANIFEST).exists() else None
        if saved is not None and (differences := saved.manifest.differences(planned.manifest)):
            raise StoreError(
                f"{planned.folder} holds other renders than the recipe {plan.recipe.title!r} asks for: "
                f"{'; '.join(differences)}. Give another folder for the renders, or change the recipe."
            )
    return found


def _lacking(plan: Plan, found: dict[tuple[str, str], SavedRenders | None]) -> list[PlannedJob]:
    return [
        planned
        for key, planned in plan.jobs.items()
        if (saved := found[key]) is None or any(unit not in saved.units for unit in planned.job.units)
    ]


def check_out(plan: Plan, out: str | os.PathLike[str]) -> None:
    """Refuses an `out` that is no place for a gallery, before anything is made for it.

    Raises:
        StoreError: it, or what it lies in, is a file; it, or `<out>.partial` where the gallery is made, or
            `<out>.previous`, holds something else than a gallery, or what the plan needs.
    """
    out = _real(out)
    check_folder(out)
    for path in [*(each.index.path for each in plan.networks), *(job.folder for job in plan.jobs.values())]:
        if _real(path).is_relative_to(out):
            raise StoreError(
                f"{out} would be replaced by the gallery, but {path} lies in it. Give another folder for the gallery."
            )
    for folder in (out, partial_folder(out), previous_folder(out)):
        check_folder(folder)
        if folder.is_dir():
            names = {entry.name for entry in folder.iterdir() if not entry.name.startswith((WRITING, LOCK))}
            if strange := sorted(names - _OURS if MANIFEST in names else names):
                raise StoreError(
                    f"{folder} is no gallery: it holds {', '.join(strange[:3])}. Give a new folder, or one that "
                    "holds a gallery only."
                )
            if names:
                Manifest.read(folder, KIND, FORMAT)


@contextmanager
def _replacing(out: Path, manifest: Manifest) -> Iterator[Path]:
    """A folder that takes the place of `out` at the end; after an exception `out` is what it was."""
    out = _real(out)
    partial = partial_folder(out)
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        heal(out)
        clear(partial)
        try:
            # First, so that the folder of a process that is killed is known as a gallery's.
            manifest.write(partial)
            yield partial
            publish(out)
        except BaseException:
            remove(partial)
            raise


def _real(out: str | os.PathLike[str]) -> Path:
    """Where a link leads: the gallery takes the place of a folder, and the link stays."""
    return Path(os.path.realpath(out))
