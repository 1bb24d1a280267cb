import pytest
from helpers import one_thread as one_thread
from toys import TOYS, bright

from memviz.models import registry


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The models "toy" and "toy-retrain"."""
    for name, entry in TOYS.items():
        monkeypatch.setitem(registry.ARCHITECTURES, name, entry)


@pytest.fixture
def table(tmp_path):
    """40 pictures, the brighter the more memorable."""
    return bright(tmp_path / "photos", 40)
