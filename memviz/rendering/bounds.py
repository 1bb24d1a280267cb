"""Interval bounds of what a network can give, by which a unit is known to have one activation on every picture.

Each operation takes bounds of its input to bounds of its output (Gowal et al. 2018, "On the Effectiveness of Interval
Bound Propagation for Training Verifiably Robust Models"). In deep networks the bounds are wide, but they close behind
what is always shut.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

# By how much bounds are widened for the rounding of the network itself.
ROUNDING = 1e-5
# What rises, or stays, with each entry of its inputs.
_MODULES = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Identity, nn.Flatten,
)  # fmt: skip
_FUNCTIONS = {
    operator.add, operator.iadd, torch.add, torch.cat, torch.flatten, torch.relu, torch.sigmoid, F.relu, F.relu6,
    F.hardtanh, F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d,
}  # fmt: skip
_METHODS = {"clone", "contiguous", "flatten", "reshape", "view", "relu", "relu_", "sigmoid"}


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest values that the entries of a tensor can have."""

    low: Tensor
    high: Tensor


def bound(network: nn.Module, inputs: Bounds) -> Mapping[str, Bounds]:
    """Bounds of the activations of layers, by address; none where the bounds of an operation are not known here.

    Args:
        network: from `memviz.layers.truncate`, frozen and in evaluation mode.
        inputs: of its inputs (1, 3, H, W).
    """
    if not isinstance(network, fx.GraphModule):
        return {}
    interpreter = _Interpreter(network)
    interpreter.extra_traceback = False  # which would replace the error
    try:
        with torch.no_grad():
            bounds: Mapping[str, Bounds] = interpreter.run(inputs)
    except _UnknownError:
        return {}
    return bounds


class _UnknownError(Exception):
    """An operation whose bounds are not known here."""


class _Interpreter(fx.Interpreter):
    """Runs a traced network on bounds."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bounds:
        module = self.fetch_attr(target)
        if isinstance(module, nn.Conv2d | nn.Linear) and not kwargs:
            return _weighted(module, *args)
        return _rising(module, args, kwargs, isinstance(module, _MODULES))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bounds:
        return _rising(target, args, kwargs, target in _FUNCTIONS)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bounds:
        return _rising(getattr(Tensor, target), args, kwargs, target in _METHODS)


def _weighted(module: nn.Conv2d | nn.Linear, values: Bounds) -> Bounds:
    """By what it gives for the middle, and for half the width by the absolute weights."""
    middle, reach = (values.low + values.high) / 2, (values.high - values.low) / 2
    centre, weight = module(middle), module.weight.abs()
    if isinstance(module, nn.Linear):
        reach = F.linear(reach, weight)
    else:
        if module.padding_mode != "zeros":
            raise _UnknownError
        reach = F.conv2d(reach, weight, None, module.stride, module.padding, module.dilation, module.groups)
    reach = torch.where(reach > 0, reach + ROUNDING * (reach + centre.abs()), reach)
    return Bounds(centre - reach, centre + reach)


def _rising(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], known: bool) -> Bounds:
    if not known:
        raise _UnknownError

    def run(side: str) -> Any:
        def choose(value: Any) -> Any:
            return getattr(value, side) if isinstance(value, Bounds) else value

        return function(*map_aggregate(args, choose), **map_aggregate(kwargs, choose))

    return Bounds(run("low"), run("high"))
