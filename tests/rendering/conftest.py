import pytest
import torch
from helpers import one_thread as one_thread
from torch import nn

from memviz.models import InputSpec, wrap
from memviz.rendering import engine as engines


@pytest.fixture
def wrapped():
    """Makes a model of a network: the weights given, by address, and else random ones from their own generator."""

    def make(module, size=32, weights=None, **options):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if weights and name in weights:
                    parameter.copy_(torch.as_tensor(weights[name]).reshape(parameter.shape))
                else:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return wrap(module.eval(), InputSpec(size=(size, size)), **options)

    return make


@pytest.fixture
def small(wrapped):
    """Three convolutions with a batch norm and in-place ReLUs, and a score; layers of 6, 8 and 5 units."""
    module = nn.Sequential()
    module.stem = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.ReLU(inplace=True))
    module.body = nn.Sequential(
        nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 5, 3, padding=1)
    )
    module.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 1))
    model = wrapped(module, name="small", target="memorability")
    generator = torch.Generator().manual_seed(1)
    norm = module.body[1]
    norm.running_mean.copy_(torch.randn(8, generator=generator))
    norm.running_var.copy_(torch.rand(8, generator=generator) + 0.5)
    return model


@pytest.fixture
def half_dead(wrapped):
    """Layer "2", behind a ReLU: unit 0 lives, 1 is blocked but can be woken, 2 has no weights, 3 can never be woken.

    The ReLU's unit 0 is open on every picture. Its unit 1 is shut on grey and opens where red is above blue; its
    unit 2 is shut on every picture.
    """
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 1))
    weights = {
        "0.weight": [[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]],
        "0.bias": [0.5, -0.15, -1.0],
        "2.weight": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        "2.bias": [0.0, 0.0, 0.0, 0.0],
    }
    return wrapped(module, size=16, weights=weights)


@pytest.fixture
def calls(monkeypatch):
    """The objectives of each batch that the engine draws."""
    calls = []
    draw = engines.Engine.draw

    def counted(self, objectives, *args):
        calls.append([str(objective) for objective in objectives])
        return draw(self, objectives, *args)

    monkeypatch.setattr(engines.Engine, "draw", counted)
    return calls
