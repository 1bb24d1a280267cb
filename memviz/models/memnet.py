"""MemNet, as it was published for Caffe and as the paper rebuilt it in PyTorch."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from memviz.models.alexnet import ALEXNET_FEATURES, AlexNetBranch


class MemNet(nn.Module):
    """MemNet: the AlexNet branch and three fully connected layers, 56,258,881 parameters.

    Source: Needell and Bainbridge 2022, figure 1 and "Our MemNet Reimplementation"; after Khosla,
    Raju, Torralba and Oliva 2015, "Understanding and Predicting Image Memorability at a Large Scale".
    The output is linear.

    Maps pictures (N, 3, 227, 227) in [0, 1] to memorability (N, 1).
    """

    branches = ("alexnet",)

    def __init__(self) -> None:
        super().__init__()
        self.alexnet = AlexNetBranch()
        self.head = nn.Sequential(
            OrderedDict(
                fc6=nn.Linear(ALEXNET_FEATURES, 4096),
                relu6=nn.ReLU(),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(),
                fc8=nn.Linear(4096, 1),
            )
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Memorability (N, 1) of pictures (N, 3, 227, 227)."""
        out: Tensor = self.head(self.alexnet(pictures))
        return out


class MemNetCaffe(MemNet):
    """The original MemNet: 96 filters in conv1, conv3 in one group, 56,872,321 parameters.

    Source: Khosla, Raju, Torralba and Oliva 2015, published as a Caffe model, whose layers have the same
    names here but for `fc8-euclidean`, which is `fc8`. Caffe rounds the sizes of its pooled maps up, PyTorch
    down; at 227 px both are the same. CaffeNet's dropout after fc7 is left out, as in the paper's MemNet.

    Maps pictures (N, 3, 227, 227) in blue, green, red, from 0 to 255 less the mean image, to the output
    (N, 1), which the `ScoreSpec` makes a memorability.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alexnet = AlexNetBranch(filters=96, groups=1)
