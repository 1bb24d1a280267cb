"""A survey of units, against one layer and one photograph at a time."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from helpers import unchanged, undisturbed, write_noise

import memviz
from memviz.artefacts import SHARDS
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explanation import Drivers, drivers, load_drivers
from memviz.explanation.drivers import find_drivers
from memviz.models import InputSpec

INPUTS = InputSpec(size=(12, 12), resize=(12, 12))


def scored(name="Branches", **options):
    return memviz.wrap(tiny.Scored(tiny.built(name)).eval(), INPUTS, name, "memorability", **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("drivers") / "photos", 24, 12)


@pytest.fixture
def indexed(photos, tmp_path):
    def make(model):
        return memviz.build_index(model, photos, out=tmp_path / f"index-{model.name}", progress=False)

    return make


def pictures(index):
    return torch.stack([INPUTS.from_pil(index.photo(image)) for image in range(len(index.images))])


def reference(model, batch, address):
    """The activations of a layer and the logit's gradients at them, from a leaf in the place of its last output."""
    leaves = []

    def replace(part, inputs, output):
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    calls = []
    layer = model.module.get_submodule(address)
    counting = layer.register_forward_hook(lambda *_: calls.append(1))
    model.module(batch)
    counting.remove()
    handle = layer.register_forward_hook(replace)
    logit = model.module.network(batch).flatten(1).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, leaves[len(calls) - 1])
    return leaves[-1].detach().double(), gradient.double()


