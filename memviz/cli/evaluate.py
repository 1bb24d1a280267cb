"""`memviz evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memviz.cli.common import BatchSize, Device, ModelName, Weights, Workers

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    model: ModelName,
    data: Annotated[
        list[str],
        typer.Option(help="csv=FILE with columns path and score, paths relative to FILE; may be repeated."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write report.json, report.csv, predictions.csv and density.png and .pdf here.")
    ] = None,
    weights: Weights = "published",
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap intervals.")] = 1000,
) -> None:
    """Compare predictions with people's scores."""
    import pandas as pd

    from memviz.cli.common import read_model
    from memviz.evaluation.evaluate import evaluate
    from memviz.evaluation.plots import density, save
    from memviz.files import replacing

    table = pd.concat([_read(source) for source in data], ignore_index=True)
    loaded = read_model(model, weights, device)
    report = evaluate(loaded, table, batch_size=batch_size, workers=workers, resamples=resamples, progress=True)
    if out is not None:
        report.to_json(out / "report.json")
        report.to_csv(out / "report.csv")
        with replacing(out / "predictions.csv") as temporary:
            report.predictions.to_csv(temporary, index=False)
        label = (loaded.output or "score").replace("_", " ").capitalize()
        predictions = report.predictions
        save(density(predictions["truth"], predictions["prediction"], title=report.model, score=label), out / "density")
    typer.echo(str(report))


def _read(source: str) -> pd.DataFrame:
    import pandas as pd

    from memviz.errors import ImageError

    kind, equals, name = source.partition("=")
    if kind != "csv" or not equals:
        raise typer.BadParameter(f"{source!r}: write csv=FILE.", param_hint="--data")
    try:
        table = pd.read_csv(name)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} is not a CSV file that can be read ({error}).") from error
    if "path" in table:
        table["path"] = [str(Path(name).parent / path) for path in table["path"]]
    return table
