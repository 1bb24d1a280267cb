"""Representational similarity, against scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from memviz.errors import ImageError
from memviz.explanation.similarity import dissimilarities, pair_ranks, rank_correlations

ONE = np.random.default_rng(0).normal(size=(25, 40))
TWO = ONE[:, :10] + np.random.default_rng(1).normal(size=(25, 10))


def test_distance_is_that_of_scipy():
    np.testing.assert_allclose(dissimilarities(ONE), squareform(pdist(ONE, "correlation")), atol=1e-12)


def test_spearman_is_that_of_scipy_also_with_ties():
    for one, two in ((ONE, TWO), (ONE.round(0), TWO.round(0)), (ONE[:, :3] > 0, TWO)):
        matrices = dissimilarities(one), dissimilarities(two)
        above = np.triu_indices(25, 1)
        expected = spearmanr(matrices[0][above], matrices[1][above]).statistic
        assert rank_correlations(*map(pair_ranks, matrices))[0] == pytest.approx(expected, abs=1e-12)


def test_a_resample_counts_pairs_by_hand():
    drawn = np.random.default_rng(2).integers(0, 25, 25)
    one, two = pair_ranks(dissimilarities(ONE)), pair_ranks(dissimilarities(TWO))
    pairs = [(a, b) for a in drawn for b in drawn if a != b]
    expected = np.corrcoef([one[pair] for pair in pairs], [two[pair] for pair in pairs])[0, 1]
    weights = np.bincount(drawn, minlength=25).astype(float)
    assert rank_correlations(one, two, np.stack([weights, weights]))[1] == pytest.approx(expected, abs=1e-12)


def test_too_few():
    with pytest.raises(ImageError, match="2 photographs have too few pairs"):
        pair_ranks(dissimilarities(ONE[:2]))
