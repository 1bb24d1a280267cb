import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from memviz.explanation.path_similarity import normalized, path_similarity


def test_means_over_pairs_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    photographs = random.integers(0, 5, size=(9, 12)).astype(float)  # with ties, and photographs that units share
    best = np.array([[0, 1, 2], [2, 3, 4], [0, 4, 8]])
    pictures = [random.normal(size=(count, 12)) for count in (1, 2, 3)]

    photographs[:, 5] = 1  # a channel that no photograph moves
    found = path_similarity(photographs, pictures, best)
    mean, spread = photographs.mean(0), photographs.std(0)
    spread[5] = 1
    photographs = (photographs - mean) / spread
    pictures = [(each - mean) / spread for each in pictures]

    def rho(one, two):
        return spearmanr(one, two).statistic

    for unit, own in enumerate(best):
        others = [place for other, row in enumerate(best) if other != unit for place in row]
        pairs = {
            "synthetic": [rho(picture, photographs[place]) for picture in pictures[unit] for place in own],
            "same": [rho(photographs[one], photographs[two]) for one, two in itertools.combinations(own, 2)],
            "other": [rho(photographs[one], photographs[two]) for one in own for two in others if one != two],
        }
        for name, values in pairs.items():
            assert getattr(found, name)[unit] == pytest.approx(np.mean(values)), (unit, name)


def test_nothing_to_compare_with():
    photographs = np.random.default_rng(0).normal(size=(4, 6))
    found = path_similarity(photographs, [photographs[:0], photographs[:1]], np.array([[0], [0]]))
    assert np.isnan(found.synthetic).tolist() == [True, False]
    assert np.isnan(found.same).all()
    assert np.isnan(found.other).all()  # both have the same photograph alone


def test_the_share_of_the_way():
    same, other = np.array([0.8, 0.8, 0.8, 0.3]), np.array([0.2, 0.2, 0.2, 0.3])
    found = normalized(np.array([0.8, 0.2, 0.05, 0.3]), same, other)
    np.testing.assert_allclose(found, [1, 0, -0.25, np.nan])


def test_what_all_photographs_have_in_common_does_not_count():
    """Channels that are always active make no two photographs alike."""
    random = np.random.default_rng(0)
    photographs = random.normal(size=(30, 40)) + 100 * np.arange(40)
    best = np.arange(30).reshape(10, 3)
    found = path_similarity(photographs, [photographs[:1]] * 10, best)
    assert abs(found.same.mean()) < 0.1
    assert abs(found.other.mean()) < 0.05
