"""Receptive fields through single tensor operations: the field of the output from the fields of the inputs."""

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
class TensorField:
    """The receptive field of a tensor's entries.

    A tensor whose entries may depend on the whole picture has the field `WHOLE_PICTURE`.

    Attributes:
        rows, columns: the input pixels on which an entry depends, by its position.
        axes: which axes of the tensor the positions run along; () in `WHOLE_PICTURE`.
    """

    rows: Interval
    columns: Interval
    axes: Axes

    def combine(self, others: Iterable[TensorField], shape: Sequence[int]) -> TensorField:
        """The field of an elementwise function, whose output has `shape`, of this and other tensors."""
        every = [self, *others]
        axes = broadcast([each.axes for each in every], shape)
        field = self.merge(every[1:])
        return WHOLE_PICTURE if axes is None or field is WHOLE_PICTURE else replace(field, axes=axes)

    def merge(self, others: Iterable[TensorField]) -> TensorField:
        """The field after tensors with the same positions were written into this tensor's memory."""
        rows, columns = self.rows, self.columns
        for other in others:
            rows, columns = rows.union(other.rows), columns.union(other.columns)
        return WHOLE_PICTURE if rows.unbounded or columns.unbounded else TensorField(rows, columns, self.axes)

    def shift(self, dim: int, start: int, step: int, size: int) -> TensorField | None:
        """The field after an axis was sliced or, with a negative start, padded; None if that splits positions."""
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
        return TensorField(rows, columns, tuple(axes))


WHOLE_PICTURE = TensorField(Interval(1.0, -math.inf, math.inf), Interval(1.0, -math.inf, math.inf), ())


@dataclass(frozen=True)
class Operation:
    """A call of one of torch's operators.

    Attributes:
        function: the operator's overload, as `TorchDispatchMode` receives it.
        arguments: by their names in torch's schema; those left at their defaults are missing.
        inputs: the tensors among the arguments that depend on the picture, with their fields.
    """

    function: Any
    arguments: dict[str, Any]
    inputs: list[tuple[Tensor, TensorField]]

    @property
    def name(self) -> str:
        """The operator's name, without the underscore of the in-place variant."""
        return str(self.function.overloadpacket.__name__).rstrip("_")

    def output(self, out: Tensor) -> TensorField:
        """The field of an output; the whole picture for operators without a rule."""
        if any(field is WHOLE_PICTURE for _, field in self.inputs):
            return WHOLE_PICTURE
        rule = _RULES.get(self.name)
        if rule is None and (torch.Tag.pointwise in self.function.tags or self.name in _LOCAL):
            rule = _combine_entries
        return (rule and rule(self, out)) or WHOLE_PICTURE

    @property
    def first(self) -> TensorField:
        """The field of the first input."""
        return self.inputs[0][1]

    def only(self, argument: str) -> TensorField | None:
        """The field of an argument, if it is the only one that depends on the picture."""
        tensor, field = self.inputs[0]
        return field if len(self.inputs) == 1 and tensor is self.arguments.get(argument) else None


def _combine_entries(operation: Operation, out: Tensor) -> TensorField:
    first, *others = (field for _, field in operation.inputs)
    return first.combine(others, out.shape)


def _last_two(value: Sequence[int], default: int) -> tuple[int, int]:
    """The last two entries of a per-axis setting, as torch's operators store it."""
    return (value[-2], value[-1]) if len(value) > 1 else (value[0],) * 2 if value else (default,) * 2


def _convolve(operation: Operation, out: Tensor) -> TensorField | None:
    field, given = operation.only("input"), operation.arguments
    if field is None or not are_maps(field.axes) or given["weight"].dim() < 4:
        return None
    settings = zip(
        _last_two(given["weight"].shape, 1),
        _last_two(given["stride"], 1),
        _last_two(given["padding"], 0),
        _last_two(given["dilation"], 1),
        strict=True,
    )
    moves = (axis.spread if given["transposed"] else axis.window for axis in (field.rows, field.columns))
    rows, columns = (move(*setting) for move, setting in zip(moves, settings, strict=True))
    return TensorField(rows, columns, map_axes(out.shape))


def _pool(operation: Operation, out: Tensor) -> TensorField | None:
    field, given = operation.first, operation.arguments
    if not are_maps(field.axes):
        return None
    kernel = _last_two(given["kernel_size"], 1)
    stride = _last_two(given.get("stride") or kernel, 1)
    settings = zip(
        kernel, stride, _last_two(given.get("padding", ()), 0), _last_two(given.get("dilation", ()), 1), strict=True
    )
    rows, columns = (axis.window(*setting) for axis, setting in zip((field.rows, field.columns), settings, strict=True))
    return TensorField(rows, columns, map_axes(out.shape))


