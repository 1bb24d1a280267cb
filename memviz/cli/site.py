"""`memviz site`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.top import Photos


def site(
    index: Annotated[Path, typer.Option(help="Folder of the network's index.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the site.", show_default=False)],
    renders: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of `memviz render`; give it again for other pictures of the same units."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="With commas; by default those that are rendered, or all without renders.")
    ] = None,
    depth: Annotated[Path | None, typer.Option(help="Folder of `memviz depth`, for the home page.")] = None,
    photos: Photos = None,
    without_photographs: Annotated[
        bool, typer.Option("--without-photographs", help="Neither photographs nor their names are shown.")
    ] = False,
) -> None:
    """Build the microscope: a static site with a page for each unit, from saved results."""
    from memviz.cli.common import split
    from memviz.index import load_index
    from memviz.site import build_site

    page = build_site(
        load_index(index, photos),
        out=out,
        renders=renders or (),
        layers=None if layers is None else split(layers),
        depth=depth,
        photographs=not without_photographs,
        progress=True,
    )
    typer.echo(f"{page.absolute()}")
