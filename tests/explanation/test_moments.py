import numpy as np
import pytest

from memviz.explanation.moments import Moments


def by_hand(activations, gradients):
    """In two passes, from (photographs, positions) of one unit."""
    m = activations.mean()
    own = ((activations - m) * gradients).sum(1)
    level = activations.mean(1)
    strength = np.sqrt(np.mean(own**2))
    return {
        "mean": m,
        "contribution": own.mean(),
        "sd": own.std(ddof=1),
        "strength": strength,
        "consistency": abs(own.mean()) / strength,
        "drive": np.cov(own, level, ddof=0)[0, 1] / level.std(),
    }


def drawn(count=60, positions=9, offset=0.0, seed=0):
    random = np.random.default_rng(seed)
    activations = random.gamma(2, size=(count, positions)) + offset
    return activations, random.normal(0.3, 1, size=(count, positions)) + 0.2 * activations


def found(activations, gradients):
    return np.stack([activations.mean(1), (activations * gradients).sum(1), gradients.sum(1)])[..., None]


@pytest.mark.parametrize("offset", [0, 5, -1000])
def test_as_in_two_passes(offset):
    """Also where the activation is far from 0, so that A and m G nearly cancel."""
    activations, gradients = drawn(offset=offset)
    figures = Moments.of(found(activations, gradients)).figures()
    for name, expected in by_hand(activations, gradients).items():
        assert figures[name][0] == pytest.approx(expected, rel=1e-8), name


@pytest.mark.parametrize("cuts", [[1], [59], [7, 8, 30], range(1, 60), [0, 20, 20]])
def test_any_division_gives_the_same(cuts):
    numbers = found(*drawn())
    whole = Moments.of(numbers).figures()
    parts = [Moments.of(part) for part in np.split(numbers, list(cuts), axis=1)]
    order = np.random.default_rng(1).permutation(len(parts))
    total = sum((parts[place] for place in order), start=Moments.none(1))
    assert total.photographs == 60
    for name, values in total.figures().items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12, err_msg=name)


def test_a_linear_unit_contributes_nothing_on_average_but_drives():
    """A weight of -3 on an activation at one position: c = -3 (a - m)."""
    level = np.random.default_rng(0).normal(2, 0.5, size=(200, 1))
    figures = Moments.of(found(level, np.full_like(level, -3.0))).figures()
    assert figures["contribution"][0] == pytest.approx(0, abs=1e-12)
    assert figures["drive"][0] == pytest.approx(-3 * level.std())
    assert figures["strength"][0] == pytest.approx(3 * level.std())
    assert figures["consistency"][0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.1, -700.3])
def test_a_constant_unit_contributes_nothing(level):
    """In 32 bits, of which its sums keep the rounding."""
    gradients = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    activations = np.full_like(gradients, level)
    figures = Moments.of(found(activations, gradients).astype(np.float64)).figures()
    assert [figures[name][0] for name in ("contribution", "sd", "strength", "drive")] == [0, 0, 0, 0]
    assert np.isnan(figures["consistency"][0])
