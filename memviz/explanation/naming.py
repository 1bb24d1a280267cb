"""Which concept a unit answers to: chosen on one half of the photographs, accepted on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memviz.errors import LabelError

Array = NDArray[np.float64]

# SoftWPMI as CLIP-Dissect's code has it (Oikarinen and Weng 2023, "CLIP-Dissect", ICLR; similarity.py, soft_wpmi): how
# surely the first and the last of a unit's top photographs belong to it, the weight of the prior, and what keeps
# logarithms finite. It takes the top 100 of 50,000 photographs and more; of fewer, 6 % of the half.
FIRST, LAST, PRIOR, TINY = 0.998, 0.97, 1.0, 1e-7
TOP, TOP_SHARE, TOP_LEAST = 100, 0.06, 5
MEASURE = "correlation"
# Ours: concepts that SoftWPMI proposes, the one of which correlates most on the same half is the candidate.
SHORTLIST = 10
# Photographs that must show a concept, in each half, by the sum of its probabilities.
LEAST = 5.0
PHOTOGRAPHS = 40
# A label is accepted above the larger one: what Cohen 1988 calls a medium correlation, and what one in a thousand of
# shuffled units exceeds, of so many at least.
MINIMUM, QUANTILE, SHUFFLED = 0.3, 0.999, 10_000


@dataclass(frozen=True, eq=False)
class Named:
    """What was found of the units of a layer.

    Attributes:
        candidate: (units,) the number of the concept that fits each best.
        figure: (units,) Pearson's correlation of unit and candidate over the half that did not choose it; 0 of a unit
            that is constant there.
        threshold: what a figure must exceed.
        shuffled: how many of as many units exceed it when photographs are shuffled, on average.
        held_out: the photographs of that half, by number.
    """

    candidate: NDArray[np.intp]
    figure: Array
    threshold: float
    shuffled: float
    held_out: NDArray[np.intp]

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """(units,) whether the figure exceeds the threshold."""
        return self.figure > self.threshold


def halves(photographs: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The photographs on which candidates are chosen, and those on which they are judged, by number.

    Raises:
        LabelError: too few photographs.
    """
    if photographs < PHOTOGRAPHS:
        raise LabelError(
            f"Automatic labels need {PHOTOGRAPHS} photographs or more, half of which choose and half of which judge; "
            f"there are {photographs}. Make an index of more."
        )
    order = np.random.default_rng(seed).permutation(photographs)
    return np.sort(order[: photographs // 2]), np.sort(order[photographs // 2 :])


def can_judge(probabilities: Array, seed: int) -> NDArray[np.bool_]:
    """Whether enough photographs of each half show a concept: (concepts,), of probabilities (photographs, concepts)."""
    one, two = halves(len(probabilities), seed)
    shown: Array = np.minimum(probabilities[one].sum(0), probabilities[two].sum(0))
    return shown >= LEAST


def name_units(activations: Array, values: Array, probabilities: Array, seed: int) -> Named:
    """Finds the concept that each unit of a layer answers to.

    On one half of the photographs SoftWPMI proposes ten concepts by the unit's top photographs, of which the candidate
    correlates most with the unit there. On the other half the candidate is judged by Pearson's correlation, which
    passes the sanity checks of Oikarinen, Yan and Weng 2025 ("Evaluating Neuron Explanations: A Unified Framework with
    Sanity Checks", ICML) where recall, AUC, and samples of top against random photographs fail. The threshold comes
    from the same procedure with the photographs shuffled, for all units of the layer together, and is .3 at least:
    random filters too correlate with what photographs show, a little.

    Args:
        activations: (photographs, units).
        values: (photographs, concepts), with which units are correlated.
        probabilities: (photographs, concepts), in [0, 1], that a photograph shows a concept, for SoftWPMI.
        seed: of the halves and the shuffles.

    Raises:
        LabelError: too few photographs, or no concepts.

    Example:
        >>> random = np.random.default_rng(0)
        >>> shown = (random.random((400, 3)) < 0.2).astype(float)  # what 400 photographs show of three things
        >>> found = name_units(shown[:, [2, 0]] + random.normal(0, 0.2, (400, 2)), shown, shown, seed=0)
        >>> found.candidate.tolist(), found.accepted.tolist()
        ([2, 0], [True, True])
    """
    choosing, judging = halves(len(activations), seed)
    if not values.shape[1]:
        raise LabelError(
            f"No concept is shown by {LEAST:g} photographs or more in each half, so none can be judged. Give more "
            "photographs, or other concepts."
        )
    shown, standard = probabilities[choosing], (_standard(values[choosing]), _standard(values[judging]))

    def find(answers: Array) -> tuple[NDArray[np.intp], Array]:
        candidate = _choose(answers[choosing], shown, standard[0])
        return candidate, (_standard(answers[judging]) * standard[1][:, candidate]).sum(0)

    candidate, figure = find(activations)
    random = np.random.default_rng([seed, 1])
    times = max(1, math.ceil(SHUFFLED / activations.shape[1]))
    control = np.concatenate([find(random.permutation(activations))[1] for _ in range(times)])
    threshold = max(MINIMUM, float(np.quantile(control, QUANTILE)))
    return Named(candidate, figure, threshold, float((control > threshold).sum() / times), judging)


def soft_wpmi(activations: Array, probabilities: Array) -> Array:
    """SoftWPMI of each unit and concept, (units, concepts): log p(concept | unit's photographs) - log p(concept).

    With p(x) falling from .998 to .97 over the top photographs of a unit, the first term is the sum over them of
    log(1 + p(x) (p(concept | x) - 1)), and the second the logarithm of its mean over the units, as in CLIP-Dissect's
    code.

    Args:
        activations: (photographs, units).
        probabilities: p(concept | x), (photographs, concepts).
    """
    top = min(TOP, max(TOP_LEAST, round(TOP_SHARE * len(activations))), len(activations))
    order = np.argsort(-activations, axis=0, kind="stable")[:top]
    found = np.zeros((activations.shape[1], probabilities.shape[1]))
    for rank, photographs in enumerate(order):
        sure = FIRST - rank / top * (FIRST - LAST)
        found += np.log(1 + sure * (probabilities[photographs] - 1) + TINY)
    most = found.max(0)
    prior: Array = most + np.log(np.exp(found - most).mean(0))
    return found - PRIOR * prior


def _choose(activations: Array, probabilities: Array, values: Array) -> NDArray[np.intp]:
    proposed = np.argsort(-soft_wpmi(activations, probabilities), axis=1, kind="stable")[:, :SHORTLIST]
    fit = np.take_along_axis(_standard(activations).T @ values, proposed, axis=1)
    return np.take_along_axis(proposed, fit.argmax(1)[:, None], axis=1)[:, 0]


def _standard(values: Array) -> Array:
    """Centred columns of length one, so that a product is Pearson's correlation; zeros where a column is constant."""
    centred = values - values.mean(0)
    length = np.sqrt((centred**2).sum(0))
    # What rounding leaves of a constant is none.
    constant = length <= 1e-7 * np.sqrt(len(values)) * np.abs(values).max(0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, length))
