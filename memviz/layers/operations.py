"""What the output of a tensor operation sees of the picture, from what its inputs see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memviz.layers.axes import COLUMNS, ROWS, Axes, are_maps, broadcast, is_plain, map_axes, plain_axis, regroup
from memviz.layers.interval import Interval


@dataclass(frozen=True)
class Seen:
    """What the entries of a tensor see: intervals of rows and columns, and the axes along which the entries lie.

    Of a tensor whose entries may see the whole picture it is `EVERYTHING`, of which no axes are known.
    """

    rows: Interval
    columns: Interval
    axes: Axes

    def union(self, others: Iterable[Seen], shape: Sequence[int]) -> Seen:
        """What an output of a shape sees that is computed from this and other tensors, entry by entry."""
        every = [self, *others]
        axes = broadcast([each.axes for each in every], shape)
        seen = self.overlaid(every[1:])
        return EVERYTHING if axes is None or seen is EVERYTHING else replace(seen, axes=axes)

    def overlaid(self, others: Iterable[Seen]) -> Seen:
        """What the same tensor sees after others, which lie position upon position, were written into its memory."""
        rows, columns = self.rows, self.columns
        for other in others:
            rows, columns = rows.union(other.rows), columns.union(other.columns)
        return EVERYTHING if rows.everything or columns.everything else Seen(rows, columns, self.axes)

    def along(self, dim: int, start: int, step: int, size: int) -> Seen | None:
        """What is seen after an axis was sliced or, with a negative start, padded."""
        axes, axis = list(self.axes), self.axes[dim]
        rows, columns = self.rows, self.columns
        if is_plain(axis):
            axes[dim] = plain_axis(size)
        elif len(axis) == 1:
            name = axis[0][1]
            axes[dim] = ((size, name),)
            rows = rows.shifted(start, step) if name == ROWS else rows
            columns = columns.shifted(start, step) if name == COLUMNS else columns
        else:
            return None
        return Seen(rows, columns, tuple(axes))


EVERYTHING = Seen(Interval(1.0, -math.inf, math.inf), Interval(1.0, -math.inf, math.inf), ())


@dataclass(frozen=True)
class Operation:
    """An operation of torch that ran.

    Attributes:
        function: as `torch.utils._python_dispatch` gives it.
        arguments: by their names in torch's schema; those left at their defaults are missing.
        inputs: the tensors among the arguments that depend on the picture, and what they see.
    """

    function: Any
    arguments: dict[str, Any]
    inputs: list[tuple[Tensor, Seen]]

    @property
    def name(self) -> str:
        """Its name in torch, in place or not."""
        return str(self.function.overloadpacket.__name__).rstrip("_")

    def output(self, out: Tensor) -> Seen:
        """What an output of it sees; everything, if it mixes positions or how it does so is not known."""
        if any(seen is EVERYTHING for _, seen in self.inputs):
            return EVERYTHING
        rule = _RULES.get(self.name)
        if rule is None and (torch.Tag.pointwise in self.function.tags or self.name in _LOCAL):
            rule = _compute_entries
        return (rule and rule(self, out)) or EVERYTHING

    @property
    def first(self) -> Seen:
        """What the first input sees."""
        return self.inputs[0][1]

    def only(self, argument: str) -> Seen | None:
        """What an argument sees, if no other depends on the picture."""
        tensor, seen = self.inputs[0]
        return seen if len(self.inputs) == 1 and tensor is self.arguments.get(argument) else None


def _compute_entries(operation: Operation, out: Tensor) -> Seen:
    first, *others = (seen for _, seen in operation.inputs)
    return first.union(others, out.shape)


def _pair(value: Sequence[int], default: int) -> tuple[int, int]:
    """The last two entries of a per-axis setting, as torch's operators store it."""
    return (value[-2], value[-1]) if len(value) > 1 else (value[0],) * 2 if value else (default,) * 2


