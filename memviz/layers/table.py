"""The table of a network's layers, in execution order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import msgspec
import torch
from torch import Tensor, nn

from memviz.errors import LayerError, StoreError, did_you_mean
from memviz.layers.capture import check_uncompiled, evaluating
from memviz.layers.receptive import Field, FieldTracker
from memviz.layers.unit import check_address, lies_in

if TYPE_CHECKING:
    import pandas as pd

# The names that torchvision and timm give to the projection on a residual block's shortcut.
_SHORTCUTS = {"downsample", "shortcut"}
# The name in RegNet and MaxViT; elsewhere it has other meanings, such as the embedding of patches.
_PROJECTION = "proj"
# Pixels: no receptive field of a network is larger.
_FARTHEST = 1e9
_ORDINAL = re.compile(r"[^/\\\0:@]*@[1-9]\d{0,6}", re.ASCII)
CONVOLUTIONS = {"Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"}


@dataclass(frozen=True)
class Layer:
    """One layer: its address, the size of its output, and the receptive field of each output.

    Attributes:
        address: torch's dotted name.
        kind: the module's class; for every kind of convolution torch's own, as "Conv2d".
        channels, height, width: output size; height and width are 1 for a vector.
        stride: input pixels (vertical, horizontal) between neighbouring outputs; None where
            every output depends on the whole picture.
        receptive_field: (height, width) in input pixels; None where every output depends on the whole picture.
        offset: input pixel (vertical, horizontal) at the centre of output (0, 0)'s field.
        ordinal: place among the convolutions of its branch, shortcuts not counted, as `resnet@139`
            (the paper's counting: conv1 = 1, layer1.0.conv1 = 2); None for other layers.
        block: whether it is a residual block, that is, adds two feature maps.

    Raises:
        ValueError: sizes, fields or names that no layer can have.
    """

    address: str
    kind: str
    channels: int
    height: int
    width: int
    stride: tuple[float, float] | None
    receptive_field: tuple[int, int] | None
    offset: tuple[float, float] | None
    ordinal: str | None
    block: bool

    def __post_init__(self) -> None:
        """Checks ranges and names."""
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError(f"{self.address} has {self.channels} maps of {self.height} x {self.width}")
        lengths = (*(self.receptive_field or ()), *(self.stride or ()))
        if not all(0 < length <= _FARTHEST for length in lengths) or not all(
            abs(place) <= _FARTHEST for place in self.offset or ()
        ):
            raise ValueError(f"{self.address} sees {self.receptive_field} px every {self.stride} px from {self.offset}")
        if self.ordinal is not None and not _ORDINAL.fullmatch(self.ordinal):
            raise ValueError(f"{self.address} cannot be the convolution {self.ordinal!r}")
        try:
            check_address(self.address)
        except LayerError as error:
            raise ValueError(str(error)) from error

    def field(self, y: int, x: int) -> tuple[float, float, float, float] | None:
        """The receptive field of output (y, x) as (left, top, right, bottom) edges in input pixels.

        The left edge of the picture is 0.0. The field is not clipped: what exceeds the picture is
        padding. None where every output depends on the whole picture.
        """
        if self.receptive_field is None or self.stride is None or self.offset is None:
            return None
        height, width = self.receptive_field
        top = self.offset[0] + y * self.stride[0] + 0.5 - height / 2
        left = self.offset[1] + x * self.stride[1] + 0.5 - width / 2
        return left, top, left + width, top + height

    def interior(self, input_size: tuple[int, int], output_size: tuple[int, int] | None = None) -> tuple[slice, slice]:
        """The rows and columns of outputs whose receptive field lies inside an input of (height, width) px.

        All rows and columns where there is none, or where every output depends on the whole picture. A unit's mean
        and peak are taken over these positions.

        Args:
            input_size: (height, width) of the input.
            output_size: (height, width) of the maps, where the input has not the size that the table was made for.

        >>> Layer("conv", "Conv2d", 8, 5, 5, (4, 4), (11, 11), (3.5, 3.5), None, False).interior((20, 20))
        (slice(1, 3, None), slice(1, 3, None))
        """
        counts = output_size or (self.height, self.width)
        everywhere = slice(0, counts[0]), slice(0, counts[1])
        if self.receptive_field is None or self.stride is None or self.offset is None:
            return everywhere
        axes = []
        for axis, count in enumerate(counts):
            first = self.offset[axis] + 0.5 - self.receptive_field[axis] / 2
            inside = [
                place
                for place in range(count)
                if first + place * self.stride[axis] >= 0
                and first + place * self.stride[axis] + self.receptive_field[axis] <= input_size[axis]
            ]
            if not inside:
                return everywhere
            axes.append(slice(inside[0], inside[-1] + 1))
        return axes[0], axes[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution itself; torchvision's `Conv2dNormActivation`, which contains one, is not."""
        return self.kind in CONVOLUTIONS

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layer:
        """The layer that `to_dict` described; a `StoreError` if it is none.

        >>> layer = Layer("conv", "Conv2d", 8, 5, 5, (4, 4), (11, 11), (3.5, 3.5), "@1", False)
        >>> Layer.from_dict(layer.to_dict()) == layer
        True
        """
        try:
            return msgspec.convert(data, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise StoreError(f"This describes no layer: {error}.") from error


class LayerTable(Sequence[Layer]):
    """The layers of a network, in the order in which they finish.

    Entries are looked up by position, address or convolution ordinal:
    `table[0]`, `table["alexnet.conv4"]`, `table["resnet@139"]`.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._layers = list(layers)
        self._names = {layer.address: layer for layer in self._layers}
        self._names |= {layer.ordinal: layer for layer in self._layers if layer.ordinal}

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __contains__(self, key: object) -> bool:
        return key in self._names or key in self._layers

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> LayerTable: ...
    def __getitem__(self, key: int | str | slice) -> Layer | LayerTable:
        if isinstance(key, slice):
            return LayerTable(self._layers[key])
        if isinstance(key, int):
            return self._layers[key]
        if key not in self._names:
            raise LayerError(f"There is no layer {key!r}. {self._suggest(key)}")
        return self._names[key]

    def _suggest(self, key: str) -> str:
        branch, mark, _ = key.rpartition("@")
        ordinals = [layer.ordinal for layer in self._layers if layer.ordinal and layer.ordinal.startswith(f"{branch}@")]
        if mark and ordinals:
            return f"Its convolutions are {ordinals[0]} to {ordinals[-1]}."
        return did_you_mean(key, self._names)

    def convolutions(self) -> LayerTable:
        """The convolutions, shortcuts included."""
        return LayerTable(layer for layer in self._layers if layer.is_convolution)

    def watched(self) -> LayerTable:
        """The layers that an index covers by default: convolutions and residual blocks."""
        return LayerTable(layer for layer in self._layers if layer.is_convolution or layer.block)

    def frame(self) -> pd.DataFrame:
        """The table as a data frame, one row per layer."""
        import pandas as pd

        return pd.DataFrame([layer.to_dict() for layer in self._layers])

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False))

    def __repr__(self) -> str:
        return str(self.frame().to_string(index=False)) if self._layers else "LayerTable([])"


def layer_table(module: nn.Module, example: Tensor, branches: Sequence[str] = ()) -> LayerTable:
    """The layers that run when `module` is given `example`.

    Args:
        module: any module; it runs once, in evaluation mode, without gradients.
        example: (1, 3, H, W), a picture of the size that the network takes.
        branches: names of top-level children that count their convolutions separately.

    Returns:
        Each submodule that ran and returned one tensor (N, C, H, W) or (N, C), in the order in which they
        finished; the last call of one that ran more than once. There are no rows for tokens (N, L, C) and
        maps permuted to (N, H, W, C), as inside transformers, nor for outputs that do not depend on the
        picture, such as position biases.

    Raises:
        ModelError: the module, or a part of it, was compiled by `torch.jit`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2))
        >>> layer_table(network, torch.zeros(1, 3, 227, 227))["2"].receptive_field
        (19, 19)
    """
    check_uncompiled(module)
    rows: dict[str, Layer] = {}
    blocks: set[str] = set()
    entered: dict[str, Any] = {}
    handles = []

    def enter(address: str) -> Any:
        def hook(child: nn.Module, inputs: Any) -> None:
            additions.append(tracker.additions)
            entered[address] = inputs[0] if inputs else None

        return hook

    def leave(address: str) -> Any:
        def hook(child: nn.Module, inputs: Any, output: Any) -> None:
            # The innermost module that adds two feature maps is the block; the count also rose for its parents.
            if tracker.additions > additions.pop():
                if any(child.children()):
                    blocks.add(address)
                additions[:] = [tracker.additions] * len(additions)
            if address and isinstance(output, Tensor) and output.dim() in (2, 4) and len(output) == 1:
                field = tracker.field(output)
                if field and output.numel() and not tracker.channels_last(output):
                    rows.pop(address, None)
                    rows[address] = _make_row(address, child, output, field)

        return hook

    tracker = FieldTracker(example)
    additions: list[int] = []
    try:
        for address, child in module.named_modules():
            handles += [child.register_forward_pre_hook(enter(address)), child.register_forward_hook(leave(address))]
        with evaluating(module), torch.no_grad(), tracker:
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    shortcuts = {address for address in entered if _is_projection(address, entered, blocks)}
    return LayerTable(_number_convolutions(rows.values(), blocks, shortcuts, branches))


def _is_projection(address: str, entered: Mapping[str, Any], blocks: set[str]) -> bool:
    """Whether a module of that name is applied to its block's input: on the shortcut, not on the main path."""
    parent, _, name = address.rpartition(".")
    return name == _PROJECTION and parent in blocks and entered[address] is entered[parent]


