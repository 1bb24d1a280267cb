"""All units of a layer as small pictures; pointing at one shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from memviz.errors import NotebookError
from memviz.index import Index
from memviz.layers.unit import units_of
from memviz.notebook.embed import Cell, cell_side, sheets
from memviz.notebook.saved import Saved
from memviz.notebook.view import View, cards, fill, show
from memviz.progress import progress as show_progress

if TYPE_CHECKING:
    from memviz.notebook.widget import Widget

ORDERS = {
    "number": "by number",
    "selectivity": "the most selective first",
    "drive": "those that raise the score most first",
}


def strip(
    index: Index | str | os.PathLike[str],
    layer: str,
    renders: str | os.PathLike[str] | None = None,
    *,
    order: str = "number",
    progress: bool | None = None,
) -> Widget:
    """All units of a layer as small pictures: their renders, or what they saw of their best photographs.

    Pointing at one shows it, a click keeps it, and arrow keys go on; `.unit` says which is shown.

    Args:
        index: of the network, or its folder.
        layer: an address, or an ordinal.
        renders: folder of `memviz render`, with a folder a layer in it.
        order: of the units: "number", "selectivity" (how many standard deviations the best photograph lies above the
            unit's mean), or "drive" (how much the unit adds to the logit, as `memviz.drivers` finds it).
        progress: None shows it where there is a terminal or a notebook.

    Raises:
        LayerError: a layer that the index does not watch.
        NotebookError: another order, an order by drive without a survey, or the extra `notebook` is not installed.
        StoreError: no index, renders of other weights than its, or damaged ones.

    Example:
        >>> import memviz
        >>> units = memviz.notebook.strip("runs/photos", "resnet.layer2.3", "renders")  # doctest: +SKIP
        >>> units.unit  # doctest: +SKIP
        'resnet.layer2.3:0'
    """
    saved = Saved(index, renders)
    facts = saved.layer(layer)
    address = facts.layer.address
    channels = _ordered(saved, address, order)
    with show_progress("Small pictures", len(channels), "units", progress) as advance:
        faces = saved.faces(address, channels, cell_side(len(channels)), advance)
    indexed = saved.index.layer(address)
    units = units_of(facts.layer, channels)
    cells = []
    for unit in units:
        absent = "" if unit.channel in faces else "photograph gone" if indexed.std[unit.channel] > 0 else "never varies"
        cells.append(Cell(str(unit), unit.channel, saved.text(unit), absent))
    drawn = sum(picture.record.shown for picture in facts.pictures.values())
    gone = sum(cell.absent == "photograph gone" for cell in cells)
    count = "1 unit" if len(cells) == 1 else f"{len(cells):,} units, {ORDERS[order]}"
    made = sheets(cells, [faces.get(channel) for channel in channels])
    title = f"{saved.model} {address}: {count}"

    def body(live: bool) -> str:
        return fill("strip.html", live=live, title=title, facts=facts, sheets=made, drawn=drawn, gone=gone)

    choices = {str(unit): unit for unit in units}
    return show(View(title, (choices,), (cells[0].unit,), body, lambda chosen: cards(saved.unit(chosen[0]))))


def _ordered(saved: Saved, address: str, order: str) -> list[int]:
    """The channels of a layer in an order."""
    indexed = saved.index.layer(address)
    if order == "number":
        return list(range(indexed.layer.channels))
    if order == "selectivity":
        spread = np.where(indexed.std > 0, indexed.std, np.inf)
        values = (indexed.values[:, 0, 0] - indexed.mean) / spread
    elif order == "drive":
        rows = saved.layer(address).drivers
        if not rows:
            raise NotebookError(
                f"What drives the score is not known of {address}: survey it first, memviz.drivers(model, index), or "
                f"`memviz drivers {saved.model} --index INDEX`."
            )
        values = np.array([rows[channel]["drive"] for channel in range(indexed.layer.channels)])
    else:
        raise NotebookError(f"There is no order {order!r}. The orders are: {', '.join(ORDERS)}.")
    return [int(channel) for channel in np.argsort(-values, kind="stable")]
