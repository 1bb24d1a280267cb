"""`memviz map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import ModelName, Options


def network_map(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="File: .svg, .pdf or .png.", show_default=False)],
    options: Options = None,
) -> None:
    """Draw a model as a figure: from photograph to score, its branches one above the other."""
    from memviz.cli.common import read_model
    from memviz.gallery.network_map import save_network_map

    save_network_map(read_model(model, "random", "cpu", None, options), out)
    typer.echo(f"{out.absolute()}")
