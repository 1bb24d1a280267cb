import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from memviz.explanation.path_similarity import normalized, path_similarity


def test_means_over_pairs_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    photographs = random.integers(0, 5, size=(9, 12)).astype(float)  # with ties, and photographs that units share
    photographs[4] = 2  # constant: it correlates with nothing
    best = np.array([[0, 1, 2], [2, 3, 4], [0, 4, 8]])
    pictures = [random.normal(size=(count, 12)) for count in (1, 2, 3)]

    def rho(one, two):
        return 0.0 if np.ptp(one) == 0 or np.ptp(two) == 0 else spearmanr(one, two).statistic

    found = path_similarity(photographs, pictures, best)
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
