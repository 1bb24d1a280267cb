"""Statistics that tell weights drawn independently, as at a random start, from others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memviz.layers.starts import Family

# Of standard errors. By chance once in 1e9 for a normal statistic; in 1,246 layers of random torchvision networks the
# largest was 3.3.
STANDARD_ERRORS = 6.0
# Of sqrt(N) times the Kolmogorov-Smirnov distance: exceeded by chance with 2 exp(-2 x^2) = 3e-6. The largest was 2.1.
KOLMOGOROV = 2.6
# Of the unit in which Tracy and Widom's distribution has the standard deviation 1.27: exceeded by chance with about
# 1e-11. The largest was 7.0 (1e-7), once, and below 3 else.
TRACY_WIDOM = 10.0
# Values that are compared with a distribution: a distance above 2.6 / sqrt(50,000) = .012 is found.
DRAWN = 50_000
# Rows of the matrix whose singular values are taken.
ROWS = 512
# With fewer values the kurtosis of a sample is not normal enough.
MANY = 1_000
# Fewer values than that have no mean square to speak of.
FEW = 8


@dataclass(frozen=True)
class Statistic:
    """One way in which weights may differ from independent draws.

    Attributes:
        name: what was looked at.
        value: the deviation, in the unit of its limit.
        limit: the largest deviation that is left to chance.
        share: what this deviation amounts to: the least change of the weights that explains it, squared, as a share of
            their squared norm. 0 where it cannot be told.
    """

    name: str
    value: float
    limit: float
    share: float = 0.0

    @property
    def stands_out(self) -> bool:
        """Whether it is more than chance."""
        return self.value > self.limit


def distances(weights: Tensor, families: Iterable[Family], generator: torch.Generator) -> list[Statistic]:
    """The Kolmogorov-Smirnov distances between weights of variance 1 and each family, times sqrt(N).

    The scale was estimated from the weights themselves, so that the limit is on the safe side (Lilliefors 1967). Not
    more than `DRAWN` of the weights are compared: of millions, every deviation would be significant.
    """
    values = weights.flatten()
    if len(values) > DRAWN:
        values = values[torch.randint(len(values), (DRAWN,), generator=generator)]
    ordered = np.sort(values.double().numpy())
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    found = []
    for family in families:
        expected = family.cdf(ordered)
        largest = max(float((ranks[1:] - expected).max()), float((expected - ranks[:-1]).max()))
        found.append(Statistic("distribution", largest * math.sqrt(len(ordered)), KOLMOGOROV))
    return found


def kurtosis(fourth: float, count: int, family: Family) -> Statistic:
    """How far the fourth moment of `count` weights of variance 1 is from a family's, in standard errors."""
    error = math.sqrt(family.spread / count)
    return Statistic("kurtosis", abs(fourth - family.kurtosis) / error, STANDARD_ERRORS)


def beyond(weights: Tensor, bound: float) -> Statistic:
    """The largest weight, against the bound of a uniform start.

    Where a weight lies beyond it, the weights have moved, by however little. Of uniform weights within b that change by
    d, a share of E|d| / 2b comes to lie beyond, so that the root mean square of d is at least 2b times that share.
    """
    rounded = bound * (1 + 2 * torch.finfo(weights.dtype).eps)
    share = float(((weights > rounded) | (weights < -rounded)).double().mean())
    return Statistic("largest weight", float(weights.abs().max()) / bound, rounded / bound, 12 * share**2)


def structure(
    weights: Tensor, kernel: Sequence[int], family: Family, scaled: bool, generator: torch.Generator
) -> Iterator[Statistic]:
    """What independent draws do not have: filters, inputs, places or directions that differ from one another.

    Args:
        weights: (groups, outputs, inputs, positions), of variance 1, on the CPU.
        kernel: the sizes of which `positions` is the product.
        family: of which they would be draws.
        scaled: whether each filter was divided by its root mean square, so that filters no longer differ in that.
        generator: draws the rows, where there are many.
    """
    filters, inputs = (2, 3), (1, 3)
    yield from _factor("filters", weights, filters, family, not scaled)
    if weights.shape[1] > 1:
        yield from _factor("inputs", weights, inputs, family, True)
    yield from _factor("positions in the kernel", weights, (0, 1, 2), family, True)
    yield from _neighbours(weights, kernel)
    yield from _singular_values(weights, generator)


