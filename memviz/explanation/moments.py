"""How much units contribute to a logit over photographs, from sums that can be added up in any order.

Of a unit on one photograph, with its activation a and the gradient g of the logit f at each position, three numbers are
kept: the mean of a, `A = sum a g` and `G = sum g`. Its **contribution**

    c = sum (a - m) g = A - m G

is, to first order, what the logit loses if the unit is replaced by its mean m over photographs and positions (Molchanov
et al. 2017, "Pruning convolutional neural networks for resource efficient inference", with the mean instead of 0, since
an activation of 0 is not a usual one). As m is known only at the end, the sums of the three and of their products are
kept, from which every figure below follows; sums of parts of the photographs are added.

**Why one gradient at the photograph?** Over a path from other photographs, as integrated gradients take, contributions
are complete; but what is asked here is what a unit does to the score, and its replacement tells. In a trial on the
published ResMem the rank correlation of the mean contribution with the mean effect of the replacement was .985, 1.000,
.984 and .986 at the class outputs, layer4.2, layer3.35 and layer2.7; with integrated gradients from pixels .889, .928,
.681 and .878, with a path of two steps at the layer itself .977, .981, .876 and .916. It also needs only one pass.

**What the mean does not tell.** The mean of c over photographs is `cov(a, g)`: in a network in which the unit acts
linearly it is 0, however much the unit matters, since what it adds on some photographs it takes on others; where the
logit curves upwards it is above 0, also of a unit with which the score falls (of 999 of ResMem's 1000 class outputs,
`experiments/drivers`). So there are the strength, the root mean square of c, and the **drive**, which says whether the
score rises or falls with the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of a, A and G
SUMS = 3 + len(_PAIRS)
# What is within the rounding of 32-bit numbers of its parts is no contribution: a few units in the last place.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over photographs for each of U units.

    Attributes:
        photographs: how many were added.
        sums: (9, U) float64: of a, A and G, and of the products aa, aA, aG, AA, AG and GG.

    Example:
        >>> first, second = (Moments.of(np.random.default_rng(seed).normal(size=(3, 5, 2))) for seed in (0, 1))
        >>> (first + second).photographs, (first + second).figures()["contribution"].shape
        (10, (2,))
    """

    photographs: int
    sums: Numbers

    @classmethod
    def none(cls, units: int) -> Moments:
        """Those of no photographs."""
        return cls(0, np.zeros((SUMS, units)))

    @classmethod
    def of(cls, found: Numbers) -> Moments:
        """Those of n photographs, from (3, n, U): the mean of a, A and G of each."""
        products = [np.einsum("nu,nu->u", found[one], found[two]) for one, two in _PAIRS]
        return cls(found.shape[1], np.stack([*found.sum(1), *products]))

    def __add__(self, other: Moments) -> Moments:
        """Those of the photographs of both."""
        return Moments(self.photographs + other.photographs, self.sums + other.sums)

    def figures(self) -> dict[str, Numbers]:
        """What is told of each unit, (U,) each.

        Returns:
            `mean`: m, of its activation. `contribution`: the mean of c; `sd`: its standard deviation, with n - 1;
            `strength`: the root mean square of c; `consistency`: the absolute contribution as a share of the strength,
            1 if the unit contributes the same to all photographs, NaN if it contributes nothing. `drive`:
            `cov(c, a) / sd(a)`, with the photographs' mean activations: how much more the unit contributes where it
            is one standard deviation more active; positive if the logit rises with it.
        """
        count = self.photographs
        a, own, gradient, aa, a_own, a_gradient, own_own, own_gradient, gradient_gradient = self.sums / count
        contribution = own - a * gradient
        square = own_own - 2 * a * own_gradient + a**2 * gradient_gradient
        strength = np.sqrt(np.maximum(square, 0))
        nothing = strength <= _ROUNDING * np.sqrt(own_own)
        contribution, strength = (np.where(nothing, 0.0, each) for each in (contribution, strength))
        spread = np.sqrt(np.maximum(aa - a**2, 0))
        still = nothing | (spread <= _ROUNDING * np.sqrt(aa))
        with np.errstate(invalid="ignore", divide="ignore"):
            drive = np.where(still, 0.0, (a_own - a * a_gradient - a * contribution) / spread)
            consistency = np.where(nothing, np.nan, np.minimum(np.abs(contribution) / strength, 1))
        variance = np.maximum(strength**2 - contribution**2, 0)
        sd = np.sqrt(variance * count / max(count - 1, 1))
        return {
            "mean": a,
            "contribution": contribution,
            "sd": sd,
            "strength": strength,
            "consistency": consistency,
            "drive": drive,
        }
