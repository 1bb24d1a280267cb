"""An explained photograph: its map over it, and what raises and lowers its score."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from memviz.errors import NotebookError, StoreError
from memviz.explanation.record import Contribution, Explanation, load_explanation
from memviz.gallery.explanation import draw_map, largest, title
from memviz.gallery.overlay import gradient
from memviz.gallery.page import number, signed
from memviz.index import Index
from memviz.layers.unit import Unit
from memviz.notebook.embed import data_uri
from memviz.notebook.saved import Saved
from memviz.notebook.view import View, cards, fill, show

if TYPE_CHECKING:
    from memviz.notebook.widget import Widget

_SIDE = 480  # px, the longer side of the photograph
_MOST = 8  # of a layer's units on each side


def photograph(
    explanation: Explanation | str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    renders: str | os.PathLike[str] | None = None,
) -> Widget:
    """A photograph with its map over it, its score, and the classes and units that raise and lower it.

    A slider says how much of the map is seen; pointing at a unit shows it, and `.unit` says which is shown.

    Args:
        explanation: what `memviz.explain` found of a photograph, or the folder where it saved that.
        index: of the network, or its folder: what each unit saw is then shown, where it watches the unit's layer.
        renders: folder of `memviz render`, with a folder a layer in it.

    Raises:
        NotebookError: renders without an index, or the extra `notebook` is not installed.
        StoreError: no explanation, one without its picture, or an index or renders of other weights than its.

    Example:
        >>> import memviz
        >>> [why] = memviz.explain(model, "photo.jpg", index, out="why")  # doctest: +SKIP
        >>> memviz.notebook.photograph(why, index)  # doctest: +SKIP
    """
    found = explanation if isinstance(explanation, Explanation) else load_explanation(explanation)
    if found.picture is None or found.map is None:
        raise StoreError("The explanation has no picture or no map. Load it from its folder with load_explanation.")
    if index is None and renders is not None:
        raise NotebookError("Renders are shown beside photographs of an index: give the index, too.")
    saved = None if index is None else Saved(index, renders)
    if saved is not None and str(saved.index.manifest.weights) != found.weights:
        raise StoreError(f"The index {saved.index.path} is of other weights than the explanation. Give its own.")
    layers = [
        (layer, side, units[:_MOST])
        for layer in (*found.named, *found.layers)
        for side, units in (("raises", layer.raising), ("lowers", layer.lowering))
    ]
    listed = {each.unit: (layer, each) for layer, _, units in layers for each in units}
    choices = {name: _unit(name) for name in listed}
    pieces = {
        "picture": data_uri(found.picture, _SIDE),
        "map": data_uri(draw_map(found), _SIDE),
        "gradient": ", ".join(gradient()),
        "layers": [(layer, [each for each in layers if each[0] is layer]) for layer in (*found.named, *found.layers)],
        "largest": largest,
    }

    def body(live: bool) -> str:
        return fill("photograph.html", live=live, found=found, title=title(found), **pieces)

    def detail(chosen: tuple[Unit, ...]) -> tuple[str, str]:
        told = _told(*listed[str(chosen[0])][1:], found)
        if saved is None or chosen[0].address not in {layer.address for layer in saved.index.layers}:
            return cards(notes=(told,))
        return cards(saved.unit(chosen[0]), notes=(told,))

    name = f"{found.model} on {found.photograph}: {found.what} {found.score:.3f}"
    return show(View(name, (choices,), tuple(choices)[:1], body, detail))


def _unit(name: str) -> Unit:
    address, _, channel = name.rpartition(":")
    return Unit(address, int(channel))


def _told(unit: Contribution, found: Explanation) -> str:
    """What a unit adds, in a sentence."""
    named = f"{unit.unit}{f' ({unit.name})' if unit.name else ''}"
    return (
        f"{named} adds {signed(unit.contribution)} to the {found.scale} of {found.photograph}: its mean activation is "
        f"{number(unit.value)}, on the references {number(unit.reference)}"
    )