def _convolve(operation: Operation, out: Tensor) -> Seen | None:
    seen, given = operation.only("input"), operation.arguments
    if seen is None or not are_maps(seen.axes) or given["weight"].dim() < 4:
        return None
    settings = zip(
        _pair(given["weight"].shape, 1),
        _pair(given["stride"], 1),
        _pair(given["padding"], 0),
        _pair(given["dilation"], 1),
        strict=True,
    )
    moves = (axis.spread if given["transposed"] else axis.window for axis in (seen.rows, seen.columns))
    rows, columns = (move(*setting) for move, setting in zip(moves, settings, strict=True))
    return Seen(rows, columns, map_axes(out.shape))


def _pool(operation: Operation, out: Tensor) -> Seen | None:
    seen, given = operation.first, operation.arguments
    if not are_maps(seen.axes):
        return None
    kernel = _pair(given["kernel_size"], 1)
    stride = _pair(given.get("stride") or kernel, 1)
    settings = zip(kernel, stride, _pair(given.get("padding", ()), 0), _pair(given.get("dilation", ()), 1), strict=True)
    rows, columns = (axis.window(*setting) for axis, setting in zip((seen.rows, seen.columns), settings, strict=True))
    return Seen(rows, columns, map_axes(out.shape))


def _interpolate(operation: Operation, out: Tensor) -> Seen | None:
    (tensor, seen), mode = operation.inputs[0], _INTERPOLATIONS[operation.name]
    if not are_maps(seen.axes):
        return None
    aligned = operation.arguments.get("align_corners", False)
    return Seen(
        seen.rows.resized(mode, tensor.shape[-2], out.shape[-2], aligned),
        seen.columns.resized(mode, tensor.shape[-1], out.shape[-1], aligned),
        map_axes(out.shape),
    )


def _pad(operation: Operation, out: Tensor) -> Seen | None:
    seen: Seen | None = operation.first
    pads = operation.arguments.get("pad") or operation.arguments["padding"]
    for dim, before in enumerate(pads[::2], start=1):
        seen = seen and seen.along(-dim, -before, 1, out.shape[-dim])
    return seen


def _slice(operation: Operation, out: Tensor) -> Seen | None:
    (tensor, seen), given = operation.inputs[0], operation.arguments
    dim = given.get("dim", 0)
    start = slice(given.get("start"), None).indices(tensor.shape[dim])[0]
    return seen.along(dim, start, given.get("step", 1), out.shape[dim])


def _split(operation: Operation, out: Tensor) -> Seen | None:
    dim, seen = operation.arguments.get("dim", 0), operation.first
    return seen.along(dim, 0, 1, out.shape[dim]) if is_plain(seen.axes[dim]) else None


def _select(operation: Operation, out: Tensor) -> Seen | None:
    seen = operation.first
    dim = operation.arguments.get("dim", 0) % len(seen.axes)
    return replace(seen, axes=seen.axes[:dim] + seen.axes[dim + 1 :]) if is_plain(seen.axes[dim]) else None


def _permute(operation: Operation, out: Tensor) -> Seen:
    seen, given = operation.first, operation.arguments
    order = list(range(len(seen.axes)))
    if "dims" in given:
        order = [dim % len(order) for dim in given["dims"]]
    else:
        one, other = given.get("dim0", 0), given.get("dim1", -1)
        order[one], order[other] = order[other], order[one]
    return replace(seen, axes=tuple(seen.axes[dim] for dim in order))


def _view(operation: Operation, out: Tensor) -> Seen | None:
    axes = regroup(operation.first.axes, out.shape)
    return None if axes is None else replace(operation.first, axes=axes)


def _join(operation: Operation, out: Tensor) -> Seen | None:
    dim = operation.arguments.get("dim", 0) % out.dim()
    skipped = 0 if operation.name == "stack" else 1
    joined = []
    for _, seen in operation.inputs:
        if skipped and not is_plain(seen.axes[dim]):
            return None
        axes = (*seen.axes[:dim], plain_axis(out.shape[dim]), *seen.axes[dim + skipped :])
        joined.append(replace(seen, axes=axes))
    return joined[0].union(joined[1:], out.shape)


