"""`memviz score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import BatchSize, Device, Mean, Options, Ray, Weights, Workers


def score(
    photographs: Annotated[list[Path], typer.Argument(help="Files, folders, tar archives.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model, see `memviz models`, or a trained one's folder.")] = "resmem",
    csv: Annotated[
        Path | None, typer.Option(help="Write the table to this file, also of a pass that is interrupted or fails.")
    ] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    ray: Ray = None,
) -> None:
    """Predict the memorability of photographs. Interrupted with --csv, the same command continues."""
    from memviz.cli.common import crew, echo_table, read_model
    from memviz.models.model import Scored, score_table, warn_unreadable
    from memviz.models.score_file import score_to_csv

    with crew(ray, device) as here:
        loaded = read_model(model, weights, here, mean, options)
        if csv is None:
            found: list[Scored] = []
            try:
                for batch in loaded.iter_scores(photographs, batch_size, workers, progress=True):
                    found += batch
            finally:
                table = score_table(found, loaded.target)
                if found:
                    echo_table(table)
            warn_unreadable(table.attrs["unreadable"])
        else:
            table = score_to_csv(loaded, photographs, csv, batch_size, workers, progress=True)
            typer.echo(f"{len(table)} photographs scored: {csv}")
    if table.empty:
        raise typer.Exit(1)
