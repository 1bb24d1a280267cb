import pytest
from tiny import Toy

from memviz.models import InputSpec, registry
from memviz.models.registry import Architecture


@pytest.fixture
def toy(monkeypatch):
    """Registers the model "toy" without published weights; `toy(record, names)` gives it some."""

    def register(weights=None, names=()):
        inputs = InputSpec(size=(16, 16), resize=18)
        backbones = {"resnet": "ResNet18_Weights.IMAGENET1K_V1"}
        entry = Architecture("toy", "a toy", Toy, inputs, "memorability", weights, dict(names), backbones)
        monkeypatch.setitem(registry.ARCHITECTURES, "toy", entry)

    register()
    return register
