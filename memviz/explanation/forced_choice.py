"""Can a unit be understood by its explanations? The two-alternative forced choice, with a machine in a person's place.

Of two photographs, *queries*, one excites a unit strongly and one hardly; which one is to be told by explanations
alone: pictures that excite it most (positive ones), and least (negative ones). The task is that of Borowski et al.
2021, "Exemplary Natural Images Explain CNN Activations Better than State-of-the-Art Feature Visualization", and
Zimmermann, Klein and Brendel 2023, "Scale Alone Does not Improve Mechanistic Interpretability in Vision Models"; the
machine is that of Zimmermann, Klindt and Brendel 2024, "Measuring Per-Unit Interpretability at Scale Without Humans"
(NeurIPS; at first "Measuring Mechanistic Interpretability at Scale Without Humans"). With s(q, E) the mean cosine of a
query and explanations, in the space of an encoder, and q+ the query that excites the unit, the evidence is ::

    D = [s(q+, E+) - s(q+, E-)] - [s(q-, E+) - s(q-, E-)]

*Accuracy* is the share of tasks with D > 0, a tie counting half. The *machine interpretability score* is the mean of
sigmoid(D / T), which is .5 by chance too.

What is taken from them: D, the mean over explanations, nine of each kind, 20 tasks a unit, that queries come from the
quarter of the photographs that excites the unit most and the one that excites it least, as in code of the second author
(klindtlab/MachInterp; the paper's own could not be had), and that constant units are left out (a range of 1e-8).
What differs:

- Explanations are the nine photographs that excite a unit most and least, the same in all its tasks, since a gallery
  shows these. There, each task draws its own from the quarter.
- That code multiplies D by .16, with which scores of cosines cannot leave .34 to .66; the paper fits the factor to
  people's answers. Here D is divided by T = .16, which is our choice, since nobody has judged beside this encoder.
  **Scores compare units seen by one encoder with one T; only accuracies mean the same elsewhere.**
- Where there are no negative explanations, s(q, E-) is left out.
- There is a control, `shuffled`: the same queries with the explanations of other units of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from memviz.errors import ImageError

Values = NDArray[np.float64]
Places = NDArray[np.intp]
STILL = 1e-8  # a smaller range of activations is none, as in the paper
SHUFFLES = 20  # other units whose explanations each unit is tried with; in a layer of fewer, all


@dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of a unit; photographs by their place.

    Attributes:
        high, low: (tasks,) the queries that excite it, and that do not.
        most, least: (explanations,) photographs that excite it most, best first, and least, lowest first.
    """

    high: Places
    low: Places
    most: Places
    least: Places


def check_photographs(count: int, explanations: int, quantile: float) -> None:
    """Refuses numbers with which no task can be set.

    Raises:
        ImageError: a quantile out of range, no explanations, or too few photographs for them and a query.
    """
    if not 0 < quantile <= 0.5:
        raise ImageError(f"quantile={quantile} is not possible: give a share above 0, and .5 at most.")
    if explanations < 1:
        raise ImageError(f"explanations={explanations} is not possible: give 1 or more.")
    if math.floor(quantile * count) <= explanations:
        needed = math.ceil((explanations + 1) / quantile)
        raise ImageError(
            f"{count} photographs are too few: a {quantile:g} part of them must hold {explanations} explanations and "
            f"a query. Give {needed} or more, or fewer explanations."
        )


