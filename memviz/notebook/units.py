"""One unit at a time, with the next a key away."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from memviz.errors import NotebookError
from memviz.index import Index
from memviz.layers.unit import Unit
from memviz.notebook.saved import Saved
from memviz.notebook.view import View, cards, fill, show

if TYPE_CHECKING:
    from memviz.notebook.widget import Widget


def units(
    index: Index | str | os.PathLike[str],
    units: str | Unit | Iterable[str | Unit],
    renders: str | os.PathLike[str] | None = None,
) -> Widget:
    """One unit at a time: its picture, what it saw of its best photographs, its activations, label and drive.

    Buttons and arrow keys show the previous and the next; `.unit` says which is shown.

    Args:
        index: of the network, or its folder.
        units: a layer ("resnet.layer2.3"), a unit ("resnet.layer2.3:5"), or several units, also of several layers.
        renders: folder of `memviz render`, with a folder a layer in it.

    Raises:
        LayerError: a layer that the index does not watch, or a unit that it does not have.
        NotebookError: no unit, or the extra `notebook` is not installed.
        StoreError: no index, renders of other weights than its, or damaged ones.

    Example:
        >>> import memviz
        >>> drivers = ["resnet.layer4.2:7", "resnet.layer4.2:1020"]
        >>> memviz.notebook.units("runs/photos", drivers, "renders")  # doctest: +SKIP
    """
    saved = Saved(index, renders)
    shown = saved.units(units)
    if not shown:
        raise NotebookError("No unit to show: give a layer, a unit, or several units.")
    for address in {unit.address for unit in shown}:
        saved.layer(address)  # what cannot be shown is told now, and not when somebody comes to it
    layers = list(dict.fromkeys(unit.address for unit in shown))
    count = "1 unit" if len(shown) == 1 else f"{len(shown):,} units"
    title = f"{saved.model} {layers[0] if len(layers) == 1 else f'{len(layers)} layers'}: {count}"
    choices = {str(unit): unit for unit in shown}
    rows = [[(name, name, saved.text(unit)) for name, unit in choices.items()]]

    def body(live: bool) -> str:
        return fill("turner.html", live=live, title=title, sides=rows, legends=("Unit",))

    first = next(iter(choices))
    return show(View(title, (choices,), (first,), body, lambda chosen: cards(saved.unit(chosen[0]))))
