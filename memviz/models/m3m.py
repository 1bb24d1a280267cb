"""M3M: ResMem with semantic segmentation as a third feature."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet152
from torchvision.models.segmentation import fcn_resnet50

from memviz.models.alexnet import ALEXNET_FEATURES, AlexNetBranch
from memviz.models.resmem import regression_head

CLASSES = 21
REDUCED_CHANNELS = 24
REDUCED_SIZE = 57
SMALL_CHANNELS = 8
SMALL_SIZE = 29


class ClassMaps(nn.Module):
    """torchvision's `fcn_resnet50` up to its class maps, at an eighth of the picture's size.

    torchvision then interpolates them to the picture's size, which is `Upsample` here: so the maps are a layer whose
    units are the classes, and small enough to be kept when the network is frozen. Its parameters have torchvision's
    names. Source: Long, Shelhamer and Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation".

    Maps pictures (N, 3, H, W) to class maps (N, 21, H / 8, W / 8), rounded up: 29 by 29 at 227 px.
    """

    def __init__(self) -> None:
        super().__init__()
        whole = fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES)
        self.backbone, self.classifier = whole.backbone, whole.classifier

    def forward(self, pictures: Tensor) -> Tensor:
        """Class maps (N, 21, H / 8, W / 8) of pictures (N, 3, H, W)."""
        out: Tensor = self.classifier(self.backbone(pictures)["out"])
        return out


class Upsample(nn.Module):
    """Brings maps (N, C, h, w) to the size of pictures (N, 3, H, W), bilinearly, as torchvision does."""

    def forward(self, maps: Tensor, pictures: Tensor) -> Tensor:
        """Maps (N, C, H, W)."""
        return functional.interpolate(maps, size=pictures.shape[-2:], mode="bilinear", align_corners=False)


class SegmentationBranch(nn.Module):
    """The class maps of `fcn_resnet50`, brought down by a small convolutional network.

    Maps pictures (N, 3, 227, 227) to 21 class maps, these to the same size and on to features (N, 77976); with a
    third convolution, if `small`, to (N, 6728).
    """

    def __init__(self, small: bool = False) -> None:
        super().__init__()
        self.fcn = ClassMaps()
        self.upsample = Upsample()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(CLASSES, REDUCED_CHANNELS, 5, stride=2, padding=2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(REDUCED_CHANNELS, REDUCED_CHANNELS, 3, stride=2, padding=1),
            relu2=nn.ReLU(),
        )
        if small:
            layers["conv3"] = nn.Conv2d(REDUCED_CHANNELS, SMALL_CHANNELS, 3, stride=2, padding=1)
            layers["relu3"] = nn.ReLU()
        self.reduce = nn.Sequential(layers | {"flatten": nn.Flatten()})
        self.features = SMALL_CHANNELS * SMALL_SIZE**2 if small else REDUCED_CHANNELS * REDUCED_SIZE**2

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (N, 77976 or 6728) of pictures (N, 3, 227, 227)."""
        out: Tensor = self.reduce(self.upsample(self.fcn(pictures), pictures))
        return out


class M3M(nn.Module):
    """M3M: AlexNet features, ResNet-152's 1000 classes and segmentation features into one head.

    Source: Needell and Bainbridge 2022, "M3M" and figure 3. The paper says that the 21-channel output
    of `fcn_resnet50` passes "a small convolutional neural network", and leaves its shape open. Chosen
    here: two strided convolutions (5x5 and 3x3, 24 channels, 227 -> 114 -> 57 px), whose 77,976
    features make 485 million parameters, since the author's blog speaks of about 500 million. Two thirds
    of these join the features with the head; `head="small"`, which is ours, has a third convolution (3x3, 8
    channels, 29 px) whose 6,728 features make 193 million.

    Maps pictures (N, 3, 227, 227) in [0, 1] to memorability (N, 1) in (0, 1).
    """

    branches = ("alexnet", "resnet", "segmentation")

    def __init__(self, head: str = "paper") -> None:
        super().__init__()
        self.alexnet = AlexNetBranch()
        self.resnet = resnet152(weights=None)
        self.segmentation = SegmentationBranch(small=head == "small")
        self.head = regression_head(ALEXNET_FEATURES + 1000 + self.segmentation.features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Memorability (N, 1) of pictures (N, 3, 227, 227)."""
        features = (self.alexnet(pictures), self.resnet(pictures), self.segmentation(pictures))
        out: Tensor = self.head(torch.cat(features, dim=1))
        return out
