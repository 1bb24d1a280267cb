import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from memviz.models import InputSpec, wrap

SIDE = 24


class Tiny(nn.Module):
    """Two convolutions, the first overwritten in place, a residual block and a score."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 7, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.block = Block()
        self.score = nn.Linear(7, 1)

    def forward(self, pictures):
        maps = self.block(self.relu(self.first(pictures)))
        return torch.sigmoid(self.score(maps.mean((2, 3))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(7, 7, 3, padding=1)

    def forward(self, maps):
        return maps + self.conv(maps)


@pytest.fixture
def model():
    generator = torch.random.get_rng_state()
    module = Tiny()
    torch.random.set_rng_state(generator)
    return wrap(module, InputSpec(size=(SIDE, SIDE), resize=28), name="tiny", target="memorability")


@pytest.fixture
def photos(tmp_path):
    """Twenty-one noise photographs of different shapes, one of them twice, in two folders."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(21):
        height, width = random.integers(20, 50, size=2)
        pixels = random.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        if number == 20:
            pixels = np.asarray(Image.open(folder / "00.png"))
        Image.fromarray(pixels).save(folder / ("deeper" if number % 3 == 2 else "") / f"{number:02d}.png")
    return folder
