"""A small index with a survey and renders, and another network's."""

import fakes
import pytest


@pytest.fixture
def index(tmp_path):
    return fakes.surveyed(tmp_path / "saved")


@pytest.fixture
def renders(tmp_path):
    every = tuple(range(fakes.CHANNELS))
    return fakes.renders(tmp_path / "renders", {"alexnet.conv4": every, "resnet.layer2.3": (0, 1, 5)})


@pytest.fixture
def other_index(tmp_path):
    """Of another network, with photographs of its own."""
    return fakes.others(tmp_path, 10)
