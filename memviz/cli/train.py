"""`memviz train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memviz.cli.common import DATA_HELP, Mean, Options, Workers

if TYPE_CHECKING:
    import pandas as pd

    from memviz.training import Teacher

Trained = Annotated[
    str, typer.Argument(help="memnet, resmem (its ResNet frozen), resmem-retrain, m3m, ...; see `memviz models`.")
]
Sources = Annotated[list[str] | None, typer.Option("--data", help=DATA_HELP)]
TeacherName = Annotated[
    str | None, typer.Option(help="Learn this model's scores of --images, instead of --data.", show_default=False)
]
Images = Annotated[list[Path] | None, typer.Option(help="Photographs for --teacher; may be repeated.")]
ConfigFile = Annotated[Path | None, typer.Option(help="A TOML file of settings, as experiments/table1 has.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting over the file's, as learning_rate=0.001; may be repeated. Names: recipe, learning_rate, "
        "momentum, weight_decay, branch_gradient_scale (with recipe=paper), batch_size, epochs, steps_per_epoch, "
        "patience, flip, initialization, seed, fractions, split_seed, selection, cache_frozen.",
    ),
]
SplitFile = Annotated[Path | None, typer.Option(help="A split.json instead of a new split.")]
StartWeights = Annotated[str | None, typer.Option(help="Start from these: 'published', a file, a folder.")]
Backbones = Annotated[
    list[str] | None,
    typer.Option(
        help="ADDRESS=FILE for a pretrained submodule, as resnet=resnet152.pth, may be repeated; 'random' to try out. "
        "torchvision downloads those that are not named."
    ),
]
Cache = Annotated[
    Path | None, typer.Option(help="Keep decoded photographs and frozen outputs here for other trainings.")
]
Logger = Annotated[
    Literal["csv", "tensorboard", "wandb"],
    typer.Option(help="Beside history.csv; wandb is offline unless you are logged in."),
]
Accelerator = Annotated[str, typer.Option(help="cpu, gpu, mps; 'auto' takes a GPU where there is one.")]
Precision = Annotated[str, typer.Option(help="As Lightning's: 32-true, 16-mixed; 'auto' is 16-mixed on CUDA.")]


def train(
    model: Trained,
    out: Annotated[Path, typer.Option(help="The training's folder; `load_model` takes it.", show_default=False)],
    data: Sources = None,
    teacher: TeacherName = None,
    images: Images = None,
    config: ConfigFile = None,
    set_: Changes = None,
    split: SplitFile = None,
    weights: StartWeights = None,
    mean: Mean = None,
    backbone: Backbones = None,
    options: Options = None,
    cache: Cache = None,
    logger: Logger = "csv",
    accelerator: Accelerator = "auto",
    devices: Annotated[int, typer.Option(min=1, help="On each node; several train data-parallel.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Precision = "auto",
    workers: Workers = 2,
) -> None:
    """Train a model on scored photographs, or on another model's scores."""
    from memviz.cli.common import parse_options
    from memviz.images import Split
    from memviz.training import Runtime, Start, TrainConfig, TrainingJob
    from memviz.training import train as run
    from memviz.training.store import first_process

    job = TrainingJob(
        model,
        read_targets(data, teacher, images, accelerator),
        TrainConfig.read(config, set_ or []),
        Start(weights, mean, read_backbones(backbone), parse_options(options)),
        Split.load(split) if split else None,
        Runtime(accelerator, devices, nodes, precision, workers, logger, cache),
    )
    trained = run(job, out, progress=True)
    if not first_process():
        return
    assert trained.card is not None
    values, divided = trained.card.metrics, trained.card.split or {}
    shown = {name: "undefined" if value is None else f"{value:.3f}" for name, value in values.items()}
    typer.echo(f"{out}: {model}, best in epoch {values['epoch']:g}, validation Spearman {shown['val_spearman']}")
    if "test_spearman" in values:
        typer.echo(
            f"Test subset, {divided['test']} photographs: Spearman {shown['test_spearman']} "
            f"[{shown['test_spearman_low']}, {shown['test_spearman_high']}], "
            f"MSE {values['test_mse']:.4f}, MAE {shown['test_mae']}"
        )
    for part, told in trained.card.learned.items():
        typer.echo(f"{part}: {told}")


def read_targets(
    data: list[str] | None, teacher: str | None, images: list[Path] | None, accelerator: str
) -> pd.DataFrame | Teacher:
    """What is learned: the photographs of --data, or those of --images with the scores of --teacher."""
    from memviz.cli.common import read_data, read_model
    from memviz.training import Teacher

    if (teacher is None) == (data is None) or (teacher is None) != (images is None):
        raise typer.BadParameter("give either --data, or --teacher with --images.")
    if teacher is None:
        return read_data(data or [])
    device = accelerator if accelerator in ("cpu", "mps") else "auto"
    return Teacher(read_model(teacher, "published", device), images or [])


def read_backbones(texts: list[str] | None) -> dict[str, str] | str:
    """What `train` takes, of ["resnet=file.pth"]; "random" is none at all."""
    if not texts:
        return "torchvision"
    if texts == ["random"]:
        return {}
    files = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise typer.BadParameter(f"{text!r}: write ADDRESS=FILE, or 'random' alone.", param_hint="--backbone")
        files[key] = value
    return files
