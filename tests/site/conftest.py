"""A small index with a survey, and renders of two of its layers."""

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
    return fakes.renders(
        tmp_path / "renders",
        {address: tuple(range(fakes.CHANNELS)) for address in ("alexnet.conv4", "resnet.layer2.3")},
    )


@pytest.fixture
def other_index(tmp_path):
    """Of another network, with photographs of its own."""
    pictures = fakes.photos(tmp_path / "others-pictures")
    return load_index(fakes.index(tmp_path / "memnet-caffe", pictures, model="memnet-caffe", weights="2e" * 32))
