"""`memviz top`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Photos = Annotated[
    Path | None,
    typer.Option(help="The folder below which the index's photographs lie now, if they moved.", show_default=False),
]


def top(
    index: Annotated[Path, typer.Argument(help="Folder of an index.", show_default=False)],
    unit: Annotated[str, typer.Argument(help="As resnet.layer3.20:5 or resnet@139:5.", show_default=False)],
    count: Annotated[int | None, typer.Option("--top", "-k", min=1, help="How many; all kept by default.")] = None,
    lowest: Annotated[bool, typer.Option(help="The photographs that excite it least.")] = False,
    crops: Annotated[Path | None, typer.Option(help="Also write what the unit saw as PNG into this folder.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    photos: Photos = None,
) -> None:
    """Show the photographs that excite a unit most."""
    from memviz.cli.common import echo_table
    from memviz.explanation.labels import load_labels
    from memviz.files import check_file, replacing
    from memviz.index import load_index
    from memviz.layers.unit import Unit

    if csv:
        check_file(csv)
    opened = load_index(index, photos)
    asked = Unit.parse(unit, opened.layers)
    table = (opened.bottom if lowest else opened.top)(asked, count)
    if csv:
        with replacing(csv) as temporary:
            table.to_csv(temporary, index=False)
    echo_table(table)
    if label := load_labels(opened, [asked.address]).get(asked):
        typer.echo(f"\n{asked}: {label}")
    if crops:
        side = "bottom" if lowest else "top"
        for rank, crop in enumerate(opened.crops(asked, len(table), lowest=lowest), start=1):
            with replacing(crops / f"{asked.stem}-{side}{rank:02d}.png") as temporary:
                crop.save(temporary)
