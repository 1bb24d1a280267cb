"""Random initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from memviz.layers.unit import lies_in
from memviz.models import ScoreSpec

# The standard deviation of the last layer's weights: so small that all scores start near its bias.
LAST_LAYER = 1e-3
# The squared activations before the last layer add up to those of 64 units: then MemNet learns at the default rate.
FEATURES = 64
# Outside this range a sigmoid is so flat that little would be learned.
STEEP = (0.01, 0.99)
# Below this share of a layer's root mean square, a channel's spread is rounding.
CONSTANT = 1e-5


def initialize(module: nn.Module, seed: int, besides: Collection[str] = (), scale: float = 1.0) -> None:
    """Draws new weights for the convolutions and fully connected layers of `module`, in place.

    Weights are normal with the variance 2 / inputs, which keeps the mean square of activations from one layer with a
    ReLU to the next; biases are 0. Source: He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", equation 10.
    The last fully connected layer starts near 0, see `start_at`, and the layer before it is scaled so that the sum of
    its squared activations, by which the largest stable learning rate falls, does not depend on its width: MemNet has
    4,096 units there, ResMem 256. Residual blocks start as the identity (Goyal et al. 2017, "Accurate, Large Minibatch
    SGD", section 5.1): a ResNet-152 in evaluation mode would otherwise give values that have doubled fifty times.

    Args:
        module: the network; its last fully connected layer gives the score, through a sigmoid if one follows.
        seed: of the weights; the global random state is not used.
        besides: addresses of submodules that are left unchanged.
        scale: of the input's values, by which the first convolution's weights are divided.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = _drawn(module, besides)
    for submodule in drawn:
        if isinstance(submodule, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(submodule.weight, nonlinearity="relu", generator=generator)
            if submodule.bias is not None:
                nn.init.zeros_(submodule.bias)
        elif isinstance(submodule, Bottleneck):
            nn.init.zeros_(submodule.bn3.weight)
    first = next((submodule for submodule in drawn if isinstance(submodule, nn.Conv2d)), None)
    if first is not None:
        first.weight.data /= scale
    *hidden, last = (submodule for submodule in drawn if isinstance(submodule, nn.Linear))
    if hidden:
        hidden[-1].weight.data *= math.sqrt(FEATURES / hidden[-1].out_features)
    nn.init.normal_(last.weight, std=LAST_LAYER, generator=generator)


@torch.no_grad()
def normalize(module: nn.Module, forward: Callable[[], object], besides: Collection[str] = ()) -> None:
    """Rescales what `initialize` drew, in place, so that each channel has mean 0 and variance 1 on a batch.

    Mean and variance are taken over pictures and positions. A channel that is constant on the batch is left unchanged,
    and one without a bias keeps its mean. The last hidden layer is scaled by its width as in `initialize`, and the last
    layer is left as it was drawn.
    Source: Krähenbühl, Doersch, Donahue and Darrell 2016, "Data-dependent Initializations of Convolutional Neural
    Networks", algorithm 1; after Mishkin and Matas 2015, "All you need is a good init", which scales whole layers.

    Args:
        module: the network, which `initialize` has drawn.
        forward: runs the network once on the batch, in evaluation mode. One pass is enough: each layer receives the
            outputs of layers that are already rescaled.
        besides: addresses of submodules that are left unchanged.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 1))
        >>> initialize(network, seed=0)
        >>> pictures = torch.rand(16, 3, 8, 8)
        >>> normalize(network, lambda: network(pictures))
        >>> [round(value, 3) for value in network[0](pictures).detach().var(dim=(0, 2, 3), correction=0).tolist()]
        [1.0, 1.0, 1.0, 1.0]
    """
    layers = [layer for layer in _drawn(module, besides) if isinstance(layer, nn.Conv2d | nn.Linear)]
    *hidden, last = (layer for layer in layers if isinstance(layer, nn.Linear))
    done = {last}

    def rescale(layer: Any, _: object, out: Tensor) -> Tensor | None:
        if layer in done:
            return None
        done.add(layer)
        axis = out.ndim - 1 if isinstance(layer, nn.Linear) else 1
        values = out.movedim(axis, -1).flatten(0, -2)
        spread, mean = torch.std_mean(values, dim=0, correction=0)
        varies = spread > CONSTANT * values.square().mean().sqrt()
        factor = torch.where(varies, 1 / spread, 1.0)
        if layer in hidden[-1:]:
            factor *= math.sqrt(FEATURES / layer.out_features)
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.ndim - 1)))
        mean = torch.where(varies, mean, 0.0) if layer.bias is not None else torch.zeros_like(mean)
        if layer.bias is not None:
            layer.bias.sub_(mean).mul_(factor)
        return ((out.movedim(axis, -1) - mean) * factor).movedim(-1, axis)

    hooks = [layer.register_forward_hook(rescale) for layer in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()


def _drawn(module: nn.Module, besides: Collection[str]) -> list[nn.Module]:
    return [
        submodule
        for address, submodule in module.named_modules()
        if not any(lies_in(address, other) for other in besides)
    ]


def start_at(module: nn.Module, output: float) -> None:
    """Sets the bias of the last fully connected layer so that a network that was initialized gives about `output`.

    Starting at the mean of the targets saves the first steps, which would otherwise shift all scores together, and most
    those of photographs with large activations.

    >>> network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid())
    >>> initialize(network, seed=0)
    >>> start_at(network, 0.75)
    >>> round(float(network(torch.rand(1, 8)).detach()), 2)
    0.75
    """
    last = [submodule for submodule in module.modules() if isinstance(submodule, nn.Linear)][-1]
    if last.bias is not None:
        if any(isinstance(submodule, nn.Sigmoid) for submodule in module.modules()):
            output = float(ScoreSpec.logit(torch.tensor(output).clamp(*STEEP)))
        nn.init.constant_(last.bias, output)
