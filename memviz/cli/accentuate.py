"""`memviz accentuate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights


def accentuate(
    model: ModelName,
    photo: Annotated[Path, typer.Argument(help="A photograph.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the pictures, the page and the figure.", show_default=False)],
    up: Annotated[bool, typer.Option("--up", help="Towards a higher score or activation.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Towards a lower one.")] = False,
    unit: Annotated[
        str | None, typer.Option(help="A unit, as resnet.layer3.20:5, instead of the score.", show_default=False)
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Distance of the last picture from the photograph, above 0 to 1, at the held layers.")
    ] = 0.1,
    pictures: Annotated[int, typer.Option(help="Pictures on the way, at equal distances.")] = 4,
    steps: Annotated[int, typer.Option(help="Of the search.")] = 20,
    parameters: Annotated[
        Literal["fourier", "phase"], typer.Option(help="Fourier coefficients, or their phases alone.")
    ] = "fourier",
    hold: Annotated[
        list[str] | None,
        typer.Option(help="A layer at which distances are taken; may be repeated. By default an early one a branch."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random transforms and the controls.")] = 0,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Change a photograph towards a higher or lower score, in steps: what would make it more memorable?"""
    from memviz.cli.common import echo_table, read_model
    from memviz.explanation.accentuate import AccentuateConfig, accentuate
    from memviz.gallery.accentuation import accentuation_page

    if up == down:
        raise typer.BadParameter("Give --up or --down, one of them.", param_hint="--up")
    config = AccentuateConfig(strength, pictures, steps, parameters, tuple(hold) if hold else None)
    loaded = read_model(model, weights, device, mean, options)
    direction: Literal["up", "down"] = "up" if up else "down"
    found = accentuate(loaded, photo, direction, unit, config=config, seed=seed, out=out, progress=True)
    page = accentuation_page(out)
    echo_table(found.frame())
    typer.echo(f"\n{found.sentence[0].upper()}{found.sentence[1:]}\n{found.caution}\n\n{page.absolute()}")
