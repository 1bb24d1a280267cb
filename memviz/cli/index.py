"""`memviz index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import BatchSize, Device, Mean, ModelName, Options, Ray, Weights, Workers


def index(
    model: ModelName,
    photographs: Annotated[list[Path], typer.Argument(help="Files, folders, tar archives.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the index.", show_default=False)],
    layers: Annotated[
        str | None,
        typer.Option(
            help="Addresses with commas; all convolutions and residual blocks by default.", show_default=False
        ),
    ] = None,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="Photographs kept for each unit and side.")] = 16,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    ray: Ray = None,
) -> None:
    """Find the photographs that excite each unit of each layer most. Interrupted, it continues where it was."""
    from memviz.cli.common import crew, read_model, split
    from memviz.index import build_index

    chosen = split(layers) if layers else None
    with crew(ray, device) as here:
        built = build_index(
            read_model(model, weights, here, mean, options),
            photographs,
            out=out,
            layers=chosen,
            k=k,
            batch_size=batch_size,
            workers=workers,
            progress=True,
        )
    result, units = built.result, sum(layer.channels for layer in built.layers)
    left_out = ((result.unreadable, "unreadable"), (result.copies, "copies of others"))
    notes = ", ".join(f"{count} {why}" for count, why in left_out if count)
    ranked = f"{result.photographs} photographs{f' (left out: {notes})' if notes else ''}"
    typer.echo(f"{ranked}, {len(built.layers)} layers, {units} units: {out}")
