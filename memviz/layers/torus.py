"""A network that sees a picture as if repeated without end: at the cost of the picture alone."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, autograd, fx, nn

from memviz.layers.edit import replace_modules
from memviz.layers.private import free_without_collection, has_forward_hooks
from memviz.layers.response_norm import ResponseNorm

# What treats each position of a map like every other, and alone.
_POSITIONWISE = (
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.LocalResponseNorm,
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
    ResponseNorm,
)
_FUNCTIONS = {operator.add, operator.iadd, operator.mul, operator.sub, torch.add, torch.relu, F.relu, F.relu_}
_METHODS = {"add", "add_", "clone", "contiguous", "mul", "mul_", "relu", "relu_"}


def on_torus(graph: fx.GraphModule) -> fx.GraphModule | None:
    """The network on pictures that go on at one edge where they end at the other; None where that is not known to work.

    Each convolution and pooling takes what it needs beyond an edge from the opposite one, in place of zeros. Its maps
    are then those of the picture repeated without end, at the positions of one picture. On pictures whose sides are not
    multiples of the strides, running it raises a `RuntimeError`.

    Args:
        graph: of `memviz.layers.truncate`. It is not changed; the result shares its weights.

    Example:
        >>> from memviz.layers import truncate
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.MaxPool2d(3, 2))
        >>> torus = on_torus(truncate(network, ["1"]))
        >>> picture = torch.rand(1, 3, 8, 8)
        >>> maps = truncate(network, ["1"])(picture.repeat(1, 1, 3, 3))["1"]
        >>> torch.allclose(torus(picture)["1"], maps[..., 4:8, 4:8], atol=1e-6)
        True
    """
    modules: dict[str, nn.Module] = dict(graph.named_modules(remove_duplicate=False))
    replacements: dict[str, nn.Module] = {}
    made: dict[int, nn.Module] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            module = modules[str(node.target)]
            if has_forward_hooks(module):
                return None
            if window := _window(module):
                wrapped = made.setdefault(id(module), _Wrapping(module, *window))
                replacements[str(node.target)] = wrapped
            elif type(module) not in _POSITIONWISE:
                return None
        elif not _is_positionwise(node):
            return None
    torus = fx.GraphModule(graph, copy.deepcopy(graph.graph), "Torus")
    replace_modules(torus, replacements)
    free_without_collection(torus)
    return torus


def _is_positionwise(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _FUNCTIONS or (node.target is torch.cat and _dimension(node) == 1)
    return node.op in ("placeholder", "output") or (node.op == "call_method" and node.target in _METHODS)


def _dimension(node: fx.Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def _window(module: nn.Module) -> tuple[list[int], list[int], list[int]] | None:
    """Padding before, extent and stride of a convolution's or pooling's window, (vertical, horizontal)."""
    if type(module) is nn.Conv2d:
        if isinstance(module.padding, str) or module.padding_mode not in ("zeros", "circular"):
            return None
    elif type(module) not in (nn.MaxPool2d, nn.AvgPool2d):  # whose `ceil_mode` changes nothing where sides close
        return None
    kernel, stride, padding = (_pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding"))
    dilation = _pair(getattr(module, "dilation", 1))
    return padding, [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)], stride


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Wrapping(nn.Module):
    """A convolution or pooling on a torus."""

    def __init__(self, module: Any, padding: list[int], extent: list[int], stride: list[int]) -> None:
        super().__init__()
        # A shallow copy shares the weights, and gets dictionaries of its own.
        self.module = copy.copy(module)
        self.module.padding = (0, 0)
        if isinstance(module, nn.Conv2d):
            self.module.padding_mode = "zeros"
        self.stride = stride
        self.pads = [(before, size - step - before) for before, size, step in zip(padding, extent, stride, strict=True)]

    def forward(self, maps: Tensor) -> Tensor:
        for length, step, pads in zip(maps.shape[2:], self.stride, self.pads, strict=True):
            if length % step or max(pads) > length:
                raise RuntimeError(f"maps of {length} positions do not close on a torus at a stride of {step}")
        (top, bottom), (left, right) = self.pads
        maps = maps[:, :, : maps.shape[2] + min(bottom, 0), : maps.shape[3] + min(right, 0)]
        sides = left, max(right, 0), top, max(bottom, 0)
        out: Tensor = self.module(_Wrap.apply(maps, sides) if any(sides) else maps)
        return out


class _Wrap(autograd.Function):
    """`F.pad(mode="circular")` that keeps the memory layout, in two copies."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
        ctx.pads = pads
        left, right, top, bottom = pads
        height, width = maps.shape[2:]
        shape = len(maps), maps.shape[1], top + height + bottom, left + width + right
        out = torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=_layout(maps))
        rows = out[:, :, top : top + height]
        rows[..., left : left + width] = maps
        rows[..., :left] = maps[..., width - left :]
        rows[..., left + width :] = maps[..., :right]
        out[:, :, :top] = out[:, :, height : height + top]
        out[:, :, top + height :] = out[:, :, top : top + bottom]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        left, right, top, bottom = ctx.pads
        (gradient,) = gradients
        height, width = gradient.shape[2] - top - bottom, gradient.shape[3] - left - right
        rows = gradient[:, :, top : top + height].clone()
        rows[:, :, height - top :] += gradient[:, :, :top]
        rows[:, :, :bottom] += gradient[:, :, top + height :]
        inner = rows[..., left : left + width]
        inner[..., width - left :] += rows[..., :left]
        inner[..., :right] += rows[..., left + width :]
        return inner.contiguous(memory_format=_layout(gradient)), None


def _layout(maps: Tensor) -> torch.memory_format:
    return torch.channels_last if maps.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
