"""What several commands share: arguments, and reading a model from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import torch

    from memviz.models import Model

ModelName = Annotated[
    str, typer.Argument(help="A model, see `memviz models`, or a trained one's folder.", show_default=False)
]
Weights = Annotated[
    str,
    typer.Option(
        help="'published', 'random', a file of weights (.safetensors, .caffemodel, or a torch checkpoint of tensors), "
        "or the folder of a trained model."
    ),
]
Mean = Annotated[Path | None, typer.Option(help="A mean image (.npy, .binaryproto, .mat), for memnet-caffe.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE, of the architecture, as head=small for m3m; may be repeated."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; 'auto' takes a GPU where there is one.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Let a Ray cluster work: auto, HOST:6379, or local for one on this machine. Its workers compute on GPUs "
        "where nodes have some, else with --threads cores each, and must see the photographs.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Photographs in one forward pass.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads that decode photographs.")]

DATA_HELP = (
    "lamem=DIR (without its scores of 0, which look like missing ones), memcat=DIR (hits, not corrected for false "
    "alarms), or csv=FILE with a column path and one of scores, as `memviz score` writes it; csv=FILE:COLUMN names "
    "another one. May be repeated."
)
Data = Annotated[list[str], typer.Option(help=DATA_HELP, show_default=False)]


def read_data(sources: list[str]) -> pd.DataFrame:
    """The scored photographs that the --data options name, as one table."""
    from memviz.images import lamem, memcat, mixed, read_csv

    def csv(place: str) -> pd.DataFrame:
        file, _, column = place.rpartition(":")
        return read_csv(file, target=column) if file and not Path(place).exists() else read_csv(place)

    readers: dict[str, Callable[[str], pd.DataFrame]] = {"lamem": lamem, "memcat": memcat, "csv": csv}
    tables = []
    for source in sources:
        kind, _, place = source.partition("=")
        if kind not in readers or not place:
            raise typer.BadParameter(f"{source!r}: write lamem=DIR, memcat=DIR or csv=FILE.", param_hint="--data")
        tables.append(readers[kind](place))
    return mixed(*tables)


def read_model(
    name: str, weights: str, device: str, mean: Path | None = None, options: list[str] | None = None
) -> Model:
    """The model that the arguments name."""
    from memviz.models import load_model

    chosen: dict[str, Any] = parse_options(options)
    if taken := chosen.keys() & signature(load_model).parameters.keys():
        raise typer.BadParameter(f"{min(taken)!r} is no option of an architecture.", param_hint="--option")
    return load_model(
        name,
        weights=None if weights == "random" else weights,
        mean=mean,
        device=read_device(device),
        **chosen,
    )


@contextmanager
def crew(ray: str | None, device: str) -> Iterator[str]:
    """Employs the workers that `--ray` names; gives the device on which the model is read here."""
    if ray is None:
        yield device
        return
    from memviz.cluster import on_ray

    with on_ray(ray, device=device):
        yield "cpu"  # of this machine, too, it is the workers that take GPUs


def read_device(name: str) -> torch.device:
    """The device that `--device` names."""
    import torch

    from memviz.errors import ModelError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The device {name!r} cannot be used here ({reason}). Try --device cpu.") from error
    return device


def split(addresses: str) -> list[str]:
    """Addresses that are written with commas.

    >>> split("alexnet.conv4, resnet@139")
    ['alexnet.conv4', 'resnet@139']
    """
    return [address.strip() for address in addresses.split(",")]


def parse_options(pairs: list[str] | None) -> dict[str, str]:
    """The options of an architecture by name.

    >>> parse_options(["head=small"])
    {'head': 'small'}
    """
    options: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals and value) or name in options:
            raise typer.BadParameter(f"{pair!r}: write NAME=VALUE, each name once.", param_hint="--option")
        options[name] = value
    return options


def echo_table(table: pd.DataFrame, digits: int = 3) -> None:
    """Prints a table at its full width, so that it can also be piped: text to the left, numbers to the right."""
    from pandas.api.types import is_numeric_dtype

    columns = []
    for name in table.columns:
        values = [_format_cell(value, digits) for value in table[name]]
        width = max(map(len, [name, *values]))
        align = str.rjust if is_numeric_dtype(table[name]) else str.ljust
        columns.append([align(text, width) for text in [name, *values]])
    for cells in zip(*columns, strict=True):
        typer.echo("  ".join(cells).rstrip())


def _format_cell(value: object, digits: int) -> str:
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    # A row is a line: a name may hold a line break, or what a terminal would take for a command.
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
