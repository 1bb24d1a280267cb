import json
from dataclasses import FrozenInstanceError

import pytest
from torch import nn

from memviz.errors import RenderError
from memviz.models import InputSpec
from memviz.rendering import Fourier, Pixel, RandomTransforms, RenderConfig
from memviz.rendering.objectives import Lucent, channel, neuron, score


@pytest.mark.parametrize("name", ["size", "steps", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_counts_must_be_whole_and_above_0(name, value):
    with pytest.raises(RenderError, match=f"{name} must be a whole number above 0; given was {value!r}"):
        RenderConfig(**{name: value})


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_learning_rate_must_be_above_0(value):
    with pytest.raises(RenderError, match="learning_rate must be above 0"):
        RenderConfig(learning_rate=value)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RenderConfig().steps = 3


def test_size(wrapped):
    """128 px for maps, the network's own size for what needs it, and always the size that is given."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    model = wrapped(module, size=32)
    model.inputs = InputSpec(size=(32, 24))
    for objectives, size in (
        ([channel("0", 1)], (128, 128)),
        ([channel("0", 1), neuron("0", 2)], (128, 128)),
        ([channel("3", 0)], (32, 24)),
        ([score()], (32, 24)),
        ([channel("0", 1), channel("0", 2) - score()], (32, 24)),
        ([Lucent(lambda model: model("0").mean())], (128, 128)),
    ):
        assert RenderConfig().size_for(model, objectives) == size
        assert RenderConfig(size=50).size_for(model, objectives) == (50, 50)


def differing():
    yield {"size": 64}
    yield {"steps": 8}
    yield {"learning_rate": 0.1}
    yield {"parameterization": Pixel()}
    yield {"parameterization": Fourier(sd=0.02)}
    yield {"parameterization": Fourier(decorrelated=False)}
    yield {"transforms": None}
    yield {"transforms": RandomTransforms(jitter=2)}
    yield {"mixed_precision": False}


def test_to_dict_is_plain_data_that_tells_configs_apart():
    found = [RenderConfig(**options).to_dict() for options in ({}, *differing())]
    as_json = [json.dumps(data, sort_keys=True) for data in found]
    assert len(set(as_json)) == len(as_json)
    assert [json.loads(text) for text in as_json] == found
    assert found[0]["parameterization"]["kind"] == "Fourier"


def test_to_dict_leaves_out_what_changes_only_the_speed():
    assert RenderConfig(batch_size=3).to_dict() == RenderConfig().to_dict()
