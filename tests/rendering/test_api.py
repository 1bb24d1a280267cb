import gc
import inspect
import io
import json
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from drawing import QUICK, render, unit_numbers
from helpers import freed_at_once, unchanged, undisturbed
from PIL import Image
from tiny import DataDependent
from torch import nn

import memviz
from memviz.errors import LayerError, RenderError
from memviz.models import InputSpec
from memviz.rendering import Fourier, Pixel, RandomTransforms, RenderConfig, Renders, load_renders
from memviz.rendering import engine as engines
from memviz.rendering.measure import as_photograph
from memviz.rendering.objective import UNIT_OBJECTIVES
from memviz.rendering.objectives import Channel, Score, UnitObjective
from memviz.rendering.store import from_pil

# What is returned.


def test_unpacks_to_images_and_table(small):
    renders = render(small, "body.3", [3, 1], seed=4, **QUICK)
    images, table = renders
    assert isinstance(renders, Renders)
    assert len(renders) == 2
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.float32
    assert images.device.type == "cpu"
    assert not images.requires_grad
    assert images.min() >= 0
    assert images.max() <= 1
    assert list(table.columns) == [
        "objective", "unit", "value", "mean", "peak", "position", "steps", "seed", "state",
    ]  # fmt: skip
    assert table["unit"].tolist() == [3, 1]
    assert table["steps"].tolist() == [3, 3]
    assert table["seed"].tolist() == [4, 4]
    assert table["state"].tolist() == ["ok", "ok"]
    assert table["value"].dtype == table["mean"].dtype == table["peak"].dtype == np.float64
    assert (table["peak"] >= table["mean"]).all()


def test_free_objectives(small):
    images, table = render(small, objective=[Score(), Channel("@3", 2) - Score()], **QUICK)
    assert images.shape == (2, 3, 16, 16)
    assert table["unit"].isna().all()
    assert table["objective"].tolist() == ["score", "channel(body.3:2) + -1 * score"]


def test_the_manifest_says_how(small):
    manifest = render(small, "body.3", 0, seed=4, learning_rate=0.2, **QUICK).manifest
    assert manifest.model == "small"
    assert manifest.weights == small.fingerprint()
    assert manifest.inputs == small.inputs.to_dict()
    assert manifest.seed == 4
    assert manifest.config["objective"] == "excitation"
    assert manifest.config.items() >= {"size": 16, "steps": 3, "learning_rate": 0.2}.items()
    assert manifest.config["parameterization"]["kind"] == "fourier"
    assert manifest.created
    json.dumps(asdict(manifest))


def test_settings_change_the_config_given(small):
    config = RenderConfig(size=20, steps=2, transforms=None)
    found = render(small, "body.3", 0, config=config, steps=4, parameterization=Pixel()).manifest.config
    expected = replace(config, steps=4, parameterization=Pixel()).to_dict()
    assert {key: found[key] for key in expected} == expected
    # None is a setting too: it does not mean "as in the config".
    assert render(
        small, "body.3", 0, config=RenderConfig(steps=2, size=8), transforms=None
    ).manifest.config["transforms"] is None  # fmt: skip


def test_each_setting_changes_the_picture(small):
    base = render(small, "body.3", 0, size=16, steps=6).images
    for changed in (
        {"steps": 7},
        {"learning_rate": 0.2},
        {"parameterization": Pixel()},
        {"parameterization": Fourier(sd=0.1)},
        {"parameterization": Fourier(decay=1.5)},
        {"transforms": None},
        {"transforms": RandomTransforms(jitter=1)},
        {"objective": "neuron"},
        {"objective": "channel"},
        {"seed": 1},
    ):
        options = {"size": 16, "steps": 6} | changed
        assert (render(small, "body.3", 0, **options).images - base).abs().max() > 1e-3, changed


# Which units.


def test_all_units_in_chunks_that_fit(small, calls, monkeypatch):
    monkeypatch.setattr(engines, "free_memory", lambda device: 1)
    images, table = render(small, "body.3", **QUICK)
    assert table["unit"].tolist() == [0, 1, 2, 3, 4]
    assert [unit_numbers(call) for call in calls] == [[0], [1], [2], [3], [4]]
    calls.clear()
    monkeypatch.setattr(engines, "free_memory", lambda device: 1e12)
    together = render(small, "body.3", batch_size=2, **QUICK)
    assert [unit_numbers(call) for call in calls] == [[0, 1], [2, 3], [4]]
    torch.testing.assert_close(together.images, images, rtol=0, atol=1.01 / 255)  # one level of 8 bits


