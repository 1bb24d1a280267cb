"""A small index with a survey, and renders of two of its layers."""

import fakes
import pytest


@pytest.fixture
def index(tmp_path):
    return fakes.surveyed(tmp_path / "saved")


@pytest.fixture
def renders(tmp_path):
    return fakes.renders(
        tmp_path / "renders",
        {address: tuple(range(fakes.CHANNELS)) for address in ("alexnet.conv4", "resnet.layer2.3")},
    )


@pytest.fixture
def other_index(tmp_path):
    """Of another network, with photographs of its own."""
    return fakes.others(tmp_path)
