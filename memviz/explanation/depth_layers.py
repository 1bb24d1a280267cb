"""Which layers and units a depth profile looks at, and how deep each layer lies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memviz.errors import LayerError
from memviz.index import Index
from memviz.layers import Layer, LayerTable
from memviz.layers.unit import lies_in
from memviz.models import Model

LAYERS = 14  # of each branch, by default
# A unit with the same value on so many of the photographs has too little that could be explained.
STILL = 0.5


def choose_layers(model: Model, index: Index, wanted: Sequence[str] | None) -> list[Layer]:
    """The layers that were asked for; by default up to 14 of each branch, evenly from its first to its last.

    By default, of a residual block its output is looked at, and not what lies in it.

    Raises:
        LayerError: a layer that the index does not watch.
    """
    if wanted is not None:
        watched = {layer.address for layer in index.layers}
        for address in wanted:
            if address not in watched and address in {layer.address for layer in model.layers}:
                raise LayerError(
                    f"The index {index.path} does not watch {address!r}. Choose one of its layers, as "
                    f"{index.layers[0].address!r}, or build an index with that layer."
                )
        chosen = [index.layers[address] for address in wanted]
        if not chosen:
            raise LayerError("No layer was given: give addresses, or None for some of each branch.")
        order = [layer.address for layer in index.layers]
        return sorted(dict.fromkeys(chosen), key=lambda layer: order.index(layer.address))
    blocks = [layer.address for layer in index.layers if layer.block]
    outer = [
        layer
        for layer in index.layers
        if not any(lies_in(layer.address, block) and layer.address != block for block in blocks)
    ]
    chosen = []
    for branch in model.branches or ("",):
        own = [layer for layer in outer if find_branch(model, layer.address) == branch]
        places = np.unique(np.linspace(0, len(own) - 1, min(LAYERS, len(own))).round().astype(int))
        chosen += [own[place] for place in places]
    if not chosen:
        raise LayerError(f"The index {index.path} watches no layer of a branch of {model.name}: say which, layers=.")
    return chosen


def find_branch(model: Model, address: str) -> str:
    """The branch in which a layer lies; empty where there are none."""
    return next((branch for branch in model.branches if lies_in(address, branch)), "")


def count_convolutions(layers: LayerTable, address: str) -> int:
    """How many convolutions of its branch, shortcuts not counted, there are up to the end of a layer.

    >>> from memviz.layers.table import Layer
    >>> rows = [("a.1", "a@1"), ("a.2", "a@2"), ("b.1", "b@1"), ("a", None)]
    >>> table = LayerTable(Layer(name, "Conv2d", 1, 1, 1, None, None, None, place, False) for name, place in rows)
    >>> count_convolutions(table, "a"), count_convolutions(table, "b.1")
    (2, 1)
    """
    branch = address.partition(".")[0]
    counted = 0
    for layer in layers:
        name, _, place = (layer.ordinal or "").rpartition("@")
        if place and name in ("", branch):
            counted = int(place)
        if layer.address == address:
            break
    return counted


def choose_units(address: str, values: NDArray[np.floating], count: int, seed: int) -> tuple[NDArray[np.intp], int]:
    """A random sample of a layer's units that photographs move, sorted; and how many they do not move.

    The sample depends on the seed and the layer alone.

    >>> choose_units("conv", np.array([[0.0, 1, 2], [0, 2, 1], [0, 0, 4]]), 2, 0)
    (array([1, 2]), 1)
    """
    values = np.asarray(values)
    common = np.array([np.unique(column, return_counts=True)[1].max() for column in values.T])
    moved = np.flatnonzero(common < max(2, STILL * len(values)))
    random = np.random.default_rng([seed, zlib.crc32(address.encode())])
    chosen = random.choice(moved, min(count, len(moved)), replace=False)
    return np.sort(chosen), values.shape[1] - len(moved)
