import numpy as np
import pytest
from helpers import one_thread as one_thread
from PIL import Image

from memviz.explanation import effect


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(effect, "RESAMPLES", 100)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """30 plain pictures, whose red and green levels are independent; and these levels."""
    folder = tmp_path_factory.mktemp("colours")
    levels = np.random.default_rng(0).integers(0, 256, (30, 3))
    for number, colour in enumerate(levels):
        Image.new("RGB", (5, 4), tuple(int(level) for level in colour)).save(folder / f"{number:02d}.png")
    return folder, levels / 255
