import pytest
import torch
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


@pytest.fixture
def trained():
    network = Toy()
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1, generator=generator)
    return network


@pytest.fixture
def state(trained):
    return trained.state_dict()
