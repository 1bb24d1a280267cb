"""`memviz render`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Ray, Weights

if TYPE_CHECKING:
    from memviz.index import Index
    from memviz.models import InputSpec
    from memviz.rendering import Maco


class Parameters(StrEnum):
    """What of a picture is optimized."""

    fourier = "fourier"
    pixel = "pixel"
    maco = "maco"


SPECTRUM = "spectrum.json"
# Of an index's photographs, evenly from first to last, whose mean magnitude is taken.
MOST = 512


def _complete_objective(incomplete: str) -> list[str]:
    from memviz.rendering.objective import UNIT_OBJECTIVES

    return [name for name in UNIT_OBJECTIVES if name.startswith(incomplete)]


def render(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Folder; each layer gets one in it.", show_default=False)],
    layer: Annotated[
        str | None,
        typer.Argument(
            help="A layer (alexnet.conv4, resnet@139), a unit (alexnet.conv4:5), or 'score' for the most and the "
            "least memorable picture.",
            show_default=False,
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--all", help="All units of all convolutions and residual blocks, as one job that may be interrupted."
        ),
    ] = False,
    branch: Annotated[
        str | None, typer.Option(help="With --all: only this part (resnet, resnet.layer1).", show_default=False)
    ] = None,
    layers: Annotated[str | None, typer.Option(help="With --all: only these, with commas.", show_default=False)] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="With --all: only say what it will cost.")] = False,
    units: Annotated[str | None, typer.Option(help="As 0-31,40; all by default.", show_default=False)] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels; 128, or the input's size where needed.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the optimizer, at most; 54 by default.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other pictures.")] = 0,
    objective: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_objective,
            help="What of a unit is maximized: its mean with inhibition counting half, then with its local peaks; "
            "'channel' for the plain mean, 'neuron' for the centre; an unknown name lists all.",
        ),
    ] = "excitation",
    parameterization: Annotated[
        Parameters,
        typer.Option(help="Fourier coefficients, pixels, or phases, at the magnitude of an index's photographs."),
    ] = Parameters.fourier,
    index: Annotated[
        Path | None,
        typer.Option(
            help="For maco: the index. With --all: whose best photographs pictures must surpass, or are drawn again.",
            show_default=False,
        ),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Where its photographs lie now, if they were moved.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Most pictures together.")] = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
    ray: Ray = None,
) -> None:
    """Draw what units want to see: one PNG a unit, a contact sheet and a manifest. What is done is skipped."""
    from memviz.cli.common import crew, echo_table, read_model, split
    from memviz.cli.whole import render_all
    from memviz.files import write_json
    from memviz.index import load_index
    from memviz.layers.unit import parse_channels
    from memviz.rendering import RenderConfig, objectives
    from memviz.rendering import render as draw
    from memviz.rendering.network import network_jobs
    from memviz.rendering.objective import unit_objective
    from memviz.rendering.store import CONTACT_SHEET

    if (layer is None) != whole:
        raise typer.BadParameter("give either a layer or --all.", param_hint="LAYER")
    if not whole and (branch or layers or only_plan or ray):
        raise typer.BadParameter("--branch, --layers, --plan and --ray go with --all.", param_hint="--all")
    if whole and units is not None:
        raise typer.BadParameter("--all draws all units: leave --units out.", param_hint="--units")
    maco = parameterization is Parameters.maco
    if (maco and index is None) or (index is not None and not (maco or whole)):
        raise typer.BadParameter("--parameterization maco and --index go together.", param_hint="--index")
    settings: dict[str, Any] = {"size": size, "steps": steps, "batch_size": batch_size}
    if not maco:
        settings["parameterization"] = {"kind": parameterization.value}
    config = RenderConfig.from_dict({name: value for name, value in settings.items() if value is not None})
    channels = None if units is None else parse_channels(units)
    unit_objective(objective)
    opened = None if index is None else load_index(index, photos)
    with crew(ray, device) as here:
        loaded = read_model(model, weights, here, mean, options)
        if maco and opened is not None:
            config = replace(config, parameterization=_spectrum(opened, loaded.inputs))
        if layer is None:
            wanted = split(layers) if layers else None
            jobs = network_jobs(loaded, wanted, branch=branch, objective=objective, config=config, seed=seed)
            render_all(loaded, jobs, out, opened, only_plan)
            return
    if layer == "score":
        most = objectives.Score()
        renders = draw(loaded, objective=[most, -most], config=config, seed=seed, progress=True)
        folder = renders.save(out / "score")
    else:
        renders = draw(loaded, layer, channels, objective=objective, config=config, seed=seed, out=out, progress=True)
        folder = out / loaded.layers[layer.partition(":")[0]].address
    if maco:
        write_json(out / SPECTRUM, config.to_dict()["parameterization"])
    shown = ["unit", "objective", "value"] if layer == "score" else ["unit", "mean", "peak"]
    echo_table(renders.table[[*shown, "state"]], digits=4)
    typer.echo(f"\n{folder / CONTACT_SHEET}")


def _spectrum(index: Index, inputs: InputSpec) -> Maco:
    """The parameterization with the magnitude of an index's photographs, of `MOST` at most."""
    from memviz.progress import progress
    from memviz.rendering import Maco

    numbers = index.ranked["image"].tolist()
    numbers = numbers[:: -(-len(numbers) // MOST)]
    with progress("Reading", len(numbers), "photographs", True) as advance:

        def read(number: int) -> Any:
            advance()
            return index.photo(number)

        return Maco.from_photographs(map(read, numbers), inputs)
