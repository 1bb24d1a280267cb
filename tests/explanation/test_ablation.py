"""Units replaced one by one, against the whole network with a hook."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
import torch
from helpers import unchanged, undisturbed, write_noise
from scipy import stats
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, StoreError
from memviz.explanation import Ablation, ablate, drivers, load_ablations
from memviz.models import InputSpec

INPUTS = InputSpec(size=(12, 12), resize=(12, 12))
LAYERS = ("network.left.0", "network.right.1", "network.right.1.conv1", "network.right.2")


class Linear(nn.Module):
    """The logit is a weighted sum of the mean activations of ten units, of which the last two weigh nothing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)
        self.weights = torch.linspace(-2, 2, 10)
        self.weights[-2:] = 0

    def forward(self, pictures):
        return self.conv(pictures).mean((2, 3)) @ self.weights[:, None]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("ablation") / "photos", 20, 12)


@pytest.fixture
def surveyed(photos, tmp_path):
    def make(network, name="net"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = memviz.wrap(tiny.Scored(network()).eval(), INPUTS, name, "memorability")
        index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
        return model, index, drivers(model, index, sample=None, progress=False)

    return make


def logits(model, batch, layer, change):
    part = model.module.get_submodule(layer)
    handle = part.register_forward_hook(lambda part, inputs, output: change(output.clone()))
    with torch.no_grad():
        found = model.module.network(batch).flatten(1).sum(1)
    handle.remove()
    return found.double().numpy()


def effects(model, batch, layer, channel):
    """By the mean and by the predecessor in each of the batches of equal size, of the whole network."""
    outputs = tiny.truth(model.module, batch, [layer])[layer]
    mean, before = outputs[:, channel].mean(), logits(model, batch, layer, lambda output: output)

    def replaced(values):
        def change(output):
            output[:, channel] = values
            return output

        return before - logits(model, batch, layer, change)

    shifted = torch.cat([part.roll(1, 0) for part in outputs[:, channel].tensor_split(3)])
    return replaced(mean), replaced(shifted)


@pytest.mark.parametrize("layer", LAYERS)
def test_effects_are_those_in_the_whole_network(layer, surveyed):
    model, index, survey = surveyed(lambda: tiny.built("Branches"))
    with unchanged(model.module), undisturbed():
        found = ablate(model, index, survey, layer, count=9, photographs=20, progress=False)
    assert sorted(each.channel for each in found.units) == list(range(survey.layers[layer]))
    order = np.random.default_rng(0).permutation(20)
    batch = torch.stack([INPUTS.from_pil(index.photo(int(image))) for image in order])
    level = tiny.truth(model.module, batch, [layer])[layer].mean((2, 3)).double().numpy()
    for each in found.units:
        by_mean, by_other = effects(model, batch, layer, each.channel)
        expected = {
            "by_mean": by_mean.mean(), "size_by_mean": np.sqrt(np.mean(by_mean**2)),
            "by_other": by_other.mean(), "size_by_other": np.sqrt(np.mean(by_other**2)),
        }  # fmt: skip
        for name, value in expected.items():
            assert getattr(each, name) == pytest.approx(value, rel=1e-3, abs=2e-6), name
        if level[:, each.channel].std() > 0:
            drive = np.cov(by_mean, level[:, each.channel], ddof=0)[0, 1] / level[:, each.channel].std()
            assert each.drive_by_mean == pytest.approx(drive, rel=1e-3, abs=2e-6)


def test_of_a_linear_unit_contribution_and_effect_are_the_same(surveyed):
    model, index, survey = surveyed(Linear)
    found = ablate(model, index, survey, "network.conv", count=3, photographs=20, progress=False)
    for each in found.units:
        assert each.strength == pytest.approx(each.size_by_mean, abs=2e-6)
        assert each.drive == pytest.approx(each.drive_by_mean, abs=2e-6)
        assert each.by_mean == pytest.approx(0, abs=2e-6)
    strongest, weakest = (
        {each.channel for each in found.units if each.group == group} for group in ("strongest", "weakest")
    )
    assert {8, 9} < weakest
    assert strongest == set(survey.strongest("network.conv", 3)["channel"])
    assert found.ratio() > 1
    assert found.correlation("strength", "size_by_mean").value > 0.98


def test_correlations_have_intervals_and_are_told(surveyed):
    model, index, survey = surveyed(Linear)
    found = ablate(model, index, survey, "network.conv", count=4, photographs=20, progress=False)
    frame = found.frame()
    estimate = found.correlation("drive", "by_other")
    assert estimate.value == pytest.approx(stats.spearmanr(frame["drive"], frame["by_other"])[0])
    assert estimate.low <= estimate.value <= estimate.high
    same = dataclasses.replace(found, units=tuple(dataclasses.replace(each, drive=0.0) for each in found.units))
    assert same.correlation("drive", "by_other") is None
    assert "drive, by contribution and by effect: not defined" in str(same)
    assert f"network.conv: {len(found.units)} units replaced on 20 photographs" in str(found)


def test_it_is_kept_beside_the_survey(surveyed):
    model, index, survey = surveyed(Linear)
    found = ablate(model, index, survey, "network.conv", count=2, photographs=12, progress=False)
    assert len(found.units) == 6
    assert load_ablations(survey) == [found]
    path = survey.path / "ablation-network.conv.json"
    before = path.stat().st_mtime_ns
    assert ablate(model, index, survey, "network.conv", count=2, photographs=12, progress=False) == found
    assert path.stat().st_mtime_ns == before
    other = ablate(model, index, survey, "network.conv", count=2, photographs=12, seed=1, progress=False)
    assert other != found
    assert load_ablations(survey) == [other]
    path.write_text(json.dumps({"address": 3}))
    with pytest.raises(StoreError, match="is damaged"):
        load_ablations(survey)


def test_bad_input(surveyed, photos, tmp_path):
    model, index, survey = surveyed(Linear)
    with pytest.raises(LayerError, match="were not ranked"):
        ablate(model, index, survey, "network.fc", progress=False)
    with pytest.raises(ImageError, match="sample=5 is not possible"):
        ablate(model, index, survey, "network.conv", photographs=5, progress=False)
    torch.manual_seed(1)
    other = memviz.wrap(tiny.Scored(Linear()).eval(), INPUTS, "net", "memorability")
    with pytest.raises(StoreError, match="built with other weights"):
        ablate(other, index, survey, "network.conv", progress=False)
    foreign = memviz.build_index(other, photos, out=tmp_path / "foreign", progress=False)
    with pytest.raises(StoreError, match="is of other weights than the index"):
        ablate(other, foreign, survey, "network.conv", progress=False)
    assert not list(survey.path.glob("ablation*"))


def test_a_layer_of_one_unit(surveyed):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3)

        def forward(self, pictures):
            return self.conv(pictures).mean((1, 2, 3))[:, None]

    model, index, survey = surveyed(One)
    found = ablate(model, index, survey, "network.conv", photographs=12, progress=False)
    assert isinstance(found, Ablation)
    assert [each.group for each in found.units] == ["strongest"]
    assert found.correlation("strength", "size_by_mean") is found.ratio() is None
    assert "not defined" in str(found)
