"""Two units side by side, of one network or of two."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from memviz.index import Index
from memviz.layers.unit import Unit
from memviz.notebook.saved import Saved
from memviz.notebook.view import View, cards, fill, show

if TYPE_CHECKING:
    from memviz.notebook.widget import Widget


def compare(
    index: Index | str | os.PathLike[str],
    first: str | Unit,
    second: str | Unit,
    renders: str | os.PathLike[str] | None = None,
    *,
    other: Index | str | os.PathLike[str] | None = None,
    other_renders: str | os.PathLike[str] | None = None,
) -> Widget:
    """Two units side by side, with what may be compared of them; each side shows any unit of its layer.

    Activations are numbers of one layer of one network. What may be compared beyond that is said below the two:
    pictures, the photographs that excite both, and figures without a unit.

    Args:
        index: of the first unit's network, or its folder.
        first, second: units, as "resnet.layer3.20:5"; `.unit` and `.other` say which are shown.
        renders: folder of `memviz render`, with a folder a layer in it.
        other: the index of the second unit's network; None for the same.
        other_renders: the same of that network; with None for `other`, `renders` are taken.

    Raises:
        LayerError: a layer that the index does not watch, or a unit that it does not have.
        NotebookError: the extra `notebook` is not installed.
        StoreError: no index, renders of other weights than its, or damaged ones.

    Example:
        >>> import memviz
        >>> memviz.notebook.compare("runs/photos", "alexnet.conv5:3", "resnet.layer4.2:7")  # doctest: +SKIP
    """
    left = Saved(index, renders)
    right = left if other is None else Saved(other, other_renders)
    sides = ((left, left.units(first)[0]), (right, right.units(second)[0]))
    choices = tuple({str(unit): unit for unit in saved.units(unit.address)} for saved, unit in sides)
    for saved, unit in sides:
        saved.layer(unit.address)
    names = [saved.model for saved, _ in sides]
    title = f"{names[0]} {sides[0][1]} and {f'{names[1]} ' if right is not left else ''}{sides[1][1]}"
    legends = ("First unit", "Second unit") if right is left else names
    rows = [
        [(name, name, saved.text(unit)) for name, unit in units.items()]
        for (saved, _), units in zip(sides, choices, strict=True)
    ]

    def body(live: bool) -> str:
        return fill("turner.html", live=live, title=title, sides=rows, legends=legends)

    def detail(chosen: tuple[Unit, ...]) -> tuple[str, str]:
        return cards(left.unit(chosen[0]), right.unit(chosen[1]), notes=tuple(_comparable(left, right, *chosen)))

    return show(View(title, choices, (str(sides[0][1]), str(sides[1][1])), body, detail))


def _comparable(left: Saved, right: Saved, first: Unit, second: Unit) -> list[str]:
    """What may be compared of two units, and at what scale each was measured, in sentences."""
    indexes = left.index, right.index
    weights, seen, sizes = (
        {str(each.manifest.weights) for each in indexes},
        {each.config.photographs for each in indexes},
        list(dict.fromkeys(f"{each.inputs.size[1]} × {each.inputs.size[0]} px" for each in indexes)),
    )
    sides = ((left, first), (right, second))
    fields = [saved.layer(unit.address).field for saved, unit in sides]
    one_network = len(weights) == 1 and left.index.inputs == right.index.inputs
    if one_network and first.address == second.address:
        told = ["Both are units of one layer: their activations are measured alike, and may be compared"]
    else:
        of = "layers" if one_network else "networks"
        told = [
            f"They are units of different {of}, whose activations may not be compared as numbers: compare pictures, "
            "photographs, and what has no unit, the picture’s multiple of the best photograph and the selectivity"
        ]
    sees = f"both see {fields[0]}" if fields[0] == fields[1] else f"the first sees {fields[0]}, the second {fields[1]}"
    told.append(f"Measured at an input of {' and of '.join(sizes)}; {sees}")
    if len(seen) == 1:
        kept = [saved.index.layer(unit.address).images[unit.channel, 0] for saved, unit in sides]
        both = len(np.intersect1d(*kept))
        told.append(f"Of the {min(map(len, kept))} photographs that excite each most, they share {both or 'none'}")
    else:
        told.append("The photographs that were searched are not the same")
    return told
