"""Rule 1 of the house, across the rooms: whatever is called, the caller's network and the globals stay as they were."""

import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import DataDependent, Toy, built, pictures
from torch import nn

import memviz
from memviz.layers import capture, evaluating, layer_table, observe, private_copy, truncate
from memviz.models import InputSpec

CALLS = {
    "score": lambda model, photos, out: model.score(photos),
    "layers": lambda model, photos, out: model.layers,
    "fingerprint": lambda model, photos, out: model.fingerprint(),
    "call": lambda model, photos, out: model(pictures(1, 16)),
    "layer_table": lambda model, photos, out: layer_table(model.module, pictures(1, 16)),
    "private_copy": lambda model, photos, out: private_copy(model.module)(pictures(1, 16)),
    "truncate": lambda model, photos, out: run_truncated(model),
    "capture": lambda model, photos, out: run(model, capture(model.module, [last(model)])),
    "observe": lambda model, photos, out: run(model, observe(model.module, {last(model): torch.sum})),
    "build_index": lambda model, photos, out: memviz.build_index(model, photos, out=out, k=2),
    "render": lambda model, photos, out: memviz.render(
        model, first(model), [0, 1], config=memviz.RenderConfig(size=24, steps=2)
    ),
    "accentuate": lambda model, photos, out: memviz.accentuate(
        model, photos[0], "up", config=memviz.AccentuateConfig(pictures=1, steps=1), out=out
    ),
    "render score": lambda model, photos, out: memviz.render(
        model, objective=memviz.objectives.Score(), config=memviz.RenderConfig(steps=2)
    ),
}


def first(model):
    return next(name for name, part in model.module.named_modules() if isinstance(part, nn.Conv2d))


def last(model):
    return [name for name, _ in model.module.named_modules()][-1]


def run_truncated(model):
    truncated = truncate(model.module, [last(model)])
    with evaluating(model.module):
        truncated(pictures(1, 16))


def run(model, looking):
    with evaluating(model.module), torch.no_grad(), looking:
        model.module(pictures(1, 16))


class Breaks(Toy):
    """Runs up to its last layer, then fails; `render` does not get there."""

    def forward(self, pictures):
        super().forward(pictures)
        raise FloatingPointError


NETWORKS = {"toy": Toy, "untraceable": lambda: DataDependent(Toy()), "residual": lambda: built("Branches")}


@pytest.fixture
def photos(originals):
    return [originals["coffee.png"], originals["rocket.jpg"], originals["chelsea.png"]]


def wrapped(module):
    """In training mode, one part apart, with a hook and a gradient: all of which must survive."""
    module.eval()(pictures(1, 16)).sum().backward() if not isinstance(module, Breaks) else None
    module.train()
    next(part for part in module.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    module.register_forward_hook(lambda part, inputs, output: None)
    return memviz.wrap(module, InputSpec(size=(16, 16), resize=18), target="memorability")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_calls_change_nothing(call, network, photos, tmp_path):
    model = wrapped(NETWORKS[network]())
    with unchanged(model.module), undisturbed():
        CALLS[call](model, photos, tmp_path / "out")


@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("fingerprint", "render")])
def test_calls_that_fail_change_nothing(call, photos, tmp_path):
    model = wrapped(Breaks())
    with unchanged(model.module), undisturbed(), pytest.raises(FloatingPointError):
        CALLS[call](model, photos, tmp_path / "out")
