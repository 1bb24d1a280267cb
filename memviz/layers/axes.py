"""Which axes of a tensor run along the picture's rows and columns, tracked through reshapes.

An axis is a product of factors in row-major order, the outermost first: the last axis of maps (N, C, H, W) that were
flattened to (N, C, H * W) has the factors rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

ROWS, COLUMNS, NEITHER = "rows", "columns", ""

# The size of an axis or of a factor of it, and what it counts.
Factor = tuple[int, str]
Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def plain_axis(size: int) -> Axis:
    """An axis without positions, such as channels; one of size 1 has no factors."""
    return ((size, NEITHER),) if size != 1 else ()


def map_axes(shape: Sequence[int]) -> Axes:
    """The axes of maps (..., H, W).

    >>> map_axes((1, 3, 32, 32))
    ((), ((3, ''),), ((32, 'rows'),), ((32, 'columns'),))
    """
    return (*map(plain_axis, shape[:-2]), ((shape[-2], ROWS),), ((shape[-1], COLUMNS),))


def is_plain(axis: Axis) -> bool:
    """Whether no factor of an axis counts rows or columns."""
    return all(name == NEITHER for _, name in axis)


def are_maps(axes: Axes) -> bool:
    """Whether the last two axes are the rows and the columns."""
    return [[name for _, name in axis] for axis in axes[-2:]] == [[ROWS], [COLUMNS]]


def regroup(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a `view` to a shape; None if it splits rows or columns, for example into windows.

    >>> regroup(map_axes((1, 3, 4, 5)), (3, 20))
    (((3, ''),), ((4, 'rows'), (5, 'columns')))
    """
    if [math.prod(size for size, _ in axis) for axis in axes] == list(shape):
        return axes
    left = [factor for axis in reversed(axes) for factor in reversed(axis)]
    found = []
    for length in shape:
        axis: list[Factor] = []
        rest = length
        while rest > 1 or (left and left[-1][0] == 1):
            size, name = left.pop()
            if rest % size == 0:
                rest //= size
            elif size % rest == 0 and name == NEITHER:
                left.append((size // rest, NEITHER))
                size, rest = rest, 1
            else:
                return None
            axis.append((size, name))
        found.append(_merge_factors(axis))
    return tuple(found)


def broadcast(all_axes: Iterable[Axes], shape: Sequence[int]) -> Axes | None:
    """The axes of an elementwise function's output; None if the positions of the inputs do not coincide.

    Args:
        all_axes: those of the inputs that have rows and columns.
        shape: of the output.
    """
    found = []
    padded = [((),) * (len(shape) - len(axes)) + axes for axes in all_axes]
    for length, inputs in zip(shape, zip(*padded, strict=True), strict=True):
        if any(not is_plain(axis) and math.prod(size for size, _ in axis) != length for axis in inputs):
            return None
        different = {axis for axis in inputs if axis}
        if len(different) > 1:
            return None
        found.append(different.pop() if different else plain_axis(length))
    names = [name for axis in found for _, name in axis if name != NEITHER]
    return tuple(found) if len(names) == 2 else None


def _merge_factors(factors: Iterable[Factor]) -> Axis:
    merged: list[Factor] = []
    for size, name in factors:
        if merged and merged[-1][1] == name == NEITHER:
            merged[-1] = merged[-1][0] * size, name
        else:
            merged.append((size, name))
    return tuple(merged)
