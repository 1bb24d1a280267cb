"""ReLUs whose gradient is redirected while it is wholly blocked."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from memviz.layers import replace_modules


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,), (gradient,) = ctx.saved_tensors, gradients
        usual = gradient.where(values > 0, 0)
        # What would push an already negative value lower stays blocked.
        redirected = gradient.where((values > 0) | (gradient < 0), 0)
        blocked = ~usual.flatten(1).any(dim=1)
        return redirected.where(blocked.view(-1, *[1] * (values.dim() - 1)), usual)


def redirected_relu(values: Tensor, *_: Any, **__: Any) -> Tensor:
    """A ReLU that lets the gradient of a wholly blocked sample (N, ...) through.

    For a sample whose gradient would be zero everywhere, values below zero get the gradient that
    pushes them up (for a loss to minimize). Source: Lucid's `redirected_relu_grad`
    (https://github.com/tensorflow/lucid, misc/redirected_relu_grad.py).
    """
    out: Tensor = _Redirected.apply(values)
    return out


class RedirectedReLU(nn.Module):
    """`redirected_relu` as a module."""

    def forward(self, values: Tensor) -> Tensor:
        """ReLU of values (N, ...)."""
        return redirected_relu(values)


def redirect_relus(network: nn.Module) -> None:
    """Replaces, in place, every ReLU of a private network: modules, and in a traced one also functions."""
    relus = [address for address, module in network.named_modules() if isinstance(module, nn.ReLU)]
    replace_modules(network, {address: RedirectedReLU() for address in relus})
    if isinstance(network, fx.GraphModule):
        for node in network.graph.nodes:
            is_function = node.op == "call_function" and node.target in (F.relu, torch.relu, torch.relu_, F.relu_)
            if is_function or (node.op == "call_method" and node.target in ("relu", "relu_")):
                node.op, node.target = "call_function", redirected_relu
        network.recompile()
