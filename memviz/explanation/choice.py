"""Which layers are shown when a score is explained, and what is known of the part in which one lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from memviz.errors import LayerError
from memviz.explanation.checkup import Checkup, find_checkup
from memviz.index import Index
from memviz.layers import Layer
from memviz.layers.unit import lies_in
from memviz.models import Model
from memviz.models.weights import finding

IDLE = "no effect on the score"  # how a finding says that a branch may be left out
_MOST = 4  # of a branch


def default_layers(candidates: Sequence[Layer]) -> list[Layer]:
    """Up to four layers of a branch, from shallow to deep.

    The last of each size of maps; where those are fewer than three or more than four, layers at equal distances. Where
    there are residual blocks only those count.

    >>> sizes = (55, 27, 13, 13, 13)
    >>> layers = [Layer(f"c{n}", "Conv2d", 8, s, s, None, None, None, None, False) for n, s in enumerate(sizes)]
    >>> [layer.address for layer in default_layers(layers)]
    ['c0', 'c1', 'c4']
    """
    blocks = [layer for layer in candidates if layer.block]
    layers = blocks or list(candidates)
    ends = [
        layer
        for layer, after in zip(layers, [*layers[1:], None], strict=True)
        if after is None or (layer.height, layer.width) != (after.height, after.width)
    ]
    pool = layers if len(ends) < 3 else ends
    places = np.linspace(0, len(pool) - 1, min(_MOST, len(pool))).round().astype(int)
    return [pool[place] for place in dict.fromkeys(places.tolist())]


def chosen_layers(model: Model, index: Index | None, given: Iterable[str] | None, weights: str) -> list[Layer]:
    """The layers whose units are shown, in executed order.

    Args:
        model: whose they are.
        index: that must watch them, if there is one.
        given: addresses or convolution ordinals; None takes `default_layers` of each branch of which nobody knows that
            it has no effect.
        weights: the model's fingerprint.

    Raises:
        LayerError: a layer that the model does not have, or that the index does not watch; no layer at all.
    """
    table = {layer.address: layer for layer in (model.layers if index is None else index.layers)}
    if given is not None:
        addresses = {model.layers[each].address for each in given}
        if not addresses:
            raise LayerError(f"layers=(): no layer was given. Give addresses of layers of {model.name}, or None.")
        for address in addresses:
            if address not in table:
                assert index is not None
                raise LayerError(
                    f"The index {index.path} does not watch {address!r}, so there are no photographs to show of its "
                    f"units. It watches {', '.join(list(table)[:5])} and others; or build "
                    "one that does."
                )
        return [layer for layer in model.layers if layer.address in addresses]
    watched = [layer for layer in model.layers.watched() if layer.address in table] or [*table.values()]
    checkup = None if index is None else find_checkup(index)
    parts = [part for part in model.branches if IDLE not in known_finding(weights, checkup, part)]
    outside = [layer for layer in watched if not any(lies_in(layer.address, part) for part in model.branches)]
    groups = [[layer for layer in watched if lies_in(layer.address, part)] for part in parts or model.branches]
    return [layer for group in (*groups, outside) if group for layer in default_layers(group)]


def known_finding(weights: str, checkup: Checkup | None, address: str) -> str:
    """What a checkup, or else the registry of published weights, has to say of a part: a phrase."""
    return checkup.finding(address) if checkup else finding(weights, address)
