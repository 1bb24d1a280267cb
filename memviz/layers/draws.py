"""Whether weights are independent draws from one distribution, and from which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memviz.layers import chance
from memviz.layers.chance import Statistic
from memviz.layers.starts import FAMILIES, Family, Start, named_starts, scaled_normal

# A change by that share of the weights' norm. Filters w that move by r |w| perpendicular to themselves have responses
# that correlate with those at the start by 1 / sqrt(1 + r^2), which is .999.
LITTLE = 0.05
# A relative change of the kurtosis; independent normal noise of .2 of the norm changes a uniform start's by that.
SHAPE = 0.05
# Inputs of a filter from which it is worthwhile to divide by its root mean square.
INPUTS = 9
# Weights that are looked at; of a larger layer some filters are drawn.
MOST = 2**24
# A standard deviation that is a known start's, relative, besides five standard errors.
CLOSE = 0.005


@dataclass(frozen=True)
class Draws:
    """What weights are as draws from the family that fits them best.

    Attributes:
        family: that family.
        scaled: whether each filter was divided by its root mean square first.
        std, kurtosis: of the weights; kurtosis after that division.
        count: of the weights that were looked at.
        constant: the filters whose weights are all equal; they are left out.
        statistics: all of them, with their limits.
    """

    family: Family
    scaled: bool
    std: float
    kurtosis: float
    count: int
    constant: int
    statistics: tuple[Statistic, ...]

    @property
    def fits(self) -> bool:
        """Whether the distribution is the family's, or nearly so."""
        return not any(
            each.stands_out
            for each in self.statistics
            if each.name == "distribution"
            or (each.name == "kurtosis" and abs(self.kurtosis / self.family.kurtosis - 1) > SHAPE)
        )

    @property
    def by_chance(self) -> bool:
        """Whether nothing is more than chance."""
        return not any(each.stands_out for each in self.statistics)

    @property
    def moved(self) -> float:
        """The least change, as a share of the weights' norm, that explains what is more than chance."""
        return math.sqrt(max((each.share for each in self.statistics if each.stands_out), default=0.0))

    def observe(self, *statistics: Statistic) -> Draws:
        """The same with more statistics."""
        return replace(self, statistics=(*self.statistics, *statistics))


def compare(values: Tensor, groups: int, transposed: bool, generator: torch.Generator) -> Draws | None:
    """Compares weights with draws from each family, as they are, and with a scale of its own for each filter.

    Args:
        values: (outputs, inputs / groups, *kernel), or (inputs, outputs / groups, *kernel) if transposed.
        groups: of inputs and outputs.
        transposed: whether they are a transposed convolution's.
        generator: draws filters, and weights of them, where there are many.

    Returns:
        None if each filter's weights are all equal.
    """
    kernel = values.shape[2:] or (1,)
    weights, constant = _filters(values, groups, transposed, generator)
    if not weights.numel():
        return None
    std = float(weights.square().mean().sqrt())
    weights = weights / std
    draws = replace(_distribution(weights, FAMILIES, generator), std=std, constant=constant)
    draws = draws.observe(*chance.structure(weights, kernel, draws.family, False, generator))
    uneven = any(each.name == "norms of filters" and each.stands_out for each in draws.statistics)
    inputs = weights[0, 0].numel()
    if (draws.fits and not uneven) or inputs < INPUTS:
        return draws
    weights = weights / weights.square().mean((2, 3), keepdim=True).sqrt()
    scaled = _distribution(weights, (scaled_normal(inputs),), generator)
    if not scaled.fits:
        return draws
    scaled = replace(scaled, scaled=True, std=std, constant=constant)
    scaled = scaled.observe(*chance.structure(weights, kernel, scaled.family, True, generator))
    return scaled if scaled.by_chance or not draws.fits or draws.moved >= LITTLE else draws


def _filters(values: Tensor, groups: int, transposed: bool, generator: torch.Generator) -> tuple[Tensor, int]:
    """Weights (groups, outputs, inputs, positions) on the CPU without constant filters, and the number of those."""
    weights = values.reshape(groups, -1, values.shape[1], math.prod(values.shape[2:]))
    if transposed:
        weights = weights.transpose(1, 2)
    constant = 0
    if weights[0, 0].numel() > 1:
        varies = weights.amax((2, 3)) != weights.amin((2, 3))
        constant = int((~varies).sum())
        if constant:
            weights = weights[varies][None]
            if not weights.numel():
                return weights, constant
    most = max(1, MOST // max(1, weights[:, 0].numel()))
    if weights.shape[1] > most:
        drawn = torch.randperm(weights.shape[1], generator=generator)[:most]
        weights = weights[:, drawn.to(weights.device)]
    return weights.float().cpu(), constant


def _distribution(weights: Tensor, families: Sequence[Family], generator: torch.Generator) -> Draws:
    """Weights of variance 1 as draws from the family whose distribution is nearest."""
    fourth, count = float(weights.square().square_().mean()), weights.numel()
    found = []
    for family, distance in zip(families, chance.distances(weights, families, generator), strict=True):
        shape = (distance, chance.kurtosis(fourth, count, family)) if count >= chance.MANY else (distance,)
        found.append(Draws(family, False, 1.0, fourth, count, 0, shape))
    return min(found, key=lambda each: max(one.value / one.limit for one in each.statistics))


def match(draws: Draws, shape: Sequence[int], recurrent: bool, largest: float) -> Start | None:
    """The known start with the family and the standard deviation of draws; None if there is none.

    Of several, the one with the nearest standard deviation in whose bound `largest`, the largest weight, lies.
    """
    tolerance = CLOSE + 5 * math.sqrt((draws.kurtosis - 1) / (4 * draws.count))
    near = [
        (start.family == "uniform" and largest > start.bound * (1 + CLOSE), abs(draws.std / start.std - 1), start)
        for start in named_starts(shape, recurrent)
        if start.family == draws.family.name and abs(draws.std / start.std - 1) < tolerance
    ]
    return min(near, key=lambda each: each[:2], default=(None, None, None))[2]
