"""Receptive-field arithmetic, followed through whatever a network computes.

The theoretical receptive field of an output is an interval of input pixels in each axis. A
convolution with kernel k, stride s, padding p and dilation d maps the interval
``[low + i * jump, high + i * jump]`` of output i to ``low - p * jump``,
``high + (d * (k - 1) - p) * jump`` and ``jump * s`` (Araujo, Norris and Sim, "Computing Receptive
Fields of Convolutional Neural Networks", Distill 2019, https://distill.pub/2019/computing-receptive-fields/).
Instead of knowing modules, `FieldTracker` applies this to every tensor operation that really runs,
so that functional layers, shortcuts and concatenations count as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Interval:
    """Along one axis, output i sees the input pixels `low + i * jump` to `high + i * jump`."""

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
        """What both see together; outputs on different grids see everything."""
        if other.everything or self.everything:
            return Interval(other.jump if self.everything else self.jump, -math.inf, math.inf)
        if self.jump != other.jump:
            return Interval(max(self.jump, other.jump), -math.inf, math.inf)
        return Interval(self.jump, min(self.low, other.low), max(self.high, other.high))

    @property
    def everything(self) -> bool:
        """Whether the whole picture is seen, wherever the output lies."""
        return math.isinf(self.high)


Field = tuple[Interval, Interval]
WHOLE: Field = (Interval(1.0, -math.inf, math.inf),) * 2


def _pair(value: Sequence[int], default: int) -> tuple[int, int]:
    """The last two entries of a per-axis setting, as torch's operators store it."""
    return (value[-2], value[-1]) if len(value) > 1 else (value[0],) * 2 if value else (default,) * 2


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


class FieldTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, knows the receptive field of every tensor computed from `picture`.

    `additions` counts the sums of two feature maps of equal shape: the junctions of residual blocks.

    Args:
        picture: (1, C, H, W), the network's input.

    Example:
        >>> picture = torch.zeros(1, 3, 32, 32)
        >>> with torch.no_grad(), FieldTracker(picture) as tracker:
        ...     maps = torch.nn.Conv2d(3, 4, 5, stride=2)(picture)
        >>> tracker.field(maps)[0]
        Interval(jump=2.0, low=0.0, high=4.0)
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Tensors are kept beside their fields: an id is only unique while its tensor lives.
        self._known: dict[int, tuple[Field, Tensor]] = {id(picture): ((Interval(), Interval()), picture)}
        self.additions = 0
        self._channels_last: set[int] = set()

    def field(self, tensor: Tensor) -> Field | None:
        """The field (vertical, horizontal) of a tensor, or None if it does not depend on the picture."""
        entry = self._known.get(id(tensor))
        return entry[0] if entry else None

    def channels_last(self, tensor: Tensor) -> bool:
        """Whether a tensor's axes were permuted to (N, H, W, C), as transformers and ConvNeXt do."""
        return id(tensor) in self._channels_last

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [tensor for tensor in _tensors(args) if id(tensor) in self._known]
        if inputs:
            name = func.overloadpacket.__name__
            for tensor in _tensors(out):
                self._known[id(tensor)] = (self._after(func, name, args, inputs, tensor), tensor)
                if _permuted(name, args, any(map(self.channels_last, inputs))):
                    self._channels_last.add(id(tensor))
            if name in ("add", "add_") and len(inputs) == 2 and inputs[0].shape == inputs[1].shape:
                self.additions += 1
        return out

    def _after(self, func: Any, name: str, args: tuple[Any, ...], inputs: list[Tensor], out: Tensor) -> Field:
        fields = [self._known[id(tensor)][0] for tensor in inputs]
        rows, columns = fields[0]
        first = inputs[0]
        if name == "convolution":
            kernel, transposed = _pair(args[1].shape, 1), args[6]
            settings = zip(kernel, _pair(args[3], 1), _pair(args[4], 0), _pair(args[5], 1), strict=True)
            moves = (axis.spread if transposed else axis.window for axis in (rows, columns))
            rows, columns = (move(*setting) for move, setting in zip(moves, settings, strict=True))
            return rows, columns
        if name.startswith(("max_pool", "avg_pool")):
            kernel = _pair(args[1], 1)
            stride = _pair(args[2], 1) if len(args) > 2 and args[2] else kernel
            padding = _pair(args[3], 0) if len(args) > 3 else (0, 0)
            dilation = _pair(args[4], 1) if len(args) > 4 and name.startswith("max_pool") else (1, 1)
            return (
                rows.window(kernel[0], stride[0], padding[0], dilation[0]),
                columns.window(kernel[1], stride[1], padding[1], dilation[1]),
            )
        if name in _INTERPOLATIONS:
            mode, aligned = _INTERPOLATIONS[name], len(args) > 2 and args[2] is True
            return (
                rows.resized(mode, first.shape[-2], out.shape[-2], aligned),
                columns.resized(mode, first.shape[-1], out.shape[-1], aligned),
            )
        if name == "constant_pad_nd" or name.startswith(("reflection_pad2d", "replication_pad2d")):
            pads = [*args[1], 0, 0, 0, 0]
            return rows.shifted(-pads[2]), columns.shifted(-pads[0])
        if name == "slice" and out.dim() == 4 and len(args) > 1 and args[1] % 4 >= 2:
            length = first.shape[args[1]]
            start = slice(args[2] if len(args) > 2 else 0, None).indices(length)[0]
            step = args[4] if len(args) > 4 else 1
            if args[1] % 4 == 2:
                return rows.shifted(start, step), columns
            return rows, columns.shifted(start, step)
        local = torch.Tag.pointwise in func.tags or func.is_view or name in _LOCAL or "batch_norm" in name
        same = all(tensor.dim() >= 3 and tensor.shape[-2:] == out.shape[-2:] for tensor in inputs)
        if local and same and not (name in ("transpose", "permute") and _turns(first.dim(), args)):
            for other_rows, other_columns in fields[1:]:
                rows, columns = rows.union(other_rows), columns.union(other_columns)
            return rows, columns
        return WHOLE


def _permuted(name: str, args: tuple[Any, ...], before: bool) -> bool:
    """Whether the axes are (N, H, W, C) after an operation, of whose inputs one was so `before`."""
    axes = list(args[1]) if name == "permute" else []
    return axes == [0, 2, 3, 1] or (before and axes != [0, 3, 1, 2])


def _turns(dimensions: int, args: tuple[Any, ...]) -> bool:
    """Whether a transposition of axes moves the last two."""
    if len(args) == 3:
        return bool(max(args[1] % dimensions, args[2] % dimensions) >= dimensions - 2)
    return [axis % dimensions for axis in args[1][-2:]] != [dimensions - 2, dimensions - 1]


_INTERPOLATIONS = {
    "upsample_nearest2d": "nearest",
    "upsample_bilinear2d": "bilinear",
    "upsample_bicubic2d": "bicubic",
}
# Operations that compute each entry alone, or move or copy whole feature maps without mixing their
# positions, and that torch (2.11 at least) does not tag as pointwise.
_LOCAL = {
    "_prelu_kernel",
    "_to_copy",
    "_unsafe_view",
    "cat",
    "channel_shuffle",
    "clone",
    "contiguous",
    "copy_",
    "hardswish",
    "hardswish_",
    "leaky_relu",
    "leaky_relu_",
    "log_sigmoid_forward",
    "mish_",
    "native_dropout",
    "rrelu_with_noise",
    "threshold_",
}
