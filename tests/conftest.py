import importlib.util
import os
from pathlib import Path

# Before torch is imported: tests run side by side, and each computes, as do the processes that it starts, on one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import memviz

pytest_plugins = ["browsing"]


@pytest.fixture(autouse=True)
def seeded():
    """A test's random networks do not depend on which tests ran before."""
    torch.manual_seed(0)


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