def _multiply_matrices(operation: Operation, out: Tensor) -> Seen | None:
    """The product with a matrix that does not depend on the picture, along an axis that is no position's."""
    left, right = _MATRICES[operation.name]
    if (seen := operation.only(left)) and is_plain(seen.axes[-1]):
        return replace(seen, axes=(*seen.axes[:-1], plain_axis(out.shape[-1])))
    if (seen := operation.only(right)) and is_plain(seen.axes[-2]):
        return replace(seen, axes=(*seen.axes[:-2], plain_axis(out.shape[-2]), seen.axes[-1]))
    return None


def _normalize_last_axes(operation: Operation, out: Tensor) -> Seen | None:
    (tensor, seen), count = operation.inputs[0], len(operation.arguments["normalized_shape"])
    return seen if all(map(is_plain, seen.axes[-count:])) and out.shape == tensor.shape else None


def _normalize_axis(operation: Operation, out: Tensor) -> Seen | None:
    return operation.first if is_plain(operation.first.axes[operation.arguments["dim"]]) else None


def _normalize_batch(operation: Operation, out: Tensor) -> Seen | None:
    """With running statistics; a batch's own are means over all positions."""
    trains = operation.arguments.get("training", operation.name == "_batch_norm_with_update")
    return operation.first if not trains and out.dim() == len(operation.first.axes) else None


def _reduce(operation: Operation, out: Tensor) -> Seen | None:
    seen, dims = operation.first, operation.arguments.get("dim")
    if dims is None or dims == []:
        return None
    reduced = {dim % len(seen.axes) for dim in ([dims] if isinstance(dims, int) else dims)}
    if not all(is_plain(seen.axes[dim]) for dim in reduced):
        return None
    kept = operation.arguments.get("keepdim", False)
    axes = [() if dim in reduced else axis for dim, axis in enumerate(seen.axes) if kept or dim not in reduced]
    return replace(seen, axes=tuple(axes))


_INTERPOLATIONS = {
    "upsample_nearest2d": "nearest",
    "upsample_bilinear2d": "bilinear",
    "upsample_bicubic2d": "bicubic",
}
_MATRICES = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "linear": ("input", "weight"),
}
_RULES: dict[str, Callable[[Operation, Tensor], Seen | None]] = {
    "convolution": _convolve,
    **dict.fromkeys(
        ("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d"),
        _pool,
    ),
    **dict.fromkeys(_INTERPOLATIONS, _interpolate),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _pad),
    "slice": _slice,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), _split),
    **dict.fromkeys(("select", "unbind"), _select),
    **dict.fromkeys(("permute", "transpose", "t"), _permute),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape", "squeeze", "unsqueeze"), _view),
    **dict.fromkeys(("cat", "stack"), _join),
    **dict.fromkeys(_MATRICES, _multiply_matrices),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), _normalize_last_axes),
    **dict.fromkeys(("_softmax", "_log_softmax"), _normalize_axis),
    **dict.fromkeys(
        (
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_no_training",
            "_batch_norm_no_update",
            "_batch_norm_with_update",
            "cudnn_batch_norm",
            "miopen_batch_norm",
        ),
        _normalize_batch,
    ),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp", "linalg_vector_norm"),
        _reduce,
    ),
}
# Operations that compute each entry alone, or copy entries without moving them, and that torch (2.11 at least) does
# not tag as pointwise.
_LOCAL = {
    "_prelu_kernel",
    "_to_copy",
    "alias",
    "channel_shuffle",
    "clone",
    "contiguous",
    "copy",
    "detach",
    "expand",
    "fill",
    "hardswish",
    "leaky_relu",
    "lift_fresh",
    "log_sigmoid_forward",
    "mish",
    "native_dropout",
    "rrelu_with_noise",
    "threshold",
    "zero",
}
