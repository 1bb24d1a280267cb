"""A small index and renders for every unit that the published recipes choose from it."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from memviz.index import Index, load_index


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("saved")
    saved = fakes.index(folder / "index", fakes.photos(folder / "photos"))
    fakes.drivers(saved)
    return load_index(saved)


@pytest.fixture
def other_index(tmp_path: Path) -> Index:
    """Of the original MemNet, with photographs of its own."""
    pictures = fakes.photos(tmp_path / "others")
    return load_index(fakes.index(tmp_path / "memnet-caffe", pictures, model="memnet-caffe", weights="2e" * 32))


@pytest.fixture(scope="session")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    every = {layer.address: tuple(range(fakes.CHANNELS)) for layer in fakes.layers()}
    return fakes.renders(tmp_path_factory.mktemp("renders"), every)
