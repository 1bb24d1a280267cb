import importlib.util
from pathlib import Path

import pytest

import memviz


@pytest.fixture(scope="session")
def resmem():
    """The published ResMem; loading takes a second, so it is shared, and nobody may change it."""
    return memviz.load_model("resmem")


@pytest.fixture(scope="session")
def originals():
    """The photographs inside scikit-image and scikit-learn, as they are, by file name."""
    folders = [
        Path(importlib.util.find_spec("skimage").origin).parent / "data",
        Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/images",
    ]
    return {path.name: path for folder in folders for path in folder.iterdir()}
