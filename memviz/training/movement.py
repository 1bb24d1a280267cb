"""How far training has moved the weights of each layer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from statistics import median

import torch
from torch import Tensor, nn

# A filter w that moves by r |w| perpendicular to itself has responses that correlate with those at the start by
# 1 / sqrt(1 + r ** 2), which is .99995.
STILL = 0.01

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def trained_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights of all convolutions and fully connected layers that are trained, by address."""
    return {
        address: layer.weight.detach().cpu().clone()
        for address, layer in network.named_modules()
        if isinstance(layer, LAYERS) and layer.weight.requires_grad
    }


def movement(network: nn.Module, start: Mapping[str, Tensor]) -> dict[str, float]:
    """The distance of each layer's weight from the `start`, as a share of its norm there, by address.

    A layer that began at zero has moved by 1.

    Args:
        network: as it is now.
        start: the weights as they were, see `trained_weights`.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> start = trained_weights(network)
        >>> network[0].weight.data *= 1.5
        >>> {address: round(share, 6) for address, share in movement(network, start).items()}
        {'0': 0.5, '2': 0.0}
    """
    moved = {}
    for address, before in start.items():
        weight = network.get_submodule(address).weight
        assert isinstance(weight, Tensor)
        distance = float(torch.dist(weight.detach().cpu(), before))
        moved[address] = distance / (float(before.norm()) or distance or 1.0)
    return moved


def warn_still(moved: Mapping[str, float], branches: Iterable[str], stacklevel: int = 2) -> None:
    """Warns of each branch of which half of the layers have moved by less than 1 % of their norm.

    `branches` began at random. The responses of a layer that moved by less have a correlation above .9999 with those at
    the start, so the branch's features are still random. The converse does not hold: that a branch moved does not mean
    that it learned, see experiments/learning.

    >>> warn_still({"alexnet.conv1": 0.3, "alexnet.conv2": 0.1}, ["alexnet"])
    """
    for branch in branches:
        own = {address: share for address, share in moved.items() if address.startswith(f"{branch}.")}
        if own and (middle := median(own.values())) < STILL:
            warnings.warn(
                f"The branch {branch} has hardly moved from its random start: half of its layers by less than "
                f"{max(middle, 0.0001):.2%} of their norm. Its filters are random ones. Train longer, with a larger "
                "learning_rate, another recipe, or initialization=normalized.",
                stacklevel=stacklevel,
            )
