"""Local response normalization with an analytic gradient, several times faster than autograd's on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, autograd, nn

from memviz.layers.edit import replace_modules
from memviz.layers.private import has_forward_hooks


def _sum_neighbours(values: Tensor, before: int, after: int) -> Tensor:
    """Sums over a window along the last axis, with zero padding."""
    length = values.shape[-1]
    padded = F.pad(values, (before, after))
    total = padded[..., :length].clone()
    for shift in range(1, before + after + 1):
        total += padded[..., shift : shift + length]
    return total


class _ResponseNorm(autograd.Function):
    """``y = x d ** -beta`` with ``d = k + alpha / n * sum of x ** 2 over n neighbouring channels``."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        values, before, after = maps.movedim(1, -1), size // 2, (size - 1) // 2
        base = _sum_neighbours(values.square(), before, after).mul_(alpha / size).add_(k)
        factor = base.pow(-beta)
        ctx.save_for_backward(values, base, factor)
        ctx.settings = before, after, 2 * alpha * beta / size
        return (values * factor).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, base, factor = ctx.saved_tensors
        before, after, share = ctx.settings
        direct = gradients[0].movedim(1, -1) * factor
        # A channel influences those whose windows contain it: the mirrored window.
        through = _sum_neighbours(direct * values / base, after, before).mul_(values).mul_(share)
        return (direct - through).movedim(-1, 1), None, None, None, None


class ResponseNorm(nn.Module):
    """`torch.nn.LocalResponseNorm` on maps (N, C, H, W), fast on channels_last ones.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3, with torch's definition, which divides
    alpha by the window's size.

    Example:
        >>> import torch
        >>> maps = torch.rand(1, 8, 4, 4)
        >>> torch.allclose(ResponseNorm(nn.LocalResponseNorm(5))(maps), nn.LocalResponseNorm(5)(maps))
        True
    """

    def __init__(self, like: nn.LocalResponseNorm) -> None:
        super().__init__()
        self.settings = like.size, like.alpha, like.beta, like.k

    def forward(self, maps: Tensor) -> Tensor:
        """Normalized maps (N, C, H, W), of the same type; 16-bit ones are computed in 32 bits, or squares overflow."""
        exact = torch.promote_types(maps.dtype, torch.float32)
        out: Tensor = _ResponseNorm.apply(maps.to(exact), *self.settings)
        return out.to(maps.dtype)


def replace_response_norms(network: nn.Module) -> None:
    """Replaces, in place, the local response normalizations of a private network that have no hooks."""
    norms = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.LocalResponseNorm) and not has_forward_hooks(module)
    }
    replace_modules(network, {address: ResponseNorm(norm) for address, norm in norms.items()})
