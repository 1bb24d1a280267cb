"""`memviz drivers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights, Workers
from memviz.cli.top import Photos


def drivers(
    model: ModelName,
    index: Annotated[Path, typer.Option(help="Of this model: its layers and photographs.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder of the result; by default one in the index.")] = None,
    sample: Annotated[int, typer.Option(min=12, help="Photographs that are drawn, if there are more.")] = 200,
    everything: Annotated[bool, typer.Option("--all", help="All photographs instead.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    show: Annotated[
        list[str] | None, typer.Option("--layer", help="A layer whose strongest units are printed; may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many of them, raising and lowering.")] = 5,
    photos: Photos = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    workers: Workers = 2,
) -> None:
    """Rank the units of every layer by what they do to the score. Interrupted, it continues where it was."""
    import pandas as pd

    from memviz.cli.common import echo_table, read_model
    from memviz.explanation import drivers
    from memviz.index import load_index

    found = drivers(
        read_model(model, weights, device, mean, options),
        load_index(index, photos),
        sample=None if everything else sample,
        seed=seed,
        out=out,
        workers=workers,
        progress=True,
    )
    for layer in show or [*found.layers][-1:]:
        rows = [found.strongest(layer, count, direction) for direction in ("up", "down")]
        table = pd.concat([rows[0], rows[1].iloc[::-1]])
        echo_table(table[["address", "channel", "name", "drive", "strength", "contribution", "sd", "consistency"]], 4)
        typer.echo()
    units = sum(found.layers.values())
    typer.echo(
        f"{units} units of {len(found.layers)} layers over {found.photographs} photographs, in logits. drive: how much "
        f"more a unit adds where it is one standard deviation more active.\n\n{found.path.absolute()}"
    )
