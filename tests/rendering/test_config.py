import json
import math
from dataclasses import FrozenInstanceError

import pytest
from torch import nn

from memviz.errors import RenderError
from memviz.layers import Layer
from memviz.models import InputSpec
from memviz.rendering import Fourier, Pixel, RandomTransforms, Refinement, RenderConfig
from memviz.rendering.engine import Engine
from memviz.rendering.objectives import Channel, Lucent, Neuron, Score


@pytest.mark.parametrize("name", ["size", "steps", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_counts_must_be_whole_and_above_0(name, value):
    with pytest.raises(RenderError, match=rf"{name} must be a whole number from 1 to \d+; given was {value!r}"):
        RenderConfig(**{name: value})


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_learning_rate_must_be_above_0(value):
    with pytest.raises(RenderError, match="learning_rate must be a number above 0"):
        RenderConfig(learning_rate=value)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RenderConfig().steps = 3


def test_size(wrapped):
    """128 px for maps, or a canvas of 64 for units of few pixels; the network's own size for what needs it; and always
    the size that is given."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    model = wrapped(module, size=32)
    model.inputs = InputSpec(size=(32, 24))
    for objectives, size in (
        ([Channel("0", 1)], (64, 64)),
        ([Channel("0", 1), Neuron("0", 2)], (128, 128)),
        ([Channel("3", 0)], (32, 24)),
        ([Score()], (32, 24)),
        ([Channel("0", 1), Channel("0", 2) - Score()], (32, 24)),
        ([Lucent(lambda model: model("0").mean())], (128, 128)),
    ):
        assert Engine(model, objectives, RenderConfig()).size == size
        assert Engine(model, objectives, RenderConfig(size=50)).size == (50, 50)


def differing():
    yield {"size": 64}
    yield {"steps": 8}
    yield {"learning_rate": 0.2}
    yield {"parameterization": Pixel()}
    yield {"parameterization": Fourier(sd=0.02)}
    yield {"parameterization": Fourier(decorrelated=False)}
    yield {"transforms": None}
    yield {"transforms": RandomTransforms(jitter=2)}
    yield {"refinement": None}
    yield {"refinement": Refinement(share=0.5)}
    yield {"mixed_precision": False}
    yield {"canvas": 32}
    yield {"redirect": True}


def test_to_dict_is_plain_data_that_tells_configs_apart():
    found = [RenderConfig(**options).to_dict() for options in ({}, *differing())]
    as_json = [json.dumps(data, sort_keys=True) for data in found]
    assert len(set(as_json)) == len(as_json)
    assert [json.loads(text) for text in as_json] == found
    assert found[0]["parameterization"]["kind"] == "fourier"


def test_to_dict_leaves_out_what_changes_only_the_speed():
    assert RenderConfig(batch_size=3).to_dict() == RenderConfig().to_dict()


@pytest.mark.parametrize("options", list(differing()))
def test_there_and_back(options):
    config = RenderConfig(**options)
    again = RenderConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert config != RenderConfig()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be a table"),
        ({"stepz": 3}, "has no 'stepz'. Close names: steps"),
        ({"steps": "3"}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": 10**5000}, "steps must be a whole number.*thousands of digits"),
        ({"size": 100_000}, "size must be a whole number from 1 to 4096"),
        ({"learning_rate": 10**400}, "learning_rate"),
        ({"canvas": 48}, "canvas must divide the size of the pictures, 128 px; given was 48"),
        ({"size": 32, "canvas": 64}, "canvas must divide the size of the pictures, 32 px; given was 64"),
        ({"parameterization": "fourier"}, "give a table with kind"),
        ({"parameterization": {"kind": "fourier", "sdd": 1}}, "has no 'sdd'"),
        ({"parameterization": {"kind": "fourier", "sd": "a"}}, "parameterization: Expected `float`"),
        ({"transforms": {"jitter": [8]}}, "transforms: Expected `float | null`"),
        ({"transforms": {"jitter": -8}}, "jitter"),
        ({"refinement": {"share": 1.0}}, "share of a refinement must lie between 0 and 1"),
        ({"refinement": {"learning_rate": -1}}, "learning_rate must be a number above 0"),
        ({"refinement": {"shares": 0.3}}, "has no 'shares'"),
        ({"refinement": True}, "refinement must be a table"),
        ({"transforms": {"jitter": 1e308}}, "jitter"),
        ({"transforms": {"rotate": 1e9}}, "rotate"),
        ({"parameterization": {"kind": []}}, "give a table with kind"),
        ({"parameterization": {"kind": "fourier", "sd": -1}}, "sd must be a number from 0 to 100"),
        ({"parameterization": {"kind": "fourier", "decay": 1e9}}, "decay must be a number from -10 to 10"),
        ({"parameterization": {"kind": "pixel", "sd": 1e308}}, "sd must be a number from 0 to 100"),
    ],
)
def test_what_is_no_config(data, message):
    with pytest.raises(RenderError, match=message):
        RenderConfig.from_dict(data)


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_what_is_no_number_is_no_parameterization(kind):
    with pytest.raises(RenderError, match="sd must be a number from 0 to 100; given was nan"):
        kind(sd=math.nan)


@pytest.mark.parametrize(("field", "expected"), [(None, 1), (1131, 1), (90, 1), (45, 2), (11, 8), (1, 8)])
def test_what_sees_few_pixels_is_refined_faster(field, expected):
    assert Refinement.pace(field) == expected


@pytest.mark.parametrize(
    ("field", "stride", "canvas"),
    [((11, 11), (4.0, 4.0), 64), ((7, 12), (2.0, 2.0), 64), ((13, 7), (2.0, 2.0), None), ((11, 11), (3.0, 3.0), None)],
)
def test_what_sees_few_pixels_is_drawn_on_a_small_canvas(field, stride, canvas):
    layer = Layer("conv", "Conv2d", 8, 55, 55, stride, field, (5.0, 5.0), None, False)
    found = RenderConfig().resolve([layer], (227, 227))
    assert (found.size, found.canvas) == (128, canvas)
    assert found.resolve([layer], (227, 227)) == found
    assert RenderConfig(size=96).resolve([layer], (227, 227)).canvas is None
    assert RenderConfig().resolve([], (227, 227)).canvas is None
