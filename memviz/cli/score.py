"""`memviz score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import BatchSize, Device, Mean, Options, Weights, Workers


def score(
    photographs: Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model, see `memviz models`, or a trained one's folder.")] = "resmem",
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
) -> None:
    """Predict the memorability of photographs."""
    from memviz.cli.common import echo_table, read_model
    from memviz.files import replacing

    loaded = read_model(model, weights, device, mean, options)
    table = loaded.score(photographs, batch_size=batch_size, workers=workers, progress=True)
    if csv is None:
        echo_table(table)
    else:
        with replacing(csv) as temporary:
            table.to_csv(temporary, index=False)
        typer.echo(f"{len(table)} photographs scored: {csv}")
    if table.empty:
        raise typer.Exit(1)
