"""Are a unit's picture and the photographs that excite it processed alike on their way to it?

Geirhos et al. 2023, "Don't trust your eyes: on the (un)reliability of feature visualizations" (arXiv 2306.04719),
compare the activations of a layer for a synthetic picture of a class and for photographs of that class, by Spearman's
rank correlation, with two standards: photographs of the same class, and of different ones. As a share of the way from
one to the other, ::

    (synthetic - other) / (same - other)

is 1 where the picture is processed as the photographs are, and 0 where it is as unlike them as photographs of something
else. A picture may excite a unit on another path than photographs do; then it is no evidence of what the unit does with
photographs.

What differs here: units of any layer have no class, so the photographs of a unit are those that excite it most, and
"other" are those of other units of its layer; and of each channel its peak is compared, not the whole map, since what a
unit looks for may be anywhere in a picture. Peaks are taken in standard deviations from their mean over photographs: as
they are, photographs of one unit of ResMem's `resnet.layer2.3` correlate by .65 and those of two by .62, since some
channels are always more active than others, which hides what tells the former from the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Paths:
    """Mean rank correlations of activations at a layer, (units,) each; nan where there is no such pair.

    Attributes:
        synthetic: of a unit's pictures and its photographs.
        same: of two of its photographs.
        other: of one of its photographs, and one of another unit's.
    """

    synthetic: Values
    same: Values
    other: Values


def path_similarity(
    photographs: NDArray[np.floating], pictures: Sequence[NDArray[np.floating]], best: NDArray[np.intp]
) -> Paths:
    """How alike units' pictures and photographs are to a layer, each pair by Spearman's correlation over its channels.

    Args:
        photographs: (photographs, channels), activations of the layer.
        pictures: of each unit, (its pictures, channels), of the same layer.
        best: (units, several) places of the photographs that excite each unit most. The same photograph is no pair.

    Example:
        >>> photographs = np.array([[1.0, 2, 3], [1, 2, 4], [3, 2, 1], [4, 2, 1]])
        >>> best = np.array([[0, 1], [2, 3]])
        >>> found = path_similarity(photographs, [photographs[:1], photographs[:1]], best)
        >>> [each.round(3).tolist() for each in (found.synthetic, found.same, found.other)]
        [[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]
    """
    mean, spread = photographs.mean(0, dtype=np.float64), photographs.std(0, dtype=np.float64)
    spread[spread == 0] = 1  # a channel that no photograph moves says the same of all
    ranked = _standardized((photographs - mean) / spread)
    count = best.shape[1]
    # A mean over pairs is a product of sums: no matrix of all pairs is made.
    sums = ranked[best].sum(1)
    synthetic = np.array(
        [
            _standardized((own - mean) / spread).mean(0) @ total / count if len(own) else np.nan
            for own, total in zip(pictures, sums, strict=True)
        ]
    )
    # A layer that is constant on a photograph correlates with nothing, itself included.
    itself = (ranked**2).sum(1)
    same = _divide((sums**2).sum(1) - itself[best].sum(1), np.full(len(best), count * (count - 1.0)))
    shown = np.zeros((len(best), len(photographs)))
    np.put_along_axis(shown, best, 1, axis=1)
    shared = shown * (shown.sum(0) - shown)  # how often another unit has a photograph, too
    pairs = count * count * (len(best) - 1) - shared.sum(1)
    other = _divide((sums * (sums.sum(0) - sums)).sum(1) - shared @ itself, pairs)
    return Paths(synthetic, same, other)


def normalized(synthetic: Values, same: Values, other: Values) -> Values:
    """The share of the way from `other` to `same`, as the module defines it; nan where that way has no length.

    >>> normalized(np.array([0.5]), np.array([0.6]), np.array([0.2])).round(2).tolist()
    [0.75]
    """
    way = same - other
    return _divide(synthetic - other, way)


def _standardized(values: NDArray[np.floating]) -> Values:
    """Ranks over channels, centred, of length 1, so that products are Spearman's correlations; zeros for a constant."""
    ranks = rankdata(values, axis=1)
    ranks = ranks - ranks.mean(1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    found: Values = np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0)
    return found


def _divide(parts: Values, wholes: Values) -> Values:
    found: Values = np.full(np.shape(parts), np.nan)
    np.divide(parts, wholes, out=found, where=wholes > 0)
    return found
