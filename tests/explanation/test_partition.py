"""Variance partitioning where the answer is known, and against ridge regression solved by numpy."""

import numpy as np
import pytest
from helpers import undisturbed
from sklearn.model_selection import KFold

from memviz.errors import ImageError
from memviz.explanation.partition import PENALTIES, held_out_errors, scaled
from memviz.explanation.perceptual import Features

RANDOM = np.random.default_rng(0)
PHOTOGRAPHS = 300


def features(values, groups=None):
    count = values.shape[1]
    return Features(values, tuple(map(str, range(count))), tuple(groups or ["x"] * count))


SHARED = RANDOM.normal(size=(PHOTOGRAPHS, 2))
PERCEPTUAL = features(np.hstack([RANDOM.normal(size=(PHOTOGRAPHS, 4)), SHARED]))
CONCEPTUAL = features(np.hstack([RANDOM.normal(size=(PHOTOGRAPHS, 30)), SHARED]))


def shares(values, components=30, perceptual=PERCEPTUAL, conceptual=CONCEPTUAL):
    with undisturbed():
        found = held_out_errors(perceptual, conceptual, values, components, 10, 0).shares()
    return found["perceptual"], found["conceptual"], found["both"]


def test_units_with_known_shares():
    own, other, common = PERCEPTUAL.values[:, 0], CONCEPTUAL.values[:, :30].sum(1) / np.sqrt(30), SHARED[:, 0]
    noise = RANDOM.normal(size=PHOTOGRAPHS)
    units = np.stack([3 + 5 * own, common, noise, own + other, own + noise], axis=1)
    perceptual, conceptual, both = shares(units, components=32)
    # Exact function of a perceptual feature: all of it there, nothing unique to the concepts.
    assert perceptual[0] > 0.99
    assert abs((both - perceptual)[0]) < 0.01
    assert (both - conceptual)[0] > 0.9
    # Of a feature that both have, nothing is unique to either.
    assert min(perceptual[1], conceptual[1]) > 0.9
    assert max((both - perceptual)[1], (both - conceptual)[1]) < 0.1
    # A random one.
    assert max(abs(perceptual[2]), abs(conceptual[2]), abs(both[2])) < 0.05
    # A sum: half each.
    assert (both - conceptual)[3] == pytest.approx(0.5, abs=0.12)
    assert (both - perceptual)[3] == pytest.approx(0.5, abs=0.12)
    assert both[4] == pytest.approx(0.5, abs=0.12)


def test_features_that_say_nothing_cost_nothing():
    useless = features(np.random.default_rng(5).normal(size=(PHOTOGRAPHS, 60)))
    unit = 0.4 * CONCEPTUAL.values[:, :30].sum(1)[:, None] / np.sqrt(30) + RANDOM.normal(size=(PHOTOGRAPHS, 20))
    perceptual, conceptual, both = shares(unit, 60, useless, CONCEPTUAL)
    assert perceptual.mean() < 0.02
    assert (both - conceptual).mean() == pytest.approx(0, abs=0.01)


def test_nothing_depends_on_a_units_scale_or_on_other_units():
    units = RANDOM.normal(size=(PHOTOGRAPHS, 2)) + PERCEPTUAL.values[:, :2]
    for one, two in zip(shares(units), shares(7 - 1e4 * units[:, [1]]), strict=True):
        assert one[1] == pytest.approx(two[0], rel=1e-6)


def test_against_numpy_and_leaving_one_out_by_hand():
    count, folds = 40, 4
    one, two = RANDOM.normal(size=(2, count, 3)) * [1, 3, 9] + 5
    unit = one @ [1, 0.1, 0] + RANDOM.normal(size=count)
    found = held_out_errors(features(one), features(two), unit[:, None], 3, folds, 0)
    for training, left in KFold(folds, shuffle=True, random_state=0).split(one):
        mean, spread = one[training].mean(0), one[training].std(0)
        design = (one - mean) / spread / np.sqrt(3)
        best = min(PENALTIES, key=lambda penalty: leave_one_out(design[training], unit[training], penalty))
        predicted = ridge(design[training], unit[training], best * len(training), design[left])
        np.testing.assert_allclose(found.sets["perceptual"][left, 0], (predicted - unit[left]) ** 2, rtol=1e-5)
        np.testing.assert_allclose(found.base[left, 0], (unit[left] - unit[training].mean()) ** 2, rtol=1e-9)


def leave_one_out(design, unit, penalty):
    rows = range(len(unit))
    kept = [[other for other in rows if other != row] for row in rows]
    errors = [
        unit[row] - ridge(design[rest], unit[rest], penalty * len(unit), design[[row]])[0]
        for row, rest in zip(rows, kept, strict=True)
    ]
    return np.mean(np.square(errors))


def ridge(design, unit, penalty, new):
    centre = design.mean(0)
    inside = design - centre
    slopes = np.linalg.solve(inside.T @ inside + penalty * np.eye(3), inside.T @ (unit - unit.mean()))
    return unit.mean() + (new - centre) @ slopes


def test_shares_of_resamples_are_those_of_repeated_photographs():
    units = RANDOM.normal(size=(PHOTOGRAPHS, 3)) + PERCEPTUAL.values[:, :3]
    errors = held_out_errors(PERCEPTUAL, CONCEPTUAL, units, 5, 5, 0)
    drawn = RANDOM.integers(0, PHOTOGRAPHS, PHOTOGRAPHS)
    weights = np.bincount(drawn, minlength=PHOTOGRAPHS).astype(float)
    expected = 1 - errors.sets["both"][drawn].sum(0) / errors.base[drawn].sum(0)
    np.testing.assert_allclose(errors.shares(weights[None])["both"][0], expected)


def test_groups_count_alike_and_constant_features_are_left_out():
    values = np.hstack([RANDOM.normal(3, 9, (50, 6)), np.full((50, 1), 4.0)])
    found = scaled(features(values, ["a"] * 4 + ["b"] * 3))
    assert found.shape == (50, 6)
    assert found[:, :4].var(0).sum() == pytest.approx(1) == found[:, 4:].var(0).sum()


def test_too_few_photographs():
    few = features(RANDOM.normal(size=(40, 5)))
    with pytest.raises(ImageError, match=r"40 photographs are too few .* give 232 or more, or components=6 at most"):
        held_out_errors(few, few, few.values, 50, 10, 0)
    held_out_errors(few, few, few.values, 6, 10, 0)
    with pytest.raises(ImageError, match="folds=1"):
        held_out_errors(few, few, few.values, 2, 1, 0)
