from itertools import product

import numpy as np
import pytest
from helpers import undisturbed
from scipy import stats

from memviz.evaluation import metrics
from memviz.evaluation.metrics import CONSISTENCY, Consistency, bootstrap_interval, mae, mse, spearman, spread


@pytest.fixture
def scores():
    """Truth rounded as LaMem's is, so that there are ties, and predictions that shrink it and add noise."""
    random = np.random.default_rng(3)
    truth = random.beta(8, 3, 200).round(2)
    return truth, 0.5 * truth + 0.35 + random.normal(0, 0.05, 200)


def test_errors_by_hand(scores):
    truth, prediction = scores
    pairs = list(zip(truth, prediction, strict=True))
    assert mse(truth, prediction) == pytest.approx(sum((p - t) ** 2 for t, p in pairs) / 200)
    assert mae(truth, prediction) == pytest.approx(sum(abs(p - t) for t, p in pairs) / 200)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_spearman_as_scipy_with_ties(scores, digits):
    truth, prediction = scores[0], scores[1].round(digits)
    assert spearman(truth, prediction) == pytest.approx(stats.spearmanr(truth, prediction).statistic, abs=1e-12)
    assert spearman(truth, -prediction) == -spearman(truth, prediction)


def test_spearman_needs_two_different_values():
    assert np.isnan(spearman([0.1, 0.2], [0.5, 0.5]))
    assert np.isnan(spearman([0.1], [0.5]))


@pytest.mark.parametrize("statistic", [mse, mae, spearman])
def test_bootstrap_as_scipy(scores, statistic):
    theirs = stats.bootstrap(
        scores, statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile",
        confidence_level=0.9, rng=np.random.default_rng(9),
    )  # fmt: skip
    low, high = bootstrap_interval(*scores, statistic, resamples=2000, level=0.9)
    expected = theirs.confidence_interval
    assert low < statistic(*scores) < high
    np.testing.assert_allclose([low, high], expected, atol=0.07 * (expected.high - expected.low))


def test_bootstrap_as_all_resamples():
    truth, prediction = np.array([0.1, 0.5, 0.6, 0.9]), np.array([0.3, 0.5, 0.4, 0.6])
    every = [mae(truth[list(drawn)], prediction[list(drawn)]) for drawn in product(range(4), repeat=4)]
    found = bootstrap_interval(truth, prediction, mae, resamples=4000, level=0.5)
    np.testing.assert_allclose(found, np.quantile(every, [0.25, 0.75]), atol=0.011)


def test_bootstrap_depends_on_its_seed_alone(scores):
    with undisturbed():
        first = bootstrap_interval(*scores, mse, 50)
    assert first == bootstrap_interval(*scores, mse, 50)
    assert first != bootstrap_interval(*scores, mse, 50, seed=1)


def test_bootstrap_without_the_statistic_is_nan():
    assert np.isnan(bootstrap_interval([0.1, 0.2], [0.5, 0.5], spearman, 20)).all()
    assert not np.isnan(bootstrap_interval([0.1, 0.2], [0.4, 0.5], spearman, 20)).any()  # some resamples have none


def test_spread_as_scipy(scores):
    found = spread(*scores)
    truth, prediction = scores
    assert found.slope == pytest.approx(stats.linregress(truth, prediction).slope)
    assert found.sd_ratio == pytest.approx(prediction.std() / truth.std())
    assert (found.truth_mean, found.prediction_mean) == pytest.approx((truth.mean(), prediction.mean()))
    assert found.truth_sd == pytest.approx(truth.std(ddof=1))
    assert found.outside == np.mean([not found.lowest <= value <= found.highest for value in truth]) > 0


def test_spread_of_a_constant_prediction():
    found = spread([0.2, 0.5, 0.8], [0.5, 0.5, 0.5])
    assert (found.sd_ratio, found.slope, found.outside) == pytest.approx((0, 0, 2 / 3))


@pytest.mark.parametrize("truth", [[0.5], [0.5, 0.5]])
def test_spread_that_is_not_defined(truth):
    found = spread(truth, truth)
    assert np.isnan([found.sd_ratio, found.slope]).all()
    assert found.outside == 0


@pytest.mark.parametrize("source", CONSISTENCY)
def test_ceiling_by_simulation(source):
    """People's halves that agree as the set's do, beside what everyone would score."""
    half = CONSISTENCY[source].split_half
    random = np.random.default_rng(0)
    true = random.normal(size=200_000)
    halves = [true + random.normal(0, np.sqrt(1 / half - 1), true.shape) for _ in range(2)]
    assert np.corrcoef(*halves)[0, 1] == pytest.approx(half, abs=0.01)
    assert np.corrcoef(true, sum(halves))[0, 1] == pytest.approx(CONSISTENCY[source].ceiling, abs=0.01)


def test_ceiling_of_perfect_agreement():
    assert Consistency(1, "").ceiling == 1
    assert metrics.CONSISTENCY["memcat"].ceiling == pytest.approx(0.936, abs=1e-3)
