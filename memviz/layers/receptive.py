"""The receptive field of every tensor that a network computes.

`FieldTracker` follows the tensor operations that run, not the modules, so that functional layers, shortcuts,
concatenations and the (N, H, W, C) layout of transformers are covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memviz.layers.axes import Axes, are_maps, is_plain, map_axes, plain_axis
from memviz.layers.interval import Interval
from memviz.layers.operations import WHOLE_PICTURE, Operation, TensorField

Field = tuple[Interval, Interval]


class FieldTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, tracks the receptive field of every tensor computed from `picture`.

    `additions` counts the sums of two feature maps of equal shape: the junctions of residual blocks.

    Args:
        picture: (1, C, H, W), the network's input.

    Example:
        >>> import torch
        >>> picture = torch.zeros(1, 3, 32, 32)
        >>> with torch.no_grad(), FieldTracker(picture) as tracker:
        ...     maps = torch.nn.Conv2d(3, 4, 5, stride=2)(picture)
        >>> tracker.field(maps)[0]
        Interval(jump=2.0, low=0.0, high=4.0)
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Keyed by storage, then by tensor. The tensors are kept alive, because ids are reused.
        self._known: dict[int, dict[int, tuple[TensorField, Tensor]]] = {}
        self.additions = 0
        self._channels_last: set[int] = set()
        self._remember(picture, TensorField(Interval(), Interval(), map_axes(picture.shape)))

    def field(self, tensor: Tensor) -> Field | None:
        """The field (vertical, horizontal) of maps (N, C, H, W), or None if they do not depend on the picture.

        For tensors of another form it is the whole picture.
        """
        field = self._look_up(tensor)
        if field is None:
            return None
        field = field if tensor.dim() == 4 and are_maps(field.axes) else WHOLE_PICTURE
        return field.rows, field.columns

    def channels_last(self, tensor: Tensor) -> bool:
        """Whether a tensor's axes were permuted to (N, H, W, C), as transformers and ConvNeXt do."""
        return id(tensor) in self._channels_last

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_find_tensors([*args, *kwargs.values()]))
        inputs = [(tensor, field) for tensor in given if (field := self._look_up(tensor))]
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        # `zeros_like` and `new_zeros` use a tensor's shape, not its values.
        if inputs and not (name.endswith("_like") or name.startswith("new_")):
            names = (argument.name for argument in func._schema.arguments)
            operation = Operation(func, dict(zip(names, args, strict=False)) | kwargs, inputs)
            permuted = _is_channels_last(operation, any(self.channels_last(tensor) for tensor, _ in inputs))
            for tensor in _find_tensors(out):
                self._remember(tensor, operation.output(tensor), any(tensor is each for each in given))
                if permuted:
                    self._channels_last.add(id(tensor))
            if operation.name == "add" and len(inputs) == 2 and inputs[0][0].shape == inputs[1][0].shape:
                self.additions += 1
        return out

    def _look_up(self, tensor: Tensor) -> TensorField | None:
        sharing = self._known.get(_identify_storage(tensor))
        if sharing is None:
            return None
        if id(tensor) in sharing:
            return sharing[id(tensor)][0]
        # The tensor was not computed from the picture, but a view of its memory was written to.
        (written, other), *more = sharing.values()
        axes = _match_axes(tensor, other, written)
        found = TensorField(written.rows, written.columns, axes) if axes else WHOLE_PICTURE
        return found.merge(field if _match_axes(tensor, other, field) else WHOLE_PICTURE for field, other in more)

    def _remember(self, tensor: Tensor, field: TensorField, in_place: bool = False) -> None:
        changed = in_place and self._look_up(tensor) != field
        sharing = self._known.setdefault(_identify_storage(tensor), {})
        if changed:
            # So have the tensors that share the memory.
            for key, (old, other) in sharing.items():
                aligned = old is not WHOLE_PICTURE and _match_axes(other, tensor, field) == old.axes
                sharing[key] = (old.merge([field]) if aligned else WHOLE_PICTURE), other
        sharing[id(tensor)] = field, tensor


def _find_tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _find_tensors(value)


def _identify_storage(tensor: Tensor) -> int:
    # Not data_ptr(), which is 0 for every tensor on the meta device.
    return int(tensor.untyped_storage()._cdata)


def _match_axes(tensor: Tensor, other: Tensor, field: TensorField) -> Axes | None:
    """The axes of a tensor that shares its memory with another; None if their positions do not coincide."""
    if field is WHOLE_PICTURE:
        return None
    axes = [plain_axis(size) for size in tensor.shape]
    left = list(range(tensor.dim()))
    for axis, size, stride in zip(field.axes, other.shape, other.stride(), strict=True):
        if not is_plain(axis):
            same = [dim for dim in left if (tensor.shape[dim], tensor.stride(dim)) == (size, stride)]
            if not same:
                return None
            axes[same[0]] = axis
            left.remove(same[0])
    # One may begin some channels after the other, but not some rows or columns.
    offset = abs(int(tensor.storage_offset()) - int(other.storage_offset()))
    for dim in sorted(range(tensor.dim()), key=lambda dim: tensor.stride(dim), reverse=True):
        steps, offset = divmod(offset, max(tensor.stride(dim), 1))
        if steps and not is_plain(axes[dim]):
            return None
    return tuple(axes)


def _is_channels_last(operation: Operation, before: bool) -> bool:
    """Whether the output's axes are (N, H, W, C); `before` says whether those of an input were."""
    axes = list(operation.arguments["dims"]) if operation.name == "permute" else []
    return axes == [0, 2, 3, 1] or (before and axes != [0, 3, 1, 2])
