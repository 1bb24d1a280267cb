"""Activation functions whose gradient is redirected while it is wholly blocked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Bounds = tuple[float, float]


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        # Masks, since an in-place function overwrites the values.
        ctx.save_for_backward(values > low, values < high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (above, below), (gradient,) = ctx.saved_tensors, gradients
        usual = gradient.where(above & below, 0)
        # What would push a value that is outside already further out stays blocked.
        redirected = gradient.where((above | (gradient < 0)) & (below | (gradient > 0)), 0)
        blocked = ~usual.flatten(1).any(dim=1)
        return redirected.where(blocked.view(-1, *[1] * (gradient.dim() - 1)), usual), None, None


def redirected_clamp(values: Tensor, low: float = 0.0, high: float = math.inf) -> Tensor:
    """Clamps values, and lets the gradient of a wholly blocked sample (N, ...) through.

    For a sample whose gradient would be zero everywhere, values outside of the bounds get the gradient that
    pushes them inwards (for a loss to minimize). Source: Lucid's `redirected_relu_grad`
    (https://github.com/tensorflow/lucid, misc/redirected_relu_grad.py), for two bounds.
    """
    out: Tensor = _Redirected.apply(values, low, high)
    return out


class redirecting(TorchFunctionMode):  # noqa: N801 (read as a verb: `with redirecting():`)
    """Within the block every ReLU, ReLU6, hardtanh and clamp is a `redirected_clamp`.

    However they are written: as modules, functions, methods or in place, in a traced network or not.
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs `func`, or what redirects it."""
        kwargs = kwargs or {}
        find = _BOUNDS.get(func)
        bounds = find(*args, **kwargs) if find else None
        if bounds is None or not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            return func(*args, **kwargs)
        values = args[0]
        out = redirected_clamp(values, *bounds)
        in_place = getattr(func, "__name__", "").endswith("_") or kwargs.get("inplace")
        return values.copy_(out) if in_place else out


def _relu(*_: Any, **__: Any) -> Bounds:
    return 0.0, math.inf


def _relu6(*_: Any, **__: Any) -> Bounds:
    return 0.0, 6.0


def _hardtanh(_: Any, min_val: float = -1.0, max_val: float = 1.0, *__: Any, **___: Any) -> Bounds:
    return float(min_val), float(max_val)


def _clamp(_: Any, min: Any = None, max: Any = None) -> Bounds | None:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return None
    return (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))


def _clamp_min(_: Any, min: Any) -> Bounds | None:
    return _clamp(_, min)


_BOUNDS: dict[Any, Callable[..., Bounds | None]] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _relu),
    F.relu6: _relu6,
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys(
        (torch.clamp, torch.clamp_, torch.clip, torch.clip_, Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.clip_),
        _clamp,
    ),
    **dict.fromkeys((torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_), _clamp_min),
}
