"""Gradient ascent on a batch of pictures, of which each leaves as soon as it no longer gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memviz.progress import Advance

# A picture leaves when its mean value over this many steps is not above that over as many before by this share; over
# single steps, the random transforms move the value more than the ascent does.
WINDOW, GAIN = 8, 0.01
# Steps after which a picture that no gradient has reached is given up. Lucid redirects for as many
# (optvis/overrides/redirected_relu_grad.py).
PATIENCE = 2 * WINDOW
# Adam's epsilon, relative to the largest entry of a picture's first gradient: above float32's rounding, which
# Adam would otherwise blow up. The usual absolute one leaves a grey square of a unit with tiny weights, as 17 of
# the first 64 of ResNet-152 have.
EPSILON = 1e-4

Values = Callable[[int, Tensor], Tensor]
"""From the number of a step and parameters (n, ...) to values (n,) to maximize, differentiably."""


def ascend(
    parameters: Tensor,
    rates: Sequence[float],
    groups: Sequence[range],
    view: Callable[[Sequence[int]], Values],
    free: int,
    advance: Advance,
) -> tuple[Tensor, Tensor]:
    """Climbs with Adam from `parameters`, each picture on its own.

    Args:
        parameters: (N, ...), of N pictures.
        rates: the learning rate of each step.
        groups: the pictures of each objective, in order, which leave together.
        view: from the numbers of the groups that are left to the function of their pictures.
        free: the first step whose gradients are the network's own and are judged.
        advance: counts each step of each picture; also those that a picture need not take.

    Returns:
        Parameters (N, ...), and whether a gradient reached each picture (N,) in the first `PATIENCE` steps from `free`.
    """
    result = parameters.detach().clone()
    reached = torch.zeros(len(result), dtype=torch.bool, device=result.device)
    left, rows = list(range(len(groups))), torch.arange(len(result), device=result.device)
    climbing = result.clone().requires_grad_()
    values = view(left)
    optimizer = torch.optim.Adam([climbing], eps=EPSILON, fused=result.device.type in ("cpu", "cuda"))
    scale, scaled = result.new_zeros(len(result), *[1] * (result.dim() - 1)), False
    before, recent = None, result.new_zeros(len(result), dtype=torch.float32)
    for step, rate in enumerate(rates):
        with torch.enable_grad():
            value = values(step, climbing)
            (gradient,) = torch.autograd.grad(-value.sum(), [climbing])
        if not scaled:
            scale = scale.where(scale > 0, gradient.abs().amax(tuple(range(1, gradient.dim())), keepdim=True))
            scaled = bool((scale > 0).all())
        # The network's gradient may be channels_last, and fused Adam goes by places in memory.
        climbing.grad = (gradient / scale.clamp(min=torch.finfo(scale.dtype).tiny)).contiguous()
        if free <= step < free + PATIENCE:
            reached[rows] |= climbing.grad.flatten(1).any(dim=1)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        advance(len(rows))
        if step < free:
            continue
        recent += value.detach()
        if (step - free + 1) % WINDOW:
            continue
        if before is not None:
            stays = recent - before > GAIN * before.abs()
            if not stays.all():
                result[rows] = climbing.detach()
                sizes = [len(groups[group]) for group in left]
                gains, reaches = (torch.split(each.cpu(), sizes) for each in (stays, reached[rows]))
                left = [
                    group
                    for group, gain, touched in zip(left, gains, reaches, strict=True)
                    if gain.any() and touched.all()
                ]
                kept = torch.tensor([row for group in left for row in groups[group]], device=result.device)
                advance((len(rows) - len(kept)) * (len(rates) - step - 1))
                if not left:
                    return result, reached
                places = torch.isin(rows, kept)
                climbing = _keep(optimizer, climbing, places)
                rows, scale, recent = rows[places], scale[places], recent[places]
                values = view(left)
        before, recent = recent, torch.zeros_like(recent)
    result[rows] = climbing.detach()
    return result, reached


def _keep(optimizer: torch.optim.Optimizer, parameters: Tensor, places: Tensor) -> Tensor:
    """Some of the parameters, as the optimizer's own, with what it has gathered about them."""
    state = optimizer.state.pop(parameters)
    kept = parameters.detach()[places].requires_grad_()
    optimizer.state[kept] = {name: value[places] if value.dim() else value for name, value in state.items()}
    optimizer.param_groups[0]["params"] = [kept]
    return kept
