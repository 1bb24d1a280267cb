"""`memviz layers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memviz.cli.common import ModelName, Options, Weights

if TYPE_CHECKING:
    from memviz.layers import Layer


def layers(
    model: ModelName,
    everything: Annotated[bool, typer.Option("--all", help="Every module, not only what an index watches.")] = False,
    checkup: Annotated[Path | None, typer.Option(help="What `memviz checkup` saved; its findings are shown.")] = None,
    weights: Weights = "random",
    options: Options = None,
) -> None:
    """Show a model's layers in executed order: address, channels, output size, stride, receptive field."""
    import pandas as pd

    from memviz.cli.common import echo_table, read_model
    from memviz.models.registry import ARCHITECTURES

    table = read_model(model, weights, "cpu", None, options).layers
    rows = [_make_row(layer) for layer in (table if everything else table.watched())]
    columns = ["address", "kind", "ordinal", "channels", "output", "stride", "receptive field"]
    shown = pd.DataFrame(rows, columns=columns)
    if checkup is not None:
        from memviz.explanation import load_checkup

        found = load_checkup(checkup)
        shown["finding"] = [found.finding(address) for address in shown["address"]]
    echo_table(shown)
    if not everything:
        typer.echo("\nThe convolutions and residual blocks; --all shows every module.", err=True)
    entry = ARCHITECTURES.get(model)
    for part, finding in entry.weights.findings.items() if entry and entry.weights and checkup is None else ():
        typer.echo(f"{part} of the published weights: {finding}.", err=True)


def _make_row(layer: Layer) -> tuple[str | int, ...]:
    field = f"{layer.receptive_field[0]}x{layer.receptive_field[1]}" if layer.receptive_field else "all"
    stride = f"{layer.stride[0]:.4g}" if layer.stride else ""
    kind = f"{layer.kind} (block)" if layer.block else layer.kind
    size = f"{layer.height}x{layer.width}"
    return layer.address, kind, layer.ordinal or "", layer.channels, size, stride, field
