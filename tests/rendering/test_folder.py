import os
import resource
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from drawing import QUICK, render, unit_numbers
from PIL import Image
from torch import nn

from memviz.errors import StoreError
from memviz.rendering import Pixel, load_renders
from memviz.rendering.objectives import Channel
from memviz.rendering.store import SavedRenders


def test_to_disk_and_back(half_dead, tmp_path):
    options = {"size": 16, "steps": 40, "learning_rate": 0.5}
    in_memory = render(half_dead, "2", **options)
    written = render(half_dead, "2", out=tmp_path, **options)
    read = render(half_dead, "2", out=tmp_path, **options)
    pd.testing.assert_frame_equal(written.table, in_memory.table)
    pd.testing.assert_frame_equal(read.table, in_memory.table)
    assert torch.equal(read.images, written.images)
    assert read.images.dtype == torch.float32
    assert read.images.is_contiguous()
    drawn = torch.tensor([state != "dead" for state in in_memory.table["state"]])
    assert drawn.tolist() == [True, True, False, False]
    assert torch.equal(read.images, in_memory.images)
    assert read.records == written.records == in_memory.records
    assert not read.manifest.differences(in_memory.manifest)
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == [
        ".lock", "2-0000.png", "2-0001.png", "contact_sheet.png", "manifest.json", "records.json",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_a_dead_unit_is_recorded_and_not_drawn_again(half_dead, tmp_path, calls):
    for _ in range(2):
        renders = render(half_dead, "2", [2], out=tmp_path, **QUICK)
    assert len(calls) == 1
    assert renders.table["state"].tolist() == ["dead"]
    assert renders.images.shape == (1, 3, 16, 16)
    assert not list(tmp_path.rglob("2-*.png"))


def test_running_again_draws_only_what_is_missing(small, tmp_path, calls):
    first = render(small, "body.3", [3, 1], out=tmp_path, **QUICK)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = render(small, "@3", [1, 3], out=tmp_path, **QUICK)
    assert [unit_numbers(call) for call in calls] == [[3, 1]]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    assert again.table["unit"].tolist() == [1, 3]
    assert torch.equal(again.images, first.images.flip(0))
    everything = render(small, "body.3", out=tmp_path, **QUICK)
    assert [unit_numbers(call) for call in calls] == [[3, 1], [0, 2, 4]]
    assert everything.table["unit"].tolist() == [0, 1, 2, 3, 4]
    assert sorted(load_renders(tmp_path / "body.3").units) == [0, 1, 2, 3, 4]


def test_a_deleted_picture_is_drawn_again(small, tmp_path, calls):
    first = render(small, "body.3", [1, 3], out=tmp_path, **QUICK)
    (tmp_path / "body.3/body.3-0003.png").unlink()
    again = render(small, "body.3", [1, 3], out=tmp_path, **QUICK)
    assert [unit_numbers(call) for call in calls] == [[1, 3], [3]]
    torch.testing.assert_close(again.images, first.images, rtol=0, atol=1.1 / 255)


def test_a_damaged_picture_is_a_clear_error(small, tmp_path):
    render(small, "body.3", [1], out=tmp_path, **QUICK)
    (tmp_path / "body.3/body.3-0001.png").write_bytes(b"\x89PNG")
    with pytest.raises(StoreError, match=r"body\.3-0001\.png is damaged.*Delete it and render again"):
        render(small, "body.3", [1], out=tmp_path, **QUICK)


def test_each_layer_has_its_folder(small, tmp_path):
    for layer in ("body.3", "stem.0"):
        render(small, layer, 0, out=tmp_path, **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["body.3", "stem.0"]
    assert load_renders(tmp_path / "stem.0").manifest.config["layer"] == "stem.0"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 17}, r"config\.size 16, not 17"),
        ({"steps": 4}, r"config\.steps 3, not 4"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"parameterization": Pixel()}, r"config\.parameterization"),
        ({"transforms": None}, r"config\.transforms"),
        ({"objective": "neuron"}, r"config\.objective"),
        ({"learning_rate": 0.2}, r"config\.learning_rate"),
    ],
)
def test_other_settings_are_refused(small, tmp_path, calls, changed, message):
    render(small, "body.3", 0, out=tmp_path, **QUICK)
    with pytest.raises(StoreError, match=message):
        render(small, "body.3", [0, 1], out=tmp_path, **QUICK | changed)
    assert len(calls) == 1
    assert sorted(load_renders(tmp_path / "body.3").units) == [0]


