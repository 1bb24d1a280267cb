"""`memviz depth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights


def depth(
    model: ModelName,
    index: Annotated[Path, typer.Option(help="An index of this model; its photographs are read again.")],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    concepts: Annotated[
        str | None,
        typer.Option(help="A model that names its outputs, whose classes are the concepts; by default the same model."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="A layer to look at, may be repeated; by default up to 14 of each branch."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Look at all layers that the index watches.")] = False,
    units: Annotated[int, typer.Option(min=1, help="Units of each layer that are drawn.")] = 64,
    sample: Annotated[int, typer.Option(min=1, help="Photographs that are drawn, if there are more.")] = 2000,
    statistic: Annotated[str, typer.Option(help="'peak' or 'mean' of each unit over its map.")] = "peak",
    components: Annotated[int, typer.Option(min=1, help="Principal components of either set of features.")] = 50,
    folds: Annotated[int, typer.Option(min=2, help="Parts, each held out once.")] = 10,
    twin: Annotated[bool, typer.Option(help="Measure the same architecture with random weights too.")] = True,
    seed: Annotated[int, typer.Option(help="Of the samples, the folds, the twin and the intervals.")] = 0,
    photos: Annotated[Path | None, typer.Option(help="Where the photographs lie now, if they were moved.")] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Say how perceptual or conceptual each layer is: what explains its units' activations, as numbers."""
    from memviz.cli.common import echo_table, read_model
    from memviz.explanation.depth import DepthConfig, depth
    from memviz.index import load_index
    from memviz.models import load_model

    if everything and layers:
        raise typer.BadParameter("Give --all or --layer, not both.", param_hint="--all")
    loaded = read_model(model, weights, device, mean, options)
    indexed = load_index(index, photos)
    wanted = tuple(layers) if layers else None
    if everything:
        wanted = tuple(layer.address for layer in indexed.layers)
    named = None if concepts is None else load_model(concepts, device=loaded.device)
    config = DepthConfig(wanted, units, sample, statistic, components, folds, twin)  # type: ignore[arg-type]
    found = depth(loaded, indexed, concepts=named, config=config, seed=seed, out=out, progress=True)
    names = ["perceptual", "conceptual", "both", "only_perceptual", "only_conceptual"]
    names += ["similarity_perceptual", "similarity_conceptual"]
    echo_table(found.frame()[["address", "twin", "units", *names]])
    typer.echo(f"\n{found}\n\n{out.absolute()}")
