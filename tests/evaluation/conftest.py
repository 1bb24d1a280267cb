import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from memviz.models import InputSpec, Model


class Brightness(nn.Module):
    """Scores a picture by its mean, so that what is predicted is known."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.scale.weight, 1 / 3)

    def forward(self, pictures):
        return self.scale(pictures).mean((1, 2, 3))


@pytest.fixture
def model():
    return Model(Brightness().eval(), InputSpec(size=(8, 8), resize=(8, 8)), "brightness", "memorability")


@pytest.fixture
def table(tmp_path):
    """24 grey pictures; people's scores are their brightness and noise."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(24):
        grey = int(random.integers(100, 255))
        path = tmp_path / f"{number:02d}.png"
        Image.new("RGB", (10, 12), (grey,) * 3).save(path)
        source = "lamem" if number < 12 else "memcat"
        category = "" if number < 12 else ("animal", "food")[number % 2]
        rows.append((str(path), grey / 255 + random.normal(0, 0.05), source, category, grey / 255))
    return pd.DataFrame(rows, columns=["path", "score", "source", "category", "grey"])
