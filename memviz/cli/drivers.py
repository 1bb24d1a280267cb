"""`memviz drivers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Ray, Weights, Workers
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
    ablate: Annotated[
        list[str] | None,
        typer.Option(help="A layer whose units are also replaced, to see what that does; may be repeated."),
    ] = None,
    ablate_units: Annotated[
        int, typer.Option(min=1, help="Of the strongest, of the weakest and of random ones, each.")
    ] = 32,
    ablate_photographs: Annotated[int, typer.Option(min=12, help="On which units are replaced.")] = 24,
    photos: Photos = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    workers: Workers = 2,
    ray: Ray = None,
) -> None:
    """Rank the units of every layer by what they do to the score. Interrupted, it continues where it was."""
    import pandas as pd

    from memviz.cli.common import crew, echo_table, read_model
    from memviz.explanation import drivers
    from memviz.explanation.ablation import ablate as replace_units
    from memviz.explanation.labels import load_labels
    from memviz.index import load_index
    from memviz.layers.unit import Unit

    with crew(ray, device) as here:
        loaded, indexed = read_model(model, weights, here, mean, options), load_index(index, photos)
        labels = load_labels(indexed).told()
        # Before the work: a layer that is not surveyed.
        shown, ablated = (
            [each if each in loaded.named else indexed.layers[each].address for each in layers or ()]
            for layers in (show, ablate)
        )
        found = drivers(
            loaded,
            indexed,
            sample=None if everything else sample,
            seed=seed,
            out=out,
            workers=workers,
            progress=True,
        )
    for layer in shown or [*found.layers][-1:]:
        rows = [found.strongest(layer, count, direction) for direction in ("up", "down")]
        table = pd.concat([rows[0], rows[1].iloc[::-1]])
        columns = ["address", "channel", "name", "drive", "strength", "contribution", "sd", "consistency"]
        words = [
            labels.get(Unit(address, int(channel)), "")
            for address, channel in table[["address", "channel"]].itertuples(index=False)
        ]
        if any(words):
            table, columns = table.assign(label=words), [*columns, "label"]
        echo_table(table[columns], 4)
        typer.echo()
    for layer in ablated:
        ablation = replace_units(
            loaded,
            indexed,
            found,
            layer,
            count=ablate_units,
            photographs=ablate_photographs,
            seed=seed,
            progress=True,
        )
        typer.echo(f"{ablation}\n")
    units = sum(found.layers.values())
    typer.echo(
        f"{units} units of {len(found.layers)} layers over {found.photographs} photographs, in logits. drive: how much "
        f"more a unit adds where it is one standard deviation more active.\n\n{found.path.absolute()}"
    )
