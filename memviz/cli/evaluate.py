"""`memviz evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from memviz.cli.common import BatchSize, Data, Device, Mean, ModelName, Options, Weights, Workers


def evaluate(
    model: ModelName,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Write report.json, report.csv, predictions.csv and density.png and .pdf here.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="A split.json: take only one subset of it.")] = None,
    subset: Annotated[Literal["train", "validation", "test"], typer.Option(help="Of the split.")] = "test",
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap intervals.")] = 1000,
) -> None:
    """Compare predictions with people's scores."""
    from memviz.artefacts import check_folder
    from memviz.cli.common import read_data, read_model
    from memviz.evaluation.evaluate import evaluate
    from memviz.images import Split

    if out is not None:
        check_folder(out)
    table = read_data(data)
    if split is not None:
        table = Split.load(split).subset(table, subset)
    loaded = read_model(model, weights, device, mean, options)
    report = evaluate(loaded, table, batch_size=batch_size, workers=workers, resamples=resamples, progress=True)
    if out is not None:
        report.save(out)
    typer.echo(str(report))