def _factor(name: str, weights: Tensor, rest: tuple[int, ...], family: Family, squares: bool) -> Iterator[Statistic]:
    """Analysis of variance of one factor: do the means, and the mean squares, of its levels differ?

    Both sums follow chi-squared distributions under independence (Fisher 1925); `_standard` makes them normal.
    """
    levels = math.prod(weights.shape[axis] for axis in range(4) if axis not in rest)
    each = weights.numel() // levels
    if levels < 2 or each < 2:
        return
    total = float(weights.mean(rest).square().sum()) * each
    yield Statistic(
        f"means of {name}", _standard(total, levels), STANDARD_ERRORS, max(0.0, total - levels) / weights.numel()
    )
    if squares and each >= FEW:
        mean_squares = weights.square().mean(rest)
        variance = float(mean_squares.var())
        by_chance = (family.kurtosis - 1) / each
        # The mean square of a few normal values is skewed, which widens the sum's distribution by 1 + 6 / values.
        value = _standard(variance / by_chance * (levels - 1), levels - 1) / math.sqrt(1 + 6 / each)
        # A filter's norm changes by half of the relative change of its mean square.
        yield Statistic(f"norms of {name}", value, STANDARD_ERRORS, max(0.0, variance - by_chance) / 4)


def _standard(chi_squared: float, freedom: int) -> float:
    """A chi-squared variable as a standard normal one (Wilson and Hilferty 1931)."""
    width = 2 / (9 * freedom)
    return float(((chi_squared / freedom) ** (1 / 3) - 1 + width) / math.sqrt(width))


def _neighbours(weights: Tensor, kernel: Sequence[int]) -> Iterator[Statistic]:
    """Whether neighbouring positions are correlated."""
    correlation, pairs = neighbour_correlation(weights, kernel)
    if pairs:
        error = 1 / math.sqrt(pairs)
        value = abs(correlation)
        yield Statistic("neighbouring positions", value / error, STANDARD_ERRORS, max(0.0, value - error))


def neighbour_correlation(weights: Tensor, kernel: Sequence[int]) -> tuple[float, int]:
    """The correlation of weights of variance 1 at neighbouring positions of a kernel, and the number N of pairs.

    Of independent weights its standard error is 1 / sqrt(N) (Moran 1950, "Notes on continuous stochastic phenomena").
    Filters for edges, textures and colours are smooth, so a first convolution that has learned stands out here.

    >>> neighbour_correlation(torch.ones(2, 3, 3), (3, 3))
    (1.0, 24)
    """
    maps = weights.reshape(-1, *kernel)
    total, pairs = 0.0, 0
    for axis in range(1, maps.dim()):
        if (size := maps.shape[axis]) > 1:
            products = maps.narrow(axis, 1, size - 1) * maps.narrow(axis, 0, size - 1)
            total, pairs = total + float(products.sum()), pairs + products.numel()
    return (total / pairs if pairs else 0.0), pairs


def _singular_values(weights: Tensor, generator: torch.Generator) -> Iterator[Statistic]:
    """The largest squared singular value of the filters as a matrix, against what a random matrix has.

    That is (sqrt(n) + sqrt(p))^2 for p x n independent values of variance 1 (Marchenko and Pastur 1967), and it varies
    by Johnstone's scale (2001, "On the Distribution of the Largest Eigenvalue in Principal Components Analysis",
    theorem 1.1), whatever the distribution of the values. The share is what all squared singular values have beyond.
    """
    matrix = weights.flatten(0, 1).flatten(1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    if matrix.shape[0] > ROWS:
        matrix = matrix[torch.randperm(len(matrix), generator=generator)[:ROWS]]
    rows, columns = matrix.shape
    if rows < FEW:
        return
    squared = torch.linalg.eigvalsh(matrix @ matrix.T).double()
    sides = math.sqrt(columns - 1), math.sqrt(rows)
    edge, unit = sum(sides) ** 2, sum(sides) * (1 / sides[0] + 1 / sides[1]) ** (1 / 3)
    value = (float(squared[-1]) - edge) / unit
    share = float((squared - edge).clamp(min=0).sum() / squared.sum())
    yield Statistic("largest singular value", value, TRACY_WIDOM, share)
