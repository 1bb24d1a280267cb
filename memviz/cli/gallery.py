"""`memviz gallery`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memviz.cli.common import Device, Mean, Options, Weights

if TYPE_CHECKING:
    from memviz.gallery import Recipe
    from memviz.index import Index
    from memviz.models import Model


def gallery(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML), as in galleries/.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the page and the figures.", show_default=False)],
    index: Annotated[Path | None, typer.Option(help="Folder of the index; else the recipe's own.")] = None,
    renders: Annotated[
        Path | None, typer.Option(help="Folder where renders are kept; 'renders' beside the index by default.")
    ] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Build a gallery: renders what is missing, then draws the page and the figures."""
    from memviz.cli.common import read_model
    from memviz.errors import RecipeError
    from memviz.gallery import load_recipe
    from memviz.index import load_index

    loaded = load_recipe(recipe)
    folder = index or loaded.index
    if folder is None:
        raise RecipeError(
            f"{recipe} names no index. Make one, `memviz index {loaded.model} PHOTOS --out runs/photos`, "
            "and give it with --index runs/photos."
        )
    opened = load_index(folder)
    page = make_gallery(
        loaded,
        opened,
        lambda: read_model(loaded.model, weights, device, mean, options),
        out,
        renders or default_renders(opened, loaded),
    )
    typer.echo(f"{page.resolve()}")


def default_renders(index: Index, recipe: Recipe) -> Path:
    """Where a recipe's renders are kept: beside the index, apart from those of other weights or settings."""
    network = f"{index.manifest.model}-{str(index.manifest.weights)[:8]}"
    look = json.dumps([recipe.objective, recipe.seed, recipe.render.to_dict()], sort_keys=True)
    digest = hashlib.blake2b(look.encode(), digest_size=4).hexdigest()
    return index.path.resolve().parent / "renders" / network / digest


def make_gallery(recipe: Recipe, index: Index, model: object, out: Path, renders: Path) -> Path:
    """Renders what a recipe lacks, then builds the gallery; `model` is called only if it is needed."""
    from memviz.gallery import build_gallery, missing
    from memviz.rendering import render_job

    jobs = missing(recipe, index, renders)
    if jobs:
        loaded: Model = model()  # type: ignore[operator]
        index.check_model(loaded)
        for number, job in enumerate(jobs, start=1):
            typer.echo(f"Rendering {job.address} ({number} of {len(jobs)})", err=True)
            render_job(loaded, job, renders, progress=True)
    return build_gallery(recipe, out=out, renders=renders, index=index)