def by_hand(model, batch, address):
    a, g = reference(model, batch, address)
    if a.dim() == 2:
        a, g = a[..., None, None], g[..., None, None]
    c = ((a - a.mean((0, 2, 3), keepdim=True)) * g).sum((2, 3)).numpy()
    level = a.mean((2, 3)).numpy()
    strength = np.sqrt(np.mean(c**2, 0))
    consistency = np.divide(np.abs(c.mean(0)), strength, where=strength > 0, out=np.full(len(strength), np.nan))
    together = ((c - c.mean(0)) * (level - level.mean(0))).mean(0)
    drive = np.divide(together, level.std(0), where=level.std(0) > 0, out=np.zeros_like(together))
    return {
        "mean": level.mean(0), "contribution": c.mean(0), "sd": c.std(0, ddof=1), "strength": strength, "drive": drive,
        "consistency": consistency,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Branches", "SharedInput", "Discarded", "Repeated"])
def test_all_layers_at_once_as_one_by_one(name, indexed):
    model = scored(name)
    index = indexed(model)
    with unchanged(model.module), undisturbed():
        found = drivers(model, index, sample=None, batch_size=5, progress=False)
    assert found.photographs == 24
    assert list(found.layers) == [layer.address for layer in index.layers]
    batch = pictures(index)
    for address in found.layers:
        rows = found.frame(address)
        for figure, expected in by_hand(model, batch, address).items():
            np.testing.assert_allclose(rows[figure], expected, rtol=2e-3, atol=2e-5, err_msg=f"{address} {figure}")


def test_named_layers_are_surveyed_too(indexed):
    model = scored(named={"network.head": ["score"]})
    found = drivers(model, indexed(model), sample=None, progress=False)
    assert found.frame("network.head")["name"].tolist() == ["score"]
    assert set(found.frame("network.left.0")["name"]) == {""}


def test_a_sample_is_seeded_and_kept(indexed):
    model = scored()
    index = indexed(model)
    found = drivers(model, index, sample=12, seed=3, progress=False)
    assert found.path == index.path / "drivers" / "12-3"
    pd.testing.assert_frame_equal(load_drivers(found.path).frame(), found.frame())
    before = (found.path / "drivers.parquet").stat().st_mtime_ns
    again = drivers(model, index, sample=12, seed=3, progress=False)
    assert (again.path / "drivers.parquet").stat().st_mtime_ns == before
    other = drivers(model, index, sample=12, seed=4, progress=False)
    assert not np.allclose(other.frame()["strength"], found.frame()["strength"])
    with pytest.raises(StoreError, match="seed 3, not 4"):
        drivers(model, index, sample=12, seed=4, out=found.path, progress=False)
    # The index is as before.
    assert memviz.build_index(model, index.photos, out=index.path, progress=False).result.photographs == 24
    assert load_drivers(found.path).about == {"photographs": 12, "seed": 3}


def test_an_interrupted_survey_continues(indexed, monkeypatch):
    model = scored()
    index = indexed(model)
    home = sys.modules["memviz.explanation.drivers"]  # its name is also the function's
    monkeypatch.setattr(home, "SHARD", 7)
    whole = drivers(model, index, sample=None, progress=False)
    shutil.copytree(whole.path, index.path / "whole")
    shutil.rmtree(whole.path)
    scan, scans = home.Survey.scan, []

    def interrupted(survey, reading, part, advance):
        if len(scans) == 2:
            raise KeyboardInterrupt
        scans.append(part)
        return scan(survey, reading, part, advance)

    monkeypatch.setattr(home.Survey, "scan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drivers(model, index, sample=None, progress=False)
    with pytest.raises(StoreError, match="not finished"):
        load_drivers(whole.path)
    assert find_drivers(index) is None
    kept = list((whole.path / SHARDS).iterdir())
    assert len(kept) == 2
    scans.clear()
    monkeypatch.setattr(home.Survey, "scan", lambda *args: scans.append(args[2]) or scan(*args))
    again = drivers(model, index, sample=None, progress=False)
    assert [part.start for part in scans] == [14, 21]
    assert not (whole.path / SHARDS).exists()
    pd.testing.assert_frame_equal(again.frame(), Drivers(index.path / "whole", again.manifest).frame())
    assert find_drivers(index).path == again.path


def test_the_strongest(indexed):
    model = scored()
    found = drivers(model, indexed(model), sample=None, progress=False)
    rows = found.frame("network.right.1")
    up, down = (found.strongest("network.right.1", 6, direction) for direction in ("up", "down"))
    assert (up["drive"] > 0).all()
    assert up["drive"].is_monotonic_decreasing
    assert (down["drive"] < 0).all()
    assert down["drive"].is_monotonic_increasing
    assert len(up) + len(down) == (rows["drive"] != 0).sum() > 2
    best = found.strongest("network.right.1", 2)
    assert best["strength"].tolist() == sorted(rows["strength"], reverse=True)[:2]


def test_what_does_not_reach_the_score_drives_nothing(indexed):
    model = scored("Discarded")
    model.module.network.left.weight.data.zero_()
    found = drivers(model, indexed(model), sample=None, progress=False).frame("network.left")
    assert (found[["contribution", "sd", "strength", "drive"]] == 0).all(axis=None)
    assert found["consistency"].isna().all()


def test_an_unwatched_layer(indexed):
    model = scored()
    found = drivers(model, indexed(model), sample=None, progress=False)
    with pytest.raises(LayerError, match=r"'network.left.9' were not ranked.*network.left.2"):
        found.frame("network.left.9")


def test_an_index_of_other_weights(indexed):
    index = indexed(scored())
    with pytest.raises(StoreError, match="built with other weights"):
        drivers(scored("InPlace"), index, progress=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (memviz.wrap(tiny.built("InPlace"), INPUTS, "maps"), "does not give one number a picture"),
        (scored("InPlace"), "has no gradients"),  # it overwrites what its own backward pass needs
    ],
)
def test_a_model_without_a_score_or_gradients_leaves_nothing(model, message, indexed):
    index = indexed(model)
    with pytest.raises(ModelError, match=message):
        drivers(model, index, progress=False)
    assert not (index.path / "drivers").exists()


def test_too_few_photographs(tmp_path):
    model = scored()
    few = write_noise(tmp_path / "few", 11, 12)
    index = memviz.build_index(model, few, out=tmp_path / "index", progress=False)
    with pytest.raises(ImageError, match="ranks 11 photographs"):
        drivers(model, index, progress=False)
    with pytest.raises(ImageError, match="sample=5 is not possible"):
        drivers(model, index, sample=5, progress=False)
    assert not (index.path / "drivers").exists()


def test_changed_photographs_are_skipped_and_too_many_refused(tmp_path):
    model = scored()
    folder = write_noise(tmp_path / "photos", 14, 12)
    index = memviz.build_index(model, folder, out=tmp_path / "index", progress=False)
    (folder / "0.png").unlink()
    with pytest.warns(UserWarning, match="1 unreadable files were skipped"):
        found = drivers(model, index, sample=None, progress=False)
    assert (found.photographs, len(found.manifest.result["unreadable"])) == (13, 1)
    (folder / "1.png").unlink()
    (folder / "2.png").unlink()
    with pytest.raises(ImageError, match="11 of 14 photographs can be read"):
        drivers(model, index, sample=None, seed=1, progress=False)


def test_damage_is_told(indexed):
    model = scored()
    found = drivers(model, indexed(model), sample=None, progress=False)
    table = found.path / "drivers.parquet"
    rows = pd.read_parquet(table)
    rows.iloc[:-1].to_parquet(table)
    with pytest.raises(StoreError, match="other units"):
        load_drivers(found.path)
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(StoreError, match="missing or damaged"):
        load_drivers(found.path)
    with pytest.raises(StoreError, match=r"manifest.json"):
        load_drivers(found.path.parent)
