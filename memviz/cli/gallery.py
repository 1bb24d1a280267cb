"""`memviz gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, Options
from memviz.cli.top import Photos


def gallery(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML), as in galleries/.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the page and the figures.", show_default=False)],
    index: Annotated[
        Path | None, typer.Option(help="Folder of the index of the recipe's own model; else the recipe's own.")
    ] = None,
    renders: Annotated[
        Path | None, typer.Option(help="Folder where renders are kept; 'renders' beside the index by default.")
    ] = None,
    photos: Photos = None,
    weights: Annotated[
        str | None, typer.Option(help="Of the recipe's own model, as in other commands; else the recipe's own.")
    ] = None,
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Build a gallery: renders what is missing, then draws the page and the figures."""
    from dataclasses import replace

    from memviz.cli.common import parse_options, read_device
    from memviz.gallery import load_recipe
    from memviz.workflow import make_gallery

    loaded = load_recipe(recipe)
    source = loaded.source
    source = replace(
        source,
        weights=source.weights if weights is None else None if weights == "random" else weights,
        mean=mean or source.mean,
        options=tuple(sorted(parse_options(options).items())) if options else source.options,
    )
    page = make_gallery(
        replace(loaded, source=source),
        out=out,
        index=index,
        renders=renders,
        photos=photos,
        device=read_device(device),
        progress=True,
    )
    typer.echo(f"{page.absolute()}")