def _make_row(address: str, child: nn.Module, output: Tensor, field: Field) -> Layer:
    is_map = output.dim() == 4
    rows, columns = field
    size = offset = stride = None
    if not (rows.unbounded or columns.unbounded):
        stride = (rows.jump, columns.jump)
        size = (round(rows.high - rows.low) + 1, round(columns.high - columns.low) + 1)
        offset = ((rows.low + rows.high) / 2, (columns.low + columns.high) / 2)
    return Layer(
        address=address,
        kind=_name_kind(child),
        channels=output.shape[1],
        height=output.shape[2] if is_map else 1,
        width=output.shape[3] if is_map else 1,
        stride=stride,
        receptive_field=size,
        offset=offset,
        ordinal=None,
        block=False,
    )


def _name_kind(child: nn.Module) -> str:
    names = [each.__name__ for each in type(child).__mro__]
    return next((name for name in names if name in CONVOLUTIONS), names[0])


def _number_convolutions(
    rows: Iterable[Layer], blocks: set[str], shortcuts: set[str], branches: Sequence[str]
) -> Iterator[Layer]:
    count: Counter[str] = Counter()
    for row in rows:
        parts = row.address.split(".")
        ordinal = None
        on_shortcut = _SHORTCUTS & set(parts) or any(lies_in(row.address, each) for each in shortcuts)
        if row.is_convolution and not on_shortcut:
            branch = parts[0] if parts[0] in branches else ""
            count[branch] += 1
            ordinal = f"{branch}@{count[branch]}"
        yield replace(row, ordinal=ordinal, block=row.address in blocks)
