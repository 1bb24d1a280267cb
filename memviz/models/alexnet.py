"""The convolutional branch that MemNet, ResMem, FalseResMem and M3M share."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

ALEXNET_FEATURES = 9216


class AlexNetBranch(nn.Sequential):
    """AlexNet's five convolutions as MemNet and its successors have them.

    It differs from Krizhevsky's in the numbers of filters (48, 256, 384, 384, 256) and in the grouped
    third convolution. Local response normalization with PyTorch's defaults over 5 channels.
    Source of the shapes: the published ResMem (PyPI `resmem` 1.1.6).

    `filters` of the first convolution and `groups` of the third are others only in the original MemNet.

    Maps pictures (N, 3, 227, 227) in [0, 1] to features (N, 9216). Up to `conv5` and `pool5` any
    picture size works.

    Example:
        >>> import torch
        >>> AlexNetBranch()(torch.zeros(1, 3, 227, 227)).shape
        torch.Size([1, 9216])
    """

    def __init__(self, filters: int = 48, groups: int = 2) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, filters, 11, stride=4),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, 2),
                lrn1=nn.LocalResponseNorm(5),
                conv2=nn.Conv2d(filters, 256, 5, padding=2, groups=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(3, 2),
                lrn2=nn.LocalResponseNorm(5),
                conv3=nn.Conv2d(256, 384, 3, padding=1, groups=groups),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
                relu5=nn.ReLU(),
                pool5=nn.MaxPool2d(3, 2),
                flatten=nn.Flatten(),
            )
        )
