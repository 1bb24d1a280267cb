"""A small index with a survey and renders, and another network's."""

import fakes
import pytest

from memviz.index import load_index


@pytest.fixture
def index(tmp_path):
    saved = fakes.index(tmp_path / "saved" / "index", fakes.photos(tmp_path / "saved" / "pictures"))
    fakes.drivers(saved)
    return load_index(saved)


@pytest.fixture
def renders(tmp_path):
    every = tuple(range(fakes.CHANNELS))
    return fakes.renders(tmp_path / "renders", {"alexnet.conv4": every, "resnet.layer2.3": (0, 1, 5)})


@pytest.fixture
def other_index(tmp_path):
    """Of another network, with photographs of its own."""
    pictures = fakes.photos(tmp_path / "others-pictures", 10)
    return load_index(fakes.index(tmp_path / "memnet-caffe", pictures, model="memnet-caffe", weights="2e" * 32))
