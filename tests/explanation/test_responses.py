"""Activations of units on photographs, against an index of them and against maps reduced one by one."""

import numpy as np
import pytest
import torch
from helpers import unchanged, undisturbed, write_noise
from tiny import Branches, Repeated, built

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explanation import responses
from memviz.images import list_images, open_image
from memviz.layers import capture
from memviz.models import InputSpec

INPUTS = InputSpec(size=(24, 24), resize=24)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("photos") / "noise", 13, 26)


@pytest.fixture
def model():
    return memviz.wrap(built("Branches"), INPUTS, name="branches", branches=("left", "right"))


def test_peaks_are_those_that_an_index_ranks(model, photos, tmp_path):
    index = memviz.build_index(model, photos, out=tmp_path / "index", k=13, progress=False)
    with unchanged(model.module), undisturbed():
        found = responses(model, index, {layer.address: None for layer in index.layers}, batch_size=5)
    assert [path.name for path in found.paths] == list(index.images["path"])
    for layer in index.layers:
        indexed = index.layer(layer.address)
        for channel in range(layer.channels):
            np.testing.assert_allclose(
                found.values[layer.address][indexed.images[channel, 0], channel], indexed.values[channel, 0], rtol=1e-6
            )


@pytest.mark.parametrize("statistic", ["mean", "peak"])
def test_brute_force(model, photos, statistic):
    wanted = {"left.0": [3, 1], "right.2": None, "head": None}
    found = responses(model, photos, wanted, statistic=statistic, batch_size=4)
    assert [unit.channel for unit in found.units["left.0"]] == [3, 1]
    for row, path in enumerate(list_images(photos)):
        assert found.paths[row] == path
        with torch.no_grad(), capture(model.module, wanted) as maps:
            model.module(INPUTS.from_pil(open_image(path))[None])
        for address, channels in wanted.items():
            layer = model.layers[address]
            for column, channel in enumerate(channels or range(layer.channels)):
                values = maps[address][0, channel]
                if values.dim():
                    values = values[layer.interior(INPUTS.size)]
                expected = values.max() if statistic == "peak" else values.mean()
                assert found.values[address][row, column] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    rows, columns = model.layers["left.0"].interior(INPUTS.size)
    assert model.layers["right.2"].interior(INPUTS.size)[0] != slice(0, 24)  # or no border was left out
    assert (rows, columns) == (slice(0, 11), slice(0, 11))


def test_of_a_module_that_runs_again_the_last_output_counts(photos):
    model = memviz.wrap(Repeated().eval(), INPUTS)
    found = responses(model, photos, {"first": None})
    with torch.no_grad(), capture(model.module, ["first"]) as maps:
        model.module(torch.stack([INPUTS.from_pil(open_image(path)) for path in found.paths]))
    inside = maps["first"][:, :, *model.layers["first"].interior(INPUTS.size)]
    np.testing.assert_allclose(found.values["first"], inside.amax((2, 3)).numpy(), rtol=1e-5)


def test_unreadable_photographs_are_named_and_left_out(model, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = responses(model, [photos, tmp_path / "broken.png"], {"head": None})
    assert len(found.paths) == len(found.values["head"]) == 13
    assert list(found.unreadable) == [str(tmp_path / "broken.png")]
    with pytest.raises(ImageError, match="None of 1 photographs"):
        responses(model, tmp_path / "broken.png", {"head": None})


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ({}, {}, "No layer"),
        ({"left.9": None}, {}, "There is no layer"),
        ({"left.0": [4]}, {}, "units 0 to 3"),
        ({"left.0": None}, {"statistic": "median"}, "'mean' or 'peak'"),
    ],
)
def test_wrong_questions(model, photos, layers, options, message):
    with pytest.raises(LayerError, match=message):
        responses(model, photos, layers, **options)


def test_activations_that_are_not_finite(photos):
    network = Branches().eval()
    network.left[0].bias.data[2] = torch.nan
    with pytest.raises(ModelError, match=r"left\.0:2 gave no finite activation for .*0\.png"):
        responses(memviz.wrap(network, INPUTS), photos, {"left.0": None})


def test_an_index_of_other_weights(model, photos, tmp_path):
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    with pytest.raises(StoreError, match="other weights"):
        responses(memviz.wrap(Branches().eval(), INPUTS, name="other"), index, {"left.0": None})
