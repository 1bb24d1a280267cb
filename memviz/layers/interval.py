"""Receptive-field arithmetic along one axis.

The theoretical receptive field of an output is an interval of input pixels in each axis. A
convolution with kernel k, stride s, padding p and dilation d maps the interval
``[low + i * jump, high + i * jump]`` of output i to ``low - p * jump``,
``high + (d * (k - 1) - p) * jump`` and ``jump * s`` (Araujo, Norris and Sim, "Computing Receptive
Fields of Convolutional Neural Networks", Distill 2019, https://distill.pub/2019/computing-receptive-fields/).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Along one axis, output i depends on the input pixels `low + i * jump` to `high + i * jump`."""

    jump: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Interval:
        """The interval behind a sliding window, as of a convolution or a pooling."""
        reach = dilation * (kernel - 1) - padding
        return Interval(self.jump * stride, self.low - padding * self.jump, self.high + reach * self.jump)

    def spread(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Interval:
        """The interval behind a transposed convolution."""
        jump = self.jump / stride
        return Interval(jump, self.low + (padding - dilation * (kernel - 1)) * jump, self.high + padding * jump)

    def resized(self, mode: str, before: int, after: int, align_corners: bool = False) -> Interval:
        """The interval behind an interpolation of the axis from `before` to `after` entries."""
        if mode == "nearest":  # entry floor(i * before / after)
            return Interval(self.jump * before / after, self.low - self.jump, self.high)
        reach = (2 if mode == "bicubic" else 1) * self.jump
        step = (before - 1) / max(after - 1, 1) if align_corners else before / after
        centre = 0.0 if align_corners else (step - 1) / 2 * self.jump
        return Interval(self.jump * step, self.low + centre - reach, self.high + centre + reach)

    def shifted(self, start: float, step: int = 1) -> Interval:
        """The interval behind a slice or, with a negative start, a padding."""
        return Interval(self.jump * step, self.low + start * self.jump, self.high + start * self.jump)

    def union(self, other: Interval) -> Interval:
        """The smallest interval that contains both; unbounded for outputs on different grids."""
        if other.unbounded or self.unbounded:
            return Interval(other.jump if self.unbounded else self.jump, -math.inf, math.inf)
        if self.jump != other.jump:
            return Interval(max(self.jump, other.jump), -math.inf, math.inf)
        return Interval(self.jump, min(self.low, other.low), max(self.high, other.high))

    @property
    def unbounded(self) -> bool:
        """Whether every output depends on the whole axis."""
        return math.isinf(self.high)
