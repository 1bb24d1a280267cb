"""`memviz quality`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, Options, Weights
from memviz.cli.top import Photos


def quality(
    renders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `memviz render --out`, or those of layers in them. Several give a unit several pictures; "
            "those of --objective inhibition show what it wants least.",
            show_default=False,
        ),
    ],
    index: Annotated[Path, typer.Option(help="An index of the same model.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the result.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="The model, or a trained one's folder; by default the one the index names.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="By whose eyes pictures are alike; needs the extra quality.")
    ] = "efficientnet-lite0",
    tasks: Annotated[int, typer.Option(min=1, help="Choices for each unit.")] = 20,
    explanations: Annotated[int, typer.Option(min=1, help="Photographs of each kind that explain a unit.")] = 9,
    sample: Annotated[int, typer.Option(min=1, help="Photographs that are drawn, if there are more.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of photographs, choices, controls and intervals.")] = 0,
    photos: Photos = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Say whether pictures are true: do they beat photographs, do they explain, are they processed alike?"""
    from memviz.cli.common import echo_table, read_model
    from memviz.explanation.encoder import load_encoder
    from memviz.explanation.quality import QualityConfig, quality
    from memviz.index import load_index

    opened = load_index(index, photos)
    loaded = read_model(model or str(opened.manifest.model), weights, device, mean, options)
    seeing = load_encoder(encoder, loaded.device)
    config = QualityConfig(explanations=explanations, tasks=tasks, sample=sample)
    found = quality(loaded, renders, opened, encoder=seeing, config=config, seed=seed, out=out, progress=True)
    names = {"share": "wins", "ratio": "ratio"} | {
        f"{what}_{kind}": f"{short} {kind}"
        for kind in ("photographs", "alike", "renders")
        for what, short in (("accuracy", "solved by"), ("shuffled", "shuffled"))
    }
    names |= {"score_renders": "score renders", "path": "path"}
    echo_table(found.frame()[["address", "units", "live", *names]].rename(columns=names), digits=2)
    typer.echo(f"\n{found}\n\nencoder: {found.encoder} ({found.licence})\n{out.absolute()}")
