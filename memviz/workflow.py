"""The main job in one call: render what a recipe needs and does not have, then build its gallery."""

from __future__ import annotations

import os
from collections.abc import Iterable
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from memviz.errors import RecipeError, StoreError
from memviz.gallery.build import build_gallery, check_out, missing
from memviz.gallery.plan import Network, Plan, plan_gallery
from memviz.gallery.recipe import Recipe
from memviz.index import Index
from memviz.models import Model, load_model
from memviz.rendering import render_job


def make_gallery(
    recipe: Plan | Recipe | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    renders: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    models: Iterable[Model] = (),
    device: str | torch.device = "cpu",
    progress: bool | None = None,
) -> Path:
    """Renders what a recipe needs and does not have, then builds its gallery.

    Interrupted, the same call continues: what is rendered stays.

    Args:
        recipe: a recipe, its TOML file, or its plan, which needs no index, renders and photos.
        out: the gallery's folder, as `memviz.build_gallery` describes it; a gallery already there is replaced.
        index: the index of the recipe's own network, or its folder; None takes the one that the recipe names.
        renders: where renders are kept; None is `renders` beside each index.
        photos: the folder below which that index's photographs lie now, if they moved.
        models: that are loaded already; others are loaded, as the recipe names them, where something is missing.
        device: where those are loaded.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        RecipeError: a recipe that cannot be followed with its indexes.
        StoreError: an index that is missing, damaged, or of another model than the recipe names; renders made
            otherwise than the recipe asks; an `out` that holds something else than a gallery.
        ModelError: a model that cannot be loaded.

    Example:
        >>> import memviz
        >>> index = memviz.build_index(model, "photos/", out="runs/photos")  # doctest: +SKIP
        >>> memviz.make_gallery("galleries/figure14.toml", index=index, models=[model], out="page")  # doctest: +SKIP
        PosixPath('page/index.html')
    """
    plan = recipe if isinstance(recipe, Plan) else plan_gallery(recipe, index=index, renders=renders, photos=photos)
    check_out(plan, out)
    given = list(models)
    loaded: dict[str, Model] = {}
    for planned in missing(plan):
        network = planned.network
        if network.label not in loaded:
            loaded[network.label] = next((model for model in given if network.is_of(model)), None) or _load(
                network, device
            )
        render_job(loaded[network.label], planned.job, planned.renders, progress)
    return build_gallery(plan, out=out)


def _load(network: Network, device: str | torch.device) -> Model:
    """The model of an index, as the recipe names it.

    Raises:
        RecipeError: an option that no architecture has.
        StoreError: the index was made with other weights or another preprocessing.
    """
    source = network.source
    options: dict[str, Any] = dict(source.options)
    if taken := options.keys() & signature(load_model).parameters.keys():
        raise RecipeError(f"{min(taken)!r} is no option of the architecture {source.model!r}.")
    model = load_model(source.model, source.weights, mean=source.mean, device=device, **options)
    network.index.check_model(model)
    if model.inputs != network.index.inputs:
        raise StoreError(
            f"The index {network.index.path} was made with another preprocessing than that of {source.model}: name the "
            "same mean image, or make an index with this model."
        )
    return model