def test_another_batch_size_is_welcome(small, tmp_path, calls):
    render(small, "body.3", 0, out=tmp_path, **QUICK)
    render(small, "body.3", [0, 1], out=tmp_path, batch_size=1, **QUICK)
    assert [unit_numbers(call) for call in calls] == [[0], [1]]


def test_other_weights_are_refused(small, tmp_path):
    render(small, "body.3", 0, out=tmp_path, **QUICK)
    with torch.no_grad():
        small.module.head[2].bias += 1e-6
    with pytest.raises(StoreError, match="other weights"):
        render(small, "body.3", 0, out=tmp_path, **QUICK)


def test_a_damaged_manifest_is_a_clear_error(small, tmp_path):
    render(small, "body.3", 0, out=tmp_path, **QUICK)
    (tmp_path / "body.3/manifest.json").write_text('{"kind": ')
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        render(small, "body.3", 0, out=tmp_path, **QUICK)


def test_a_file_as_out_is_refused_before_the_work(small, tmp_path, calls):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="out is a file"):
        render(small, "body.3", 0, out=tmp_path / "out", **QUICK)
    assert not calls


def test_many_pictures_need_few_open_files(wrapped, tmp_path):
    model = wrapped(nn.Sequential(nn.Conv2d(3, 60, 1)))
    render(model, "0", size=4, steps=1, out=tmp_path)
    (tmp_path / "0/contact_sheet.png").unlink()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        images, _ = render(model, "0", size=4, steps=1, out=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(images) == 60
    assert (tmp_path / "0/contact_sheet.png").is_file()


def test_save_writes_pictures_sheet_and_manifest(half_dead, tmp_path):
    renders = render(half_dead, objective=[Channel("2", 0), Channel("2", 2)], **QUICK)
    folder = renders.save(tmp_path / "a/b")
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "0000.png", "contact_sheet.png", "manifest.json", "records.json",
    ]  # fmt: skip
    with Image.open(folder / "0000.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(renders.pil()[0]))
    loaded = load_renders(folder)
    assert loaded.manifest.weights == half_dead.fingerprint()
    assert [(r.file, r.state, r.objective) for r in loaded.records] == [
        ("0000.png", "ok", "channel(2:0)"), ("0001.png", "dead", "channel(2:2)"),
    ]  # fmt: skip


def test_another_preprocessing_is_refused(small, tmp_path):
    render(small, "body.3", 0, out=tmp_path, **QUICK)
    small.inputs = replace(small.inputs, scale=255.0)
    with pytest.raises(StoreError, match=r"inputs\.scale 1\.0, not 255\.0"):
        render(small, "body.3", 0, out=tmp_path, **QUICK)


def test_a_finished_folder_is_opened_without_writing(small, tmp_path, monkeypatch):
    """As it must be where it is read-only."""
    render(small, "body.3", [3, 1], out=tmp_path, **QUICK)
    folder = tmp_path / "body.3"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} | {"": folder.stat().st_mtime_ns}

    def closed(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr("memviz.rendering.store.locked", closed)
    monkeypatch.setattr("memviz.artefacts.locked", closed)
    monkeypatch.setattr("memviz.files.tempfile.mkstemp", closed)
    assert len(render(small, "body.3", [3, 1], out=tmp_path, **QUICK).images) == 2
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} | {"": folder.stat().st_mtime_ns} == before


def test_a_picture_that_vanishes_while_others_are_drawn_is_named(small, tmp_path, monkeypatch):
    merge = SavedRenders.merge

    def late(saved, title):
        (tmp_path / "body.3/body.3-0003.png").unlink()
        return merge(saved, title)

    monkeypatch.setattr(SavedRenders, "merge", late)
    with pytest.raises(StoreError, match="lost the pictures of the units 3 while others were drawn"):
        render(small, "body.3", [3, 1], out=tmp_path, **QUICK)
