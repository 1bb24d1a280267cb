"""How weights that start at random are drawn."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

# The spread of the last layer's weights: as good as none, so that all scores start at its bias.
LAST_LAYER = 1e-3
# So many units' worth of squared activations reach the last layer: with 64, MemNet learns at the default rate.
FEATURES = 64


def initialize(module: nn.Module, score: float, seed: int, besides: Collection[str] = (), scale: float = 1.0) -> None:
    """Draws the convolutions and fully connected layers of `module` anew, in place.

    Weights are normal with the variance 2 / inputs, which keeps the mean square of activations from one layer with a
    ReLU to the next; biases are 0. Source: He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", equation 10.
    The last fully connected layer starts near 0, with the bias that gives the `score`, so that the first steps do not
    go into finding the mean, and the layer before it is scaled so that the sum of its squared activations, by which
    the largest stable learning rate falls, does not depend on its width: MemNet has 4,096 units there, ResMem 256.
    Residual blocks start as the identity (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1): a
    ResNet-152 in evaluation mode would otherwise give values that have doubled fifty times.

    Args:
        module: the network; its last fully connected layer gives the score, through a sigmoid if one follows.
        score: what an untrained network predicts, as the mean of the training scores.
        seed: of the weights; the global random state is not used.
        besides: addresses of parts that stay as they are.
        scale: of the input's values, by which the first convolution's weights are divided.

    >>> network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid())
    >>> initialize(network, score=0.75, seed=0)
    >>> round(float(network(torch.rand(1, 8)).detach()), 2)
    0.75
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        part
        for address, part in module.named_modules()
        if not any(address == other or address.startswith(f"{other}.") for other in besides)
    ]
    for part in drawn:
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, Bottleneck):
            nn.init.zeros_(part.bn3.weight)
    first = next((part for part in drawn if isinstance(part, nn.Conv2d)), None)
    if first is not None:
        first.weight.data /= scale
    *hidden, last = (part for part in drawn if isinstance(part, nn.Linear))
    if hidden:
        hidden[-1].weight.data *= math.sqrt(FEATURES / hidden[-1].out_features)
    nn.init.normal_(last.weight, std=LAST_LAYER, generator=generator)
    if last.bias is not None:
        sigmoid = any(isinstance(part, nn.Sigmoid) for part in module.modules())
        start = torch.tensor(score)
        nn.init.constant_(last.bias, float(start.logit(eps=0.01) if sigmoid else start))
