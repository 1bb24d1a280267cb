"""`memviz render`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights


class Objective(StrEnum):
    """What of a unit is maximized."""

    excitation = "excitation"
    channel = "channel"
    neuron = "neuron"


class Parameters(StrEnum):
    """What of a picture is optimized."""

    fourier = "fourier"
    pixel = "pixel"


def render(
    model: ModelName,
    layer: Annotated[
        str,
        typer.Argument(
            help="A layer (alexnet.conv4, resnet@139), a unit (alexnet.conv4:5), or 'score' for the most and the "
            "least memorable picture.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder; each layer gets one in it.", show_default=False)],
    units: Annotated[str | None, typer.Option(help="As 0-31,40; all by default.", show_default=False)] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels; 128, or the input's size where needed.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimizer.")] = 256,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures.")] = 0,
    objective: Annotated[
        Objective, typer.Option(help="Mean with inhibition counting half, plain mean, or the centre.")
    ] = Objective.excitation,
    parameterization: Annotated[Parameters, typer.Option(help="Fourier coefficients or pixels.")] = Parameters.fourier,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Most pictures together.")] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Draw what units want to see: one PNG a unit, a contact sheet and a manifest. What is done is skipped."""
    from memviz.cli.common import echo_table, parse_units, read_model
    from memviz.rendering import Fourier, Pixel, RenderConfig, objectives
    from memviz.rendering import render as draw
    from memviz.rendering.api import CONTACT_SHEET

    config = RenderConfig(
        size=size,
        steps=steps,
        parameterization=Pixel() if parameterization == "pixel" else Fourier(),
        batch_size=batch_size,
    )
    loaded = read_model(model, weights, device, mean, options)
    if layer == "score":
        most = objectives.score()
        renders = draw(loaded, objective=[most, -most], config=config, seed=seed, progress=True)
        folder = renders.save(out / "score")
    else:
        wanted = parse_units(units)
        renders = draw(
            loaded, layer, wanted, objective=objective.value, config=config, seed=seed, out=out, progress=True
        )
        folder = out / loaded.layers[layer.partition(":")[0]].address
    echo_table(renders.table.drop(columns=["steps", "seed"]), digits=4)
    typer.echo(f"\n{folder / CONTACT_SHEET}")
