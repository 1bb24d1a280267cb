"""`memviz cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cache(
    folder: Annotated[Path, typer.Argument(help="What --cache named, or a search's folder `cache`.")],
    prune: Annotated[bool, typer.Option(help="Remove the records of photographs that are gone or changed.")] = False,
) -> None:
    """List the records of photographs that trainings cache, and remove outdated ones."""
    import pandas as pd

    from memviz.cli.common import echo_table
    from memviz.errors import StoreError
    from memviz.training.cache import FeatureCache

    if not folder.is_dir():
        raise StoreError(f"{folder} is no folder. Give one that `memviz train --cache` or `memviz search` has made.")
    kept = FeatureCache(folder)
    if prune:
        typer.echo(f"{kept.prune() / 1e6:.1f} MB freed")
    rows = [(name, count, size / 1e6) for name, count, size in kept.kinds()]
    if rows:
        echo_table(pd.DataFrame(rows, columns=["records", "photographs", "MB"]), digits=1)
    else:
        typer.echo(f"{folder} holds no records.")
