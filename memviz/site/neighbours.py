"""Which units of a layer are excited by the same photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from memviz.index import IndexedLayer

MOST = 6


def neighbours(layer: IndexedLayer, most: int = MOST) -> list[list[int]]:
    """Of each unit the channels that are most like it by what excites them, the most alike first.

    Compared are the photographs that an index keeps at the units' upper ends, each weighted by how many standard
    deviations it lies above the unit's mean: the cosine of two units' weights. Units that share no photograph are no
    neighbours, nor are those that do not vary.

    Args:
        layer: of an index, C units.
        most: how many at most.

    Returns:
        C lists of channels.
    """
    spread = np.where(layer.std > 0, layer.std, np.inf)[:, None]
    weights = np.maximum(0, (layer.values[:, 0] - layer.mean[:, None]) / spread)
    units, kept = weights.shape
    starts = np.arange(0, units * kept + 1, kept)
    matrix = sparse.csr_array(
        (weights.ravel(), layer.images[:, 0].ravel(), starts), shape=(units, layer.index.result.files)
    )
    length = np.sqrt(np.square(weights).sum(axis=1))
    found = []
    for start in range(0, units, 512):  # a block at a time, since the similarities of 4,096 units take 67 MB
        block = slice(start, min(start + 512, units))
        alike = (matrix[block] @ matrix.T).toarray()
        alike /= np.maximum(length[block, None] * length, np.finfo(np.float32).tiny)
        alike[np.arange(len(alike)), np.arange(units)[block]] = 0
        found += _largest(alike, most)
    return found


def _largest(alike: NDArray[np.float32], most: int) -> list[list[int]]:
    order = np.argsort(-alike, axis=1, kind="stable")[:, :most]
    return [[int(unit) for unit in row if alike[place, unit] > 0] for place, row in enumerate(order)]
