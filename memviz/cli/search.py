"""`memviz search`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Mean, Options, Workers, echo_table
from memviz.cli.train import (
    Accelerator,
    Backbones,
    Cache,
    Changes,
    ConfigFile,
    Images,
    Logger,
    Precision,
    Sources,
    SplitFile,
    StartWeights,
    TeacherName,
    Trained,
    read_backbones,
    read_targets,
)

SHOWN = 5
SHORTENED = ("epochs", "steps_per_epoch")


def search(
    model: Trained,
    out: Annotated[Path, typer.Option(help="The search's folder.", show_default=False)],
    data: Sources = None,
    teacher: TeacherName = None,
    images: Images = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings in all; given again with more, it adds to them.")] = 20,
    learning_rate: Annotated[str, typer.Option(help="LOWEST:HIGHEST, on a logarithmic scale.")] = "1e-5:1e-1",
    momentum: Annotated[str, typer.Option(help="LOWEST:HIGHEST.")] = "0.5:0.99",
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
    precision: Precision = "auto",
    workers: Workers = 2,
) -> None:
    """Find a learning rate and a momentum: train with several, compare on the validation subset."""
    from memviz.cli.common import parse_options
    from memviz.errors import TrainingError
    from memviz.images import Split
    from memviz.training import Runtime, Start, TrainConfig, TrainingJob
    from memviz.training import search as run
    from memviz.training.search import FIGURE, best

    job = TrainingJob(
        model,
        read_targets(data, teacher, images, accelerator),
        TrainConfig.read(config, set_ or []),
        Start(weights, mean, read_backbones(backbone), parse_options(options)),
        Split.load(split) if split else None,
        Runtime(accelerator, precision=precision, workers=workers, logger=logger, cache=cache),
    )
    found = run(
        job,
        out,
        trials,
        learning_rate=_parse_range(learning_rate, "--learning-rate"),
        momentum=_parse_range(momentum, "--momentum"),
        progress=True,
    )
    leading = best(found, job.config.selection)
    if leading.empty:
        raise TrainingError(
            f"All {len(found)} trials failed. Give a new --out, and --learning-rate with a lower end than "
            f"{found['learning_rate'].min():.3g}."
        )
    shown = leading.head(SHOWN).drop(columns="state")
    for name in ("learning_rate", "momentum"):
        shown[name] = [f"{value:.3g}" for value in shown[name]]
    echo_table(shown)
    failed = len(found) - len(leading)
    typer.echo(f"{len(found)} trials{f', {failed} of them failed' if failed else ''}: {out / 'trials.csv'}")
    typer.echo(f"Validation along training: {out / FIGURE}.png and .pdf")
    given = {
        "--data": data,
        "--teacher": teacher,
        "--images": images,
        "--split": out / "split.json",
        "--cache": cache or out / "cache",
        "--config": config,
        "--weights": weights,
        "--mean": mean,
        "--backbone": backbone,
        "--option": options,
        # A trial's few epochs are not the training's; found values come last, since the last one counts.
        "--set": [
            *(each for each in set_ or [] if each.partition("=")[0].strip() not in SHORTENED),
            *(f"{name}={shown[name].iloc[0]}" for name in ("learning_rate", "momentum")),
        ],
        "--accelerator": None if accelerator == "auto" else accelerator,
        "--precision": None if precision == "auto" else precision,
        "--out": f"{out}-best",
    }
    words = ["memviz", "train", model]
    for name, value in given.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            words += [name, str(each)]
    typer.echo(f"Train with the best:\n{shlex.join(words)}")


def _parse_range(text: str, option: str) -> tuple[float, float]:
    """The ends of "1e-5:1e-1".

    >>> _parse_range("1e-5:.1", "--learning-rate")
    (1e-05, 0.1)
    """
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write LOWEST:HIGHEST, as 1e-5:1e-1.", param_hint=option) from None
    return low, high
