"""`memviz top`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def top(
    index: Annotated[Path, typer.Argument(help="Folder of an index.", show_default=False)],
    unit: Annotated[str, typer.Argument(help="As resnet.layer3.20:5 or resnet@139:5.", show_default=False)],
    count: Annotated[int | None, typer.Option("--top", "-k", min=1, help="How many; all kept by default.")] = None,
    lowest: Annotated[bool, typer.Option(help="The photographs that excite it least.")] = False,
    crops: Annotated[Path | None, typer.Option(help="Also write what the unit saw as PNG into this folder.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
) -> None:
    """Show the photographs that excite a unit most."""
    from memviz.cli.common import echo_table
    from memviz.files import replacing
    from memviz.index import load_index

    address, mark, number = unit.rpartition(":")
    if not mark or not number.isdigit():
        raise typer.BadParameter(f"{unit!r}: write a unit as address:number, such as resnet.layer3.20:5.")
    opened = load_index(index)
    table = (opened.bottom if lowest else opened.top)(address, int(number), count)
    if csv:
        with replacing(csv) as temporary:
            table.to_csv(temporary, index=False)
    echo_table(table)
    if crops:
        for rank, crop in enumerate(opened.crops(address, int(number), len(table), lowest=lowest), start=1):
            with replacing(crops / f"{address}-{number}-{'bottom' if lowest else 'top'}{rank:02d}.png") as temporary:
                crop.save(temporary)
