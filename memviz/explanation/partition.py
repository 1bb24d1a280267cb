"""How much of units' activations two sets of features explain on held-out photographs, alone, together and uniquely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from memviz.errors import ImageError
from memviz.explanation.perceptual import Features

# Of the ridge, as multiples of the number of training photographs; a wide range, since features have unit variance
# together. The choice is by leaving one training photograph out, in closed form (Hastie et al. 2009, 7.10 and 3.4.1).
PENALTIES = tuple(10.0**power for power in np.arange(-5, 2.1, 0.5))
SETS = ("perceptual", "conceptual", "both")
# Of both sets together, what each is multiplied by: one is penalized up to 100 times as much as the other, or left out.
# A penalty for each set is what Nunez-Elizalde et al. 2019 call banded ridge regression; the grid is ours.
BANDS = ((1.0, 1.0), (1.0, 0.3), (0.3, 1.0), (1.0, 0.1), (0.1, 1.0), (1.0, 0.0), (0.0, 1.0))
_Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors of held-out photographs, from which any share of variance follows.

    Attributes:
        sets: by name of the features, (photographs, units).
        base: of the prediction that knows the training photographs' mean alone, (photographs, units).
    """

    sets: dict[str, _Values]
    base: _Values

    def shares(self, weights: _Values | None = None) -> dict[str, _Values]:
        """Of each set, the units' explained share of variance on held-out photographs, R^2 = 1 - errors / base.

        Below 0 where features predict worse than the mean does.

        Args:
            weights: (resamples, photographs), how often each photograph counts; the result is (resamples, units)
                then, else (units,).
        """
        given = np.ones((1, len(self.base))) if weights is None else weights
        base = given @ self.base
        found = {name: 1 - (given @ errors) / base for name, errors in self.sets.items()}
        return {name: share[0] if weights is None else share for name, share in found.items()}


def held_out_errors(
    perceptual: Features, conceptual: Features, values: NDArray[np.floating], components: int, folds: int, seed: int
) -> Errors:
    """Predicts units by ridge regression from either set of features, and from both, on photographs that are left out.

    In each fold the features are standardized, each group divided by the root of its number (so that 160 energies do
    not outweigh 18 colours), and reduced to their first principal components, on the training photographs alone. Both
    sets get the same number of components, so neither has more freedom. Each unit chooses its penalty, and of both sets
    together how much more one is penalized than the other, by leaving one training photograph out; the components are
    not fitted again for that.

    The unique share of a set is R^2 of both minus R^2 of the other (variance partitioning: Borcard et al. 1992;
    Lescroart et al. 2015 for features of scenes). It can come out below 0, where a set adds nothing but error.

    Args:
        perceptual, conceptual: of the same photographs.
        values: (photographs, units), none of them constant.
        components: of each set; fewer where a set has fewer features.
        folds: photographs are divided into so many parts, each left out once.
        seed: of the division.

    Raises:
        ImageError: too few photographs.

    Example:
        >>> random = np.random.default_rng(0).normal(size=(60, 3))
        >>> one, two = (Features(random[:, [k]], ("x",), ("x",)) for k in (0, 1))
        >>> shares = held_out_errors(one, two, random[:, [0]], 1, 5, 0).shares()
        >>> {name: round(float(share[0]), 2) for name, share in shares.items()}["perceptual"]
        1.0
    """
    check_counts(len(values), components, folds)
    numbers = np.asarray(values, np.float64)
    errors = {name: np.empty_like(numbers) for name in SETS}
    base = np.empty_like(numbers)
    for training, left in KFold(folds, shuffle=True, random_state=seed).split(numbers):
        reduced = [_reduce(features, training, components) for features in (perceptual, conceptual)]
        mean, scale = numbers[training].mean(0), numbers[training].std(0)
        scale = np.where(scale > 0, scale, 1)
        wanted = (numbers - mean) / scale
        alphas = np.array(PENALTIES) * len(training)
        joint = [np.hstack([part * factor for part, factor in zip(reduced, band, strict=True)]) for band in BANDS]
        for name, bands in zip(SETS, ([reduced[0]], [reduced[1]], joint), strict=True):
            score = np.full(numbers.shape[1], -np.inf)
            for features in bands:
                ridge = RidgeCV(alphas, alpha_per_target=True).fit(features[training], wanted[training])
                better = ridge.best_score_ > score
                score = np.where(better, ridge.best_score_, score)
                predicted = ridge.predict(features[left]).reshape(len(left), -1)
                found = ((predicted - wanted[left]) * scale) ** 2
                errors[name][left] = np.where(better, found, errors[name][left])
        base[left] = (wanted[left] * scale) ** 2
    return Errors(errors, base)


def check_counts(photographs: int, components: int, folds: int) -> None:
    """Refuses a division whose training photographs are not more than twice the components of both sets.

    Raises:
        ImageError: too few photographs, or folds or components below what is possible.
    """
    if folds < 2 or components < 1:
        raise ImageError(
            f"folds={folds}, components={components} is not possible: give 2 folds and 1 component at least."
        )
    least = 4 * components * folds // (folds - 1) + folds
    if photographs < least:
        fewer = (photographs - folds) * (folds - 1) // (4 * folds)
        hint = f", or components={fewer} at most" if fewer >= 1 else ""
        raise ImageError(
            f"{photographs} photographs are too few to fit {2 * components} components in {folds} folds: give {least} "
            f"or more{hint}."
        )


def scaled(features: Features, training: NDArray[np.intp] | None = None) -> _Values:
    """Features with variance 1 over the training photographs, each group divided by the root of its number."""
    numbers = features.values
    known = numbers if training is None else numbers[training]
    spread = known.std(0)
    moving = spread > 1e-9 * np.abs(known).max(0)
    standard = (numbers[:, moving] - known[:, moving].mean(0)) / spread[moving]
    groups = np.array(features.groups)[moving]
    counts = np.array([(groups == group).sum() for group in groups])
    found: _Values = standard / np.sqrt(counts)
    return found


def _reduce(features: Features, training: NDArray[np.intp], components: int) -> _Values:
    numbers = scaled(features, training)
    pca = PCA(min(components, *numbers[training].shape), svd_solver="full").fit(numbers[training])
    found: _Values = pca.transform(numbers)
    return found