def set_tasks(
    activations: NDArray[np.floating], explanations: int, tasks: int, quantile: float, random: np.random.Generator
) -> Tasks | None:
    """The tasks of a unit; None for one whose photographs are all alike to it, or too many of them.

    Args:
        activations: (photographs,) of the unit.
        explanations: of each kind.
        tasks: how many.
        quantile: the share of the photographs, at either end, from which queries are drawn, and not from explanations.
        random: draws, and orders photographs of equal activation.

    Example:
        >>> found = set_tasks(np.arange(40.0), 9, 1, 0.25, np.random.default_rng(0))
        >>> found.most[:3].tolist(), found.high.tolist(), found.low.tolist()
        ([39, 38, 37], [30], [9])
    """
    check_photographs(len(activations), explanations, quantile)
    ends = math.floor(quantile * len(activations))
    order = np.lexsort((random.random(len(activations)), activations))
    bottom, top = order[:ends], order[::-1][:ends]
    if activations[top[-1]] - activations[bottom[-1]] <= STILL:
        return None
    few = ends - explanations < tasks
    high, low = (random.choice(end[explanations:], tasks, replace=few) for end in (top, bottom))
    return Tasks(high, low, top[:explanations], bottom[:explanations])


def evidence(cosines: NDArray[np.floating], tasks: Tasks, positive: Places, negative: Places) -> Values:
    """D of each task of a unit, (tasks,), as the module defines it; nan where a query is all that would explain it.

    Args:
        cosines: (photographs, pictures), of which the photographs come first.
        tasks: of the unit.
        positive, negative: explanations by their place; a query among them, as another unit's may have, is left out.

    Example:
        >>> like = np.array([[1.0, 0, 0.9], [0, 1, 0.2], [0.9, 0.2, 1]])
        >>> tasks = Tasks(np.array([0]), np.array([1]), np.array([]), np.array([]))
        >>> evidence(like, tasks, np.array([2]), np.array([], int)).round(3).tolist()
        [0.7]
    """
    found = _similar(cosines, tasks.high, positive) - _similar(cosines, tasks.low, positive)
    if len(negative):
        found -= _similar(cosines, tasks.high, negative) - _similar(cosines, tasks.low, negative)
    return found


def _similar(cosines: NDArray[np.floating], queries: Places, explanations: Places) -> Values:
    """s(q, E) of each query."""
    others = queries[:, None] != explanations[None]
    sums = np.where(others, cosines[np.ix_(queries, explanations)], 0).sum(1, dtype=np.float64)
    found: Values = np.full(len(queries), np.nan)
    np.divide(sums, others.sum(1), out=found, where=others.any(1))
    return found


def accuracy(found: Values) -> float:
    """The share of tasks that are solved, a tie counting half; nan where there is none.

    >>> accuracy(np.array([0.2, -0.1, 0.0, np.nan]))
    0.5
    """
    solved = (np.sign(found[~np.isnan(found)]) + 1) / 2
    return float(solved.mean()) if len(solved) else float("nan")


def score(found: Values, temperature: float) -> float:
    """The machine interpretability score, the mean of sigmoid(D / T).

    >>> round(score(np.array([0.16, -0.16]), 0.16), 3)
    0.5
    """
    return float(expit(found / temperature).mean())


def shuffled(
    cosines: NDArray[np.floating],
    tasks: Sequence[Tasks],
    explanations: Sequence[tuple[Places, Places]],
    random: np.random.Generator,
) -> Values:
    """Of each unit, the mean accuracy with the explanations of other units, (units,); nan where there is one unit.

    It is above .5 where units of the layer are excited by much the same photographs, so that any of their explanations
    would do; what exceeds it tells the unit from the others.

    Args:
        cosines: as `evidence` takes them.
        tasks: of each unit.
        explanations: positive and negative ones of each unit.
        random: of who gets whose: each unit those of `SHUFFLES` others, and each unit's are used as often.
    """
    count = len(tasks)
    found: Values = np.full((count, min(SHUFFLES, count - 1)), np.nan)
    order = random.permutation(count)
    for place, unit in enumerate(order):
        for shift in range(found.shape[1]):
            other = explanations[order[(place + shift + 1) % count]]
            found[unit, shift] = accuracy(evidence(cosines, tasks[unit], *other))
    known = ~np.isnan(found)
    means: Values = np.full(count, np.nan)
    np.divide(np.where(known, found, 0).sum(1), known.sum(1), out=means, where=known.any(1))
    return means
