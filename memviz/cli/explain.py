"""`memviz explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights
from memviz.cli.top import Photos


def explain(
    model: ModelName,
    photographs: Annotated[list[Path], typer.Argument(help="Files, folders, tar archives.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder that gets a page a photograph.", show_default=False)],
    index: Annotated[
        Path | None,
        typer.Option(help="An index: references are drawn from its photographs, and crops shown. Else sample photos."),
    ] = None,
    renders: Annotated[
        Path | None, typer.Option(help="Folder that `memviz render` made: pictures of units are shown.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", help="A layer whose units are shown; may be repeated. By default some a branch."),
    ] = None,
    units: Annotated[int, typer.Option(help="Units that raise, and that lower, shown of each layer.")] = 3,
    references: Annotated[int, typer.Option(help="Photographs to compare with.")] = 16,
    against: Annotated[
        Literal["photographs", "blurred"], typer.Option(help="Other photographs, or the photograph itself, blurred.")
    ] = "photographs",
    steps: Annotated[int, typer.Option(help="On the path from each reference, at first.")] = 16,
    max_steps: Annotated[
        int, typer.Option(help="At most: where it is more, they double until the contributions add up.")
    ] = 16,
    method: Annotated[str | None, typer.Option(help="Of the map, as grad-cam.", show_default=False)] = None,
    share: Annotated[float, typer.Option(help="Of the picture, that is filled as a check.")] = 0.2,
    photos: Photos = None,
    seed: Annotated[int, typer.Option(help="Of the references and the random regions.")] = 0,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Explain scores: what raises and lowers them, of classes, units, and parts of the picture."""
    from memviz.cli.common import echo_table, read_model
    from memviz.explanation import ExplainConfig, explain
    from memviz.explanation.explain import photograph_folder
    from memviz.explanation.maps import DEFAULT
    from memviz.gallery.explanation import explanation_page, explanations_page
    from memviz.index import load_index

    config = ExplainConfig(
        layers=tuple(layers) if layers else None,
        units=units,
        references=references,
        against=against,
        steps=steps,
        max_steps=max_steps,
        method=method or DEFAULT,
        share=share,
    )
    loaded = read_model(model, weights, device, mean, options)
    indexed = load_index(index, photos) if index is not None else None
    for found in explain(loaded, photographs, indexed, config=config, seed=seed, out=out, progress=True):
        page = explanation_page(out / photograph_folder(found.photograph, found.sha256), index=indexed, renders=renders)
        table = found.frame().drop(columns="layer")
        echo_table(table if table["name"].any() else table.drop(columns="name"))
        typer.echo("\n" + "\n".join([f"{found.photograph}:", *found.sentences]))
        typer.echo(f"{page.absolute()}\n")
    typer.echo(f"{explanations_page(out).absolute()}")