@pytest.mark.parametrize(
    ("layer", "units", "expected"),
    [
        ("body.3", 2, [2]),
        ("body.3", [2], [2]),
        ("body.3", np.int64(2), [2]),
        ("body.3", np.array([2, 0]), [2, 0]),
        ("body.3", torch.tensor([2, 0]), [2, 0]),
        ("body.3", pd.Series([2, 0], dtype="Int64"), [2, 0]),
        ("body.3", range(1, 3), [1, 2]),
        ("body.3", (u for u in (4, 4, 0, 4)), [4, 0]),
        ("body.3:2", None, [2]),
        ("@3", 2, [2]),
        ("@3:2", None, [2]),
    ],
)
def test_ways_to_name_units(small, layer, units, expected):
    renders = render(small, layer, units, **QUICK)
    assert renders.table["unit"].tolist() == expected
    by_address = render(small, "body.3", expected, **QUICK)
    assert renders.table["objective"].tolist() == by_address.table["objective"].tolist()
    assert torch.equal(renders.images, by_address.images)


@pytest.mark.parametrize(
    ("layer", "units", "message"),
    [
        ("body.33", 0, r"no layer 'body\.33'\. Close names: .*body\.3"),
        ("@9", 0, r"no layer '@9'\. Its convolutions are @1 to @3"),
        ("body.3", 5, r"body\.3 has units 0 to 4; given was 5"),
        ("body.3", [0, -1], r"body\.3 has units 0 to 4; given was -1"),
        ("body.3", [], r"body\.3 has units 0 to 4; none was given"),
        ("body.3:5", None, r"units 0 to 4; given was 5"),
        ("body.3:x", None, r"'body\.3:x': write a unit as address:channel"),
        ("body.3:", None, r"write a unit as address:channel"),
        ("body.3:2", [3], r"then give no units"),
    ],
)
def test_wrong_layers_and_units(small, tmp_path, layer, units, message):
    with unchanged(small.module), undisturbed(), pytest.raises(LayerError, match=message):
        render(small, layer, units, out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give a layer, or an objective"),
        ({"units": [1]}, "Give a layer"),
        ({"objective": Score(), "units": [1]}, "without units and out"),
        ({"objective": Score(), "out": "somewhere"}, "without units and out"),
        ({"objective": []}, "list of objectives is empty"),
        ({"objective": [3]}, "3 is no objective"),
        ({"layer": "body.3", "objective": "mean"}, "objective='mean'.*excitation, channel, inhibition, neuron"),
        ({"layer": "body.3", "objective": Score()}, "of the units of a layer, give"),
        ({"layer": "body.3", "objective": [Score()]}, "of the units of a layer, give"),
        ({"layer": "body.3", "steps": 0}, "steps must be a whole number from 1"),
        ({"layer": "body.3", "size": -1}, "size must be"),
        ({"layer": "body.3", "batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_arguments(small, arguments, message):
    with pytest.raises(RenderError, match=message):
        render(small, **QUICK | arguments)


def test_a_classifier_has_no_score(wrapped):
    model = wrapped(nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(RenderError, match="10 numbers a picture, so it has no score"):
        render(model, objective=Score(), **QUICK)


# Looking at them.


def test_pil_equals_the_images(small):
    renders = render(small, "body.3", [0, 1], **QUICK)
    for image, picture in zip(renders.pil(), renders.images, strict=True):
        found = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
        assert (found - picture).abs().max() <= 0.5 / 255 + 1e-6


def test_a_sheet_of_units_and_of_free_objectives(small, half_dead):
    of_units = render(small, "body.3", **QUICK)
    of_scores = render(small, objective=[Score(), -Score()], **QUICK)
    with_dead = render(half_dead, "2", [0, 2], **QUICK)
    for renders in (of_units, of_scores, with_dead):
        assert renders.sheet("a title").width >= renders.sheet().width
        with Image.open(io.BytesIO(renders._repr_png_())) as image:
            assert image.format == "PNG"
    colours = {colour for _, colour in with_dead.sheet().getcolors(1_000_000)}
    assert (0xF1, 0xF1, 0xEF) in colours  # the tile of the dead


def test_eight_arguments():
    assert list(inspect.signature(memviz.render).parameters) == [
        "model", "layer", "units", "objective", "config", "seed", "out", "progress",
    ]  # fmt: skip


def test_an_objective_is_registered_by_being_written(small, tmp_path):
    class Largest(UnitObjective):
        """The largest activation over positions."""

        @staticmethod
        def evaluate(batch):
            return batch.maps.flatten(1).amax(dim=1)

    try:
        renders = render(small, "body.3", [1, 2], objective="largest", out=tmp_path, **QUICK)
        assert [record.objective for record in renders.records] == ["largest(body.3:1)", "largest(body.3:2)"]
        assert load_renders(tmp_path / "body.3").manifest.config["objective"] == "largest"
        maps = small.module.body(small.module.stem(renders.images))
        assert renders.table["value"].tolist() == pytest.approx(
            [maps[0, 1].max().item(), maps[1, 2].max().item()], abs=1e-5
        )
    finally:
        del UNIT_OBJECTIVES["largest"]


def test_mean_and_peak_are_those_of_the_index(small, tmp_path):
    """Put among the photographs, a picture that is repeated to their size has the peak that its record says."""
    small.inputs = InputSpec(size=(32, 32), resize=(40, 40))
    renders = render(small, "stem.0", out=tmp_path / "renders", **QUICK)
    saved = load_renders(tmp_path / "renders/stem.0")
    (tmp_path / "photographs").mkdir()
    for record in saved.records:
        photograph = as_photograph(from_pil(saved.picture(record)), small.inputs)
        assert photograph.size == (40, 40)
        photograph.save(tmp_path / f"photographs/{record.unit:02d}.png")
    index = memviz.build_index(small, tmp_path / "photographs", out=tmp_path / "index", layers="stem.0")
    for record in renders.records:
        rows = index.layer("stem.0").top(record.unit).set_index("path")
        row = rows.loc[f"{record.unit:02d}.png"]
        assert record.peak == pytest.approx(row["value"], rel=1e-5)
        assert record.position == (row["y"], row["x"])


@pytest.mark.parametrize(
    ("resize", "size"), [((40, 50), (50, 40)), (40, (40, 40)), (None, (32, 32)), ((33, 33), (33, 33))]
)
def test_a_picture_is_repeated_and_never_enlarged(resize, size):
    picture = torch.arange(3 * 16 * 16).reshape(3, 16, 16).to(torch.uint8)
    image = as_photograph(picture, InputSpec(size=(32, 32), resize=resize))
    assert image.size == size
    found = from_pil(image)
    assert torch.equal(found[:, :16, :16], picture)
    assert torch.equal(found[:, 16:32, 16:32], picture)
    assert as_photograph(picture.repeat(1, 4, 4), InputSpec(size=(32, 32), resize=resize)).size == (64, 64)


def test_the_callers_autocast_changes_nothing(small):
    plain = render(small, "body.3", 0, **QUICK)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(render(small, "body.3", 0, **QUICK).images, plain.images)


def test_nothing_of_a_call_stays_in_memory(small, monkeypatch):
    engines_ = []
    made = engines.Engine.__init__

    def noted(self, *args):
        engines_.append(weakref.ref(self))
        made(self, *args)

    monkeypatch.setattr(engines.Engine, "__init__", noted)
    gc.disable()
    try:
        for _ in range(3):
            render(small, "body.3", [0, 1], **QUICK)
        networks = [engine() for engine in engines_]
    finally:
        gc.enable()
    assert networks == [None] * 3


@pytest.mark.parametrize("function", ["private_copy", "truncate"])
@pytest.mark.parametrize("wrap", [lambda network: network, DataDependent], ids=["traced", "untraceable"])
def test_no_network_of_a_call_stays_in_memory(small, wrapped, wrap, function):
    model = wrapped(wrap(small.module))
    address = next(layer.address for layer in model.layers if layer.address.endswith("body.3"))
    for _ in range(2):
        with freed_at_once(engines, function):
            render(model, address, [0, 1], **QUICK)


def test_a_bare_module_is_refused(small):
    with pytest.raises(RenderError, match=r"Sequential.*memviz\.wrap"):
        render(small.module, "body.3", 0, **QUICK)


def test_progress_is_shown_only_where_asked(small, capfd):
    render(small, "body.3", 0, **QUICK)
    render(small, "body.3", 0, progress=False, **QUICK)
    assert capfd.readouterr() == ("", "")
    render(small, "body.3", [0, 1], progress=True, **QUICK)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Rendering body.3: 6/6 steps" in err


def test_the_published_network(resmem):
    """Units of one of its layers: more than what the start gives, and the model as it was."""
    with unchanged(resmem.module.alexnet), undisturbed():
        images, table = render(resmem, "alexnet.conv2", [3, 40], size=64, steps=25)
    start = render(resmem, "alexnet.conv2", [3, 40], size=64, steps=1).table
    assert (table["peak"] > 2 * start["peak"]).all()
    assert (table["peak"] > start["peak"]).all()
    assert images.std() > 0.1
