"""`memviz checkup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights


def checkup(
    model: ModelName,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs, on which effects on the score are measured.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Or an index: its photographs are taken, and galleries of it show the result.")
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="A layer whose effect is measured too; may be repeated.")
    ] = None,
    sample: Annotated[int, typer.Option(min=12, help="Photographs that are drawn, if there are more.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the sample, the exchange and the intervals.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result; with --index, one beside it by default.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all layers, not only those to look at.")] = False,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Check whether each layer has learned, and whether the branches matter to the score."""
    from memviz.cli.common import echo_table, read_model
    from memviz.explanation.checkup import checkup, checkup_folder
    from memviz.index import load_index

    if index is not None and photos is not None:
        raise typer.BadParameter("Give --photos or --index, not both.", param_hint="--photos")
    loaded = read_model(model, weights, device, mean, options)
    indexed = load_index(index) if index is not None else None
    if indexed is not None:
        out = out or checkup_folder(indexed)
    found = checkup(loaded, indexed or photos, layers=layers or (), sample=sample, seed=seed, out=out, progress=True)
    table = found.frame()[["address", "kind", "weights", "verdict", "start", "std", "clearest", "times_chance"]]
    shown = table if everything else table[~table["verdict"].isin(["trained", "undecided"])]
    if len(shown):
        echo_table(shown, digits=4)
        typer.echo()
    for effects in (found.effects, found.layer_effects):
        if effects is not None:
            echo_table(
                effects.frame()[["address", "replacement", "mean_change", "largest_change", "spearman", "share"]], 4
            )
            typer.echo()
    if found.silent:
        units = found.silent_frame()
        moved = units[(units["constant"] > 0) | (units["silent"].fillna(0) > 0)]
        if len(shown_units := units if everything else moved):
            echo_table(shown_units)
            typer.echo()
    typer.echo(str(found))
    if out is not None:
        typer.echo(f"\n{out.absolute()}")
