"""How well predicted scores fit true ones: functions of two arrays, each with one number an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def mse(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Mean squared error, the loss of the paper's Table 1.

    >>> mse([0.5, 0.75], [0.75, 0.75])
    0.03125
    """
    return float(np.mean(np.square(np.subtract(prediction, truth))))


def mae(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the unit of the scores.

    >>> mae([0.5, 0.75], [0.75, 0.75])
    0.125
    """
    return float(np.mean(np.abs(np.subtract(prediction, truth))))


def spearman(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; nan if all values of one side are equal.

    >>> spearman([0.1, 0.4, 0.9], [0.6, 0.7, 0.8])
    1.0
    """
    ranks = [stats.rankdata(side) - (np.size(side) + 1) / 2 for side in (truth, prediction)]
    length = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    # Rounding may lead out of [-1, 1] in the last place.
    return float(np.clip(ranks[0] @ ranks[1] / length, -1, 1)) if length else float("nan")


def bootstrap_interval(
    truth: ArrayLike,
    prediction: ArrayLike,
    statistic: Statistic,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which a statistic of other images of the same kind is expected.

    Draws images with replacement and takes the quantiles of the statistic (percentile bootstrap, Efron and
    Tibshirani 1993, chapter 13). It covers the sampling of images, not of the participants or of the
    network's random initialization.

    Returns:
        lower and upper bound; nan where no resample has the statistic.

    Example:
        >>> low, high = bootstrap_interval([0.1, 0.4, 0.5, 0.9], [0.2, 0.5, 0.6, 0.7], mae)
        >>> low <= 0.125 <= high
        True
    """
    first, second = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for number in range(resamples):
        drawn = random.integers(0, len(first), len(first))
        values[number] = statistic(first[drawn], second[drawn])
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Spread:
    """How widely predictions spread compared with the truth: regression to the mean, as in the paper's Model Analysis.

    Attributes:
        truth_mean, prediction_mean: means of the scores.
        truth_sd, prediction_sd: standard deviations, with n - 1.
        sd_ratio: `prediction_sd / truth_sd`; 1 for the truth's own spread, 0 for a constant.
        slope: of the least-squares line of prediction on truth; below 1, predictions regress to the mean.
        lowest, highest: predictions.
        outside: share of true scores below `lowest` or above `highest`, which are never predicted.
    """

    truth_mean: float
    prediction_mean: float
    truth_sd: float
    prediction_sd: float
    sd_ratio: float
    slope: float
    lowest: float
    highest: float
    outside: float


def spread(truth: ArrayLike, prediction: ArrayLike) -> Spread:
    """Measures regression to the mean; a ratio that is not defined (one image, or equal truths) is nan.

    >>> spread([0.25, 0.5, 0.75], [0.375, 0.5, 0.625]).slope
    0.5
    """
    first, second = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    nan = float("nan")
    covariance = np.cov(first, second) if len(first) > 1 else np.full((2, 2), nan)
    truth_sd, prediction_sd = float(np.sqrt(covariance[0, 0])), float(np.sqrt(covariance[1, 1]))
    lowest, highest = float(second.min()), float(second.max())
    return Spread(
        float(first.mean()),
        float(second.mean()),
        truth_sd,
        prediction_sd,
        prediction_sd / truth_sd if truth_sd else nan,
        float(covariance[0, 1] / covariance[0, 0]) if truth_sd else nan,
        lowest,
        highest,
        float(np.mean((first < lowest) | (first > highest))),
    )


@dataclass(frozen=True)
class Consistency:
    """How well people agree on a data set.

    Attributes:
        split_half: mean Spearman correlation between the scores of two random halves of the participants.
        origin: where the number was published.
    """

    split_half: float
    origin: str

    @property
    def ceiling(self) -> float:
        """The Spearman correlation of a model that predicts the mean score over all possible participants.

        The scores of all participants have the reliability R = 2r / (1 + r) (Spearman and Brown 1910; that
        image scores follow it: Goetschalckx, Moors and Wagemans 2018), and the exact scores correlate with
        them by sqrt(R). It is exact for Pearson's correlation, an approximation for ranks.

        >>> round(Consistency(0.67, "").ceiling, 3)
        0.896
        """
        return float(np.sqrt(2 * self.split_half / (1 + self.split_half)))


# Of the whole sets, by `source`. Taken as correlations of halves without correction, which the paper's wording
# says; not known: the consistency within a category, of a test subset, and of MemCat's false-alarm corrected score.
CONSISTENCY = {
    "lamem": Consistency(0.67, "Needell and Bainbridge 2022, of Khosla et al. 2015 (who print 0.68)"),
    "memcat": Consistency(0.78, "Goetschalckx and Wagemans 2019"),
}
