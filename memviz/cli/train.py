"""`memviz train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from memviz.cli.common import Options, Workers

Logger = Annotated[
    Literal["csv", "tensorboard", "wandb"],
    typer.Option(help="Beside history.csv; wandb is offline unless you are logged in."),
]


def train(
    model: Annotated[
        str, typer.Argument(help="memnet, resmem (its ResNet frozen), resmem-retrain, m3m, ...; see `memviz models`.")
    ],
    out: Annotated[Path, typer.Option(help="The training's folder; `load_model` takes it.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Option(help="lamem=DIR, memcat=DIR, or csv=FILE with columns path and score; may be repeated."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Learn this model's scores of --images, instead of --data.", show_default=False)
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Photographs for --teacher; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings, as experiments/table1 has.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting over the file's, as learning_rate=0.001.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="A split.json instead of a new split.")] = None,
    weights: Annotated[str | None, typer.Option(help="Start from these: 'published', a file, a folder.")] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            help="ADDRESS=FILE for a pretrained part, as resnet=resnet152.pth, may be repeated; 'random' to try out. "
            "By default torchvision downloads them."
        ),
    ] = None,
    options: Options = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep decoded photographs and frozen outputs here for other trainings.")
    ] = None,
    logger: Logger = "csv",
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, mps; 'auto' takes a GPU where there is one.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="On each node; several train data-parallel.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Annotated[
        str, typer.Option(help="As Lightning's: 32-true, 16-mixed; 'auto' is 16-mixed on CUDA.")
    ] = "auto",
    workers: Workers = 2,
) -> None:
    """Train a model on scored photographs, or on another model's scores."""
    from memviz.cli.common import parse_options, read_data, read_model
    from memviz.images import Split
    from memviz.training import Runtime, Teacher, TrainConfig
    from memviz.training import train as run

    if (teacher is None) == (data is None) or (teacher is None) != (images is None):
        raise typer.BadParameter("give either --data, or --teacher with --images.")
    trained = run(
        model,
        Teacher(
            read_model(teacher, "published", accelerator if accelerator in ("cpu", "mps") else "auto"), images or []
        )
        if teacher
        else read_data(data or []),
        out,
        TrainConfig.read(config, set_ or []),
        runtime=Runtime(accelerator, devices, nodes, precision, workers, logger),
        split=Split.load(split) if split else None,
        weights=weights,
        backbones=_pairs(backbone) if backbone else "torchvision",
        cache=cache,
        progress=True,
        **parse_options(options, run),
    )
    assert trained.card is not None
    metrics = trained.card.metrics
    typer.echo(f"{out}: {model}, best in epoch {metrics['epoch']:g}, validation Spearman {metrics['val_spearman']:.3f}")
    if "test_spearman" in metrics:
        typer.echo(
            f"Test part: Spearman {metrics['test_spearman']:.3f} [{metrics['test_spearman_low']:.3f}, "
            f"{metrics['test_spearman_high']:.3f}], MSE {metrics['test_mse']:.4f}, MAE {metrics['test_mae']:.3f}"
        )


def _pairs(texts: list[str]) -> dict[str, str]:
    """The parts of ["resnet=file.pth"]; "random" is no part at all."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals and text != "random":
            raise typer.BadParameter(f"{text!r}: write NAME=VALUE.", param_hint="--backbone")
        if equals:
            pairs[key] = value
    return pairs
