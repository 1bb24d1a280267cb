"""How the weights of a layer are distributed before it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A distribution with mean 0 and variance 1.

    Attributes:
        name: "uniform", "normal" or "truncated normal".
        cdf: its cumulative distribution function.
        kurtosis: fourth moment; 1.8 for the uniform and 3 for the normal distribution.
        spread: variance of the kurtosis of N values, times N. By the delta method it is
            m8 - 4 m4 m6 + 4 m4^3 - m4^2, with the moments m; 24 for the normal distribution.
    """

    name: str
    cdf: Callable[[Values], Values]
    kurtosis: float
    spread: float


# The normal distribution cut at two standard deviations has this standard deviation (of 1).
_CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


def _truncated(values: Values) -> Values:
    low, high = special.ndtr([-2.0, 2.0])
    cut: Values = (special.ndtr(np.clip(values * _CUT, -2, 2)) - low) / (high - low)
    return cut


UNIFORM = Family("uniform", lambda values: np.clip(values / math.sqrt(12) + 0.5, 0, 1), 1.8, 1.317)
NORMAL = Family("normal", special.ndtr, 3.0, 24.0)
TRUNCATED = Family("truncated normal", _truncated, 2.3655, 3.848)
FAMILIES = (UNIFORM, NORMAL, TRUNCATED)


def scaled_normal(inputs: int) -> Family:
    """The distribution of normal weights after each filter was divided by its root mean square.

    A filter of n inputs then lies on a sphere of radius sqrt(n), on which the directions are equally likely, so that
    (w / sqrt(n) + 1) / 2 follows the beta distribution with both parameters (n - 1) / 2.

    >>> round(scaled_normal(27).kurtosis, 2)
    2.79
    """
    half = (inputs - 1) / 2
    # The incomplete beta function takes a second for a million values; 4,001 of them interpolate it to 1e-6.
    grid = np.linspace(-8, 8, 4001)
    known = special.betainc(half, half, np.clip(grid / math.sqrt(inputs) / 2 + 0.5, 0, 1))
    return Family("normal", lambda values: np.interp(values, grid, known), 3 * inputs / (inputs + 2), 24.0)


@dataclass(frozen=True)
class Start:
    """A rule by which weights are drawn.

    Attributes:
        name: as in "torch's default".
        family: name of the `Family`.
        std: standard deviation.
    """

    name: str
    family: str
    std: float

    @property
    def bound(self) -> float:
        """The largest weight that a uniform start can have."""
        return self.std * math.sqrt(3)


# Standard deviations that networks' own code sets: 1 (torch's embeddings), .02 (ViT, ConvNeXt, Swin), .01 (AlexNet, and
# torchvision's classifiers), .005 (CaffeNet's fully connected layers), .001.
_FIXED = (1.0, 0.02, 0.01, 0.005, 0.001)


def named_starts(shape: Sequence[int], recurrent: bool = False) -> Iterator[Start]:
    """The known starts for weights of a shape, as (outputs, inputs, *kernel), most usual first.

    - torch's default: uniform within 1 / sqrt(fan-in), `kaiming_uniform_(a=sqrt(5))`, of convolutions and fully
      connected layers; within 1 / sqrt(units) of recurrent ones.
    - He: variance 2 / fan, for ReLUs (He et al. 2015, "Delving Deep into Rectifiers", equations 10 and 14).
    - Xavier: variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, "Understanding the Difficulty of Training Deep
      Feedforward Neural Networks", equation 16).
    - LeCun: variance 1 / fan-in (LeCun et al. 1998, "Efficient BackProp", equation 16); torchvision's ViT.
    - EfficientNet: uniform within 1 / sqrt(outputs), its classifier's; normal with He's variance for a single output
      channel, its depthwise convolutions' where it counts a group's outputs.
    - Normal with a fixed standard deviation.

    Fans are those of `torch.nn.init`: inputs and outputs, as the shape has them, times the kernel's positions.

    >>> [round(start.std, 4) for start in named_starts((384, 192, 3, 3)) if start.name == "torch's default"]
    [0.0139]
    """
    kernel = math.prod(shape[2:])
    outputs, inputs = shape[0] * kernel, shape[1] * kernel
    units = shape[0] // 4 if recurrent else inputs
    yield Start("torch's default", "uniform", 1 / math.sqrt(3 * units))
    if recurrent:  # RNN (1), GRU (3) and LSTM (4 gates)
        yield from (Start("torch's default", "uniform", 1 / math.sqrt(3 * (shape[0] // gates))) for gates in (1, 3))
    for name, variance in (
        ("He's, fan-in", 2 / inputs),
        ("He's, fan-out", 2 / outputs),
        ("Xavier's", 2 / (inputs + outputs)),
        ("LeCun's", 1 / inputs),
    ):
        for family in FAMILIES:
            yield Start(name, family.name, math.sqrt(variance))
    yield Start("EfficientNet's", "uniform", 1 / math.sqrt(3 * shape[0]))
    if shape[1] == 1:
        yield Start("EfficientNet's", "normal", math.sqrt(2 / kernel))
    for std in _FIXED:
        yield Start(f"standard deviation {std:g}", "normal", std)
        yield Start(f"standard deviation {std:g}", "truncated normal", std * _CUT)
