"""Whether what is alike to a layer is alike by its features: representational similarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from memviz.errors import ImageError

_Values = NDArray[np.float64]


def dissimilarities(values: NDArray[np.floating]) -> _Values:
    """The dissimilarity of each two photographs, 1 - Pearson's correlation of their rows, (photographs, photographs).

    This is the correlation distance of Jozwik et al. 2018, "Deep convolutional neural networks, features, and
    categories perform similarly at explaining primate high-level visual representations". Columns come centred, as
    deviations from the photographs' mean, or what all photographs have in common would make all of them alike.

    >>> dissimilarities(np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])).round(3).tolist()
    [[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [2.0, 2.0, 0.0]]
    """
    rows = np.asarray(values, np.float64)
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    found: _Values = 1 - rows @ rows.T
    np.fill_diagonal(found, 0)
    return found


def pair_ranks(matrix: _Values) -> _Values:
    """The ranks of the pairs of photographs, in a symmetric matrix whose diagonal is 0, centred.

    Raises:
        ImageError: fewer than 3 photographs, which have too few pairs.
    """
    count = len(matrix)
    if count < 3:
        raise ImageError(f"{count} photographs have too few pairs to be ranked: give 3 or more.")
    above = np.triu_indices(count, 1)
    ranks = rankdata(matrix[above])
    found = np.zeros((count, count))
    found[above] = ranks - ranks.mean()
    return found + found.T


def rank_correlations(one: _Values, two: _Values, weights: _Values | None = None) -> _Values:
    """Spearman's correlation of two rankings of pairs, as `pair_ranks` gives them.

    Args:
        one, two: (photographs, photographs).
        weights: (resamples, photographs), how often each photograph counts. A pair counts as often as the product
            says, a photograph and itself never; ranks stay those among all photographs.

    Returns:
        (resamples,), or one number without weights; nan where all pairs are alike.

    Example:
        >>> ranks = pair_ranks(np.array([[0.0, 1, 5], [1, 0, 3], [5, 3, 0]]))
        >>> rank_correlations(ranks, -ranks).tolist()
        [-1.0]
    """
    given = np.ones((1, len(one))) if weights is None else weights
    pairs = given.sum(1) ** 2 - (given**2).sum(1)

    def mean(matrix: _Values) -> _Values:
        found: _Values = ((given @ matrix) * given).sum(1) / pairs
        return found

    means = mean(one), mean(two)
    spreads = [mean(each**2) - centre**2 for each, centre in zip((one, two), means, strict=True)]
    scale = np.sqrt(np.maximum(spreads[0] * spreads[1], 0))
    found: _Values = np.full(len(given), np.nan)
    return np.divide(mean(one * two) - means[0] * means[1], scale, out=found, where=scale > 0)
