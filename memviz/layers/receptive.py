"""The receptive field of every tensor that a network computes.

Instead of knowing modules, `FieldTracker` follows every tensor operation that really runs, so that functional layers,
shortcuts, concatenations and tensors in the layout of transformers count as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memviz.layers.axes import Axes, are_maps, is_plain, map_axes, plain_axis
from memviz.layers.interval import Interval
from memviz.layers.operations import EVERYTHING, Operation, Seen

Field = tuple[Interval, Interval]


class FieldTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, knows the receptive field of every tensor computed from `picture`.

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
        # By storage and by tensor. The tensors are kept: an id is only unique while its owner lives.
        self._known: dict[int, dict[int, tuple[Seen, Tensor]]] = {}
        self.additions = 0
        self._channels_last: set[int] = set()
        self._remember(picture, Seen(Interval(), Interval(), map_axes(picture.shape)))

    def field(self, tensor: Tensor) -> Field | None:
        """The field (vertical, horizontal) of maps (N, C, H, W), or None if they do not depend on the picture.

        Of tensors of another form it is that of the whole picture.
        """
        seen = self._seen(tensor)
        if seen is None:
            return None
        seen = seen if tensor.dim() == 4 and are_maps(seen.axes) else EVERYTHING
        return seen.rows, seen.columns

    def channels_last(self, tensor: Tensor) -> bool:
        """Whether a tensor's axes were permuted to (N, H, W, C), as transformers and ConvNeXt do."""
        return id(tensor) in self._channels_last

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [(tensor, seen) for tensor in _tensors([*args, *kwargs.values()]) if (seen := self._seen(tensor))]
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        # What `zeros_like` or `new_zeros` makes has a tensor's shape, and nothing of its values.
        if inputs and not (name.endswith("_like") or name.startswith("new_")):
            names = (argument.name for argument in func._schema.arguments)
            operation = Operation(func, dict(zip(names, args, strict=False)) | kwargs, inputs)
            permuted = _permuted(operation, any(self.channels_last(tensor) for tensor, _ in inputs))
            for tensor in _tensors(out):
                self._remember(tensor, operation.output(tensor))
                if permuted:
                    self._channels_last.add(id(tensor))
            if operation.name == "add" and len(inputs) == 2 and inputs[0][0].shape == inputs[1][0].shape:
                self.additions += 1
        return out

    def _seen(self, tensor: Tensor) -> Seen | None:
        sharing = self._known.get(_storage(tensor))
        if sharing is None:
            return None
        if id(tensor) in sharing:
            return sharing[id(tensor)][0]
        # Itself it does not depend on the picture, but something that does was written into its memory.
        (written, other), *more = sharing.values()
        axes = _axes_like(tensor, other, written)
        found = Seen(written.rows, written.columns, axes) if axes else EVERYTHING
        return found.overlaid(seen if _axes_like(tensor, other, seen) else EVERYTHING for seen, other in more)

    def _remember(self, tensor: Tensor, seen: Seen) -> None:
        sharing = self._known.setdefault(_storage(tensor), {})
        if id(tensor) in sharing and sharing[id(tensor)][0] != seen:
            # An in-place operation: others that share the memory have changed too.
            for key, (old, other) in sharing.items():
                aligned = old is not EVERYTHING and _axes_like(other, tensor, seen) == old.axes
                sharing[key] = (old.overlaid([seen]) if aligned else EVERYTHING), other
        sharing[id(tensor)] = seen, tensor


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _storage(tensor: Tensor) -> int:
    # Not its address in memory, which is 0 for all on the meta device.
    return int(tensor.untyped_storage()._cdata)


def _axes_like(tensor: Tensor, other: Tensor, seen: Seen) -> Axes | None:
    """The axes of a tensor, if its positions are those of another with which it shares its memory."""
    axes = [plain_axis(size) for size in tensor.shape]
    left = list(range(tensor.dim()))
    for axis, size, stride in zip(seen.axes, other.shape, other.stride(), strict=seen is not EVERYTHING):
        if not is_plain(axis):
            same = [dim for dim in left if (tensor.shape[dim], tensor.stride(dim)) == (size, stride)]
            if not same:
                return None
            axes[same[0]] = axis
            left.remove(same[0])
    return None if seen is EVERYTHING else tuple(axes)


def _permuted(operation: Operation, before: bool) -> bool:
    """Whether the axes are (N, H, W, C) after an operation, of whose inputs one was so `before`."""
    axes = list(operation.arguments["dims"]) if operation.name == "permute" else []
    return axes == [0, 2, 3, 1] or (before and axes != [0, 3, 1, 2])