def _interpolate(operation: Operation, out: Tensor) -> TensorField | None:
    (tensor, field), mode = operation.inputs[0], _INTERPOLATIONS[operation.name]
    if not are_maps(field.axes):
        return None
    aligned = operation.arguments.get("align_corners", False)
    return TensorField(
        field.rows.resized(mode, tensor.shape[-2], out.shape[-2], aligned),
        field.columns.resized(mode, tensor.shape[-1], out.shape[-1], aligned),
        map_axes(out.shape),
    )


def _pad(operation: Operation, out: Tensor) -> TensorField | None:
    field: TensorField | None = operation.first
    pads = operation.arguments.get("pad") or operation.arguments["padding"]
    for dim, before in enumerate(pads[::2], start=1):
        field = field and field.shift(-dim, -before, 1, out.shape[-dim])
    return field


def _slice(operation: Operation, out: Tensor) -> TensorField | None:
    (tensor, field), given = operation.inputs[0], operation.arguments
    dim = given.get("dim", 0)
    start = slice(given.get("start"), None).indices(tensor.shape[dim])[0]
    return field.shift(dim, start, given.get("step", 1), out.shape[dim])


def _split(operation: Operation, out: Tensor) -> TensorField | None:
    dim, field = operation.arguments.get("dim", 0), operation.first
    return field.shift(dim, 0, 1, out.shape[dim]) if is_plain(field.axes[dim]) else None


def _select(operation: Operation, out: Tensor) -> TensorField | None:
    field = operation.first
    dim = operation.arguments.get("dim", 0) % len(field.axes)
    return replace(field, axes=field.axes[:dim] + field.axes[dim + 1 :]) if is_plain(field.axes[dim]) else None


def _permute(operation: Operation, out: Tensor) -> TensorField:
    field, given = operation.first, operation.arguments
    order = list(range(len(field.axes)))
    if "dims" in given:
        order = [dim % len(order) for dim in given["dims"]]
    else:
        one, other = given.get("dim0", 0), given.get("dim1", -1)
        order[one], order[other] = order[other], order[one]
    return replace(field, axes=tuple(field.axes[dim] for dim in order))


def _view(operation: Operation, out: Tensor) -> TensorField | None:
    axes = regroup(operation.first.axes, out.shape)
    return None if axes is None else replace(operation.first, axes=axes)


def _join(operation: Operation, out: Tensor) -> TensorField | None:
    dim = operation.arguments.get("dim", 0) % out.dim()
    skipped = 0 if operation.name == "stack" else 1
    joined = []
    for _, field in operation.inputs:
        if skipped and not is_plain(field.axes[dim]):
            return None
        axes = (*field.axes[:dim], plain_axis(out.shape[dim]), *field.axes[dim + skipped :])
        joined.append(replace(field, axes=axes))
    return joined[0].combine(joined[1:], out.shape)


def _multiply_matrices(operation: Operation, out: Tensor) -> TensorField | None:
    """The product with a matrix of weights, summed over an axis without positions, as in a linear layer."""
    left, right = _MATRICES[operation.name]
    if (field := operation.only(left)) and is_plain(field.axes[-1]):
        return replace(field, axes=(*field.axes[:-1], plain_axis(out.shape[-1])))
    if (field := operation.only(right)) and is_plain(field.axes[-2]):
        return replace(field, axes=(*field.axes[:-2], plain_axis(out.shape[-2]), field.axes[-1]))
    return None


def _normalize_last_axes(operation: Operation, out: Tensor) -> TensorField | None:
    (tensor, field), count = operation.inputs[0], len(operation.arguments["normalized_shape"])
    return field if all(map(is_plain, field.axes[-count:])) and out.shape == tensor.shape else None


def _normalize_axis(operation: Operation, out: Tensor) -> TensorField | None:
    return operation.first if is_plain(operation.first.axes[operation.arguments["dim"]]) else None


def _normalize_batch(operation: Operation, out: Tensor) -> TensorField | None:
    """Batch norm is local with running statistics only: a batch's own are means over all positions."""
    trains = operation.arguments.get("training", operation.name == "_batch_norm_with_update")
    return operation.first if not trains and out.dim() == len(operation.first.axes) else None


def _reduce(operation: Operation, out: Tensor) -> TensorField | None:
    field, dims = operation.first, operation.arguments.get("dim")
    if dims is None or dims == []:
        return None
    reduced = {dim % len(field.axes) for dim in ([dims] if isinstance(dims, int) else dims)}
    if not all(is_plain(field.axes[dim]) for dim in reduced):
        return None
    kept = operation.arguments.get("keepdim", False)
    axes = [() if dim in reduced else axis for dim, axis in enumerate(field.axes) if kept or dim not in reduced]
    return replace(field, axes=tuple(axes))


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
_RULES: dict[str, Callable[[Operation, Tensor], TensorField | None]] = {
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
# Elementwise operators, and copies, that torch (2.11 at least) does not tag as pointwise.
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
