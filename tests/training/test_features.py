import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import unchanged, undisturbed
from PIL import Image
from torch import nn

from memviz.artefacts import locked
from memviz.errors import ImageError, StoreError, TrainingError
from memviz.images import open_image, read_csv
from memviz.models import InputSpec
from memviz.models.mean_image import MeanImage
from memviz.models.registry import architecture
from memviz.training import cache as cache_module
from memviz.training import features
from memviz.training.cache import FeatureCache
from memviz.training.features import compute_features, network_input

INPUTS = InputSpec(size=(16, 16), resize=18)
CPU = torch.device("cpu")


class Counting(nn.Module):
    """A submodule with a batch norm that counts the pictures it gets, and can be made to fail."""

    seen = None
    fail_at = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.uniform_()

    def forward(self, pictures):
        self.seen.append(len(pictures))
        if self.fail_at is not None and sum(self.seen) > self.fail_at:
            raise KeyboardInterrupt
        return self.norm(self.conv(pictures)).mean((2, 3))


@pytest.fixture
def submodule(monkeypatch):
    monkeypatch.setattr(Counting, "seen", [])
    monkeypatch.setattr(Counting, "fail_at", None)
    return Counting()


@pytest.fixture
def run(table, tmp_path, submodule):
    def run(mirrored=True, **changes):
        given = {
            "table": table,
            "inputs": INPUTS,
            "frozen": {"submodule": submodule},
            "folder": tmp_path / "cache",
        } | changes
        given["folder"] = FeatureCache(given["folder"])
        return compute_features(*given.values(), device=CPU, mirrored=mirrored, batch_size=4)

    return run


def photographs(originals):
    return [originals["coffee.png"], originals["rocket.jpg"], originals["camera.png"]]


@pytest.fixture
def few(originals, tmp_path):
    (tmp_path / "few.csv").write_text("path,score\n" + "".join(f"{path},0.5\n" for path in photographs(originals)))
    return read_csv(tmp_path / "few.csv")


def test_inputs_are_those_of_resmem_bit_by_bit(few, run):
    inputs = architecture("resmem").inputs
    pixels = run(table=few, inputs=inputs, frozen={}).pixels[:]
    assert pixels.dtype == np.uint8
    for given, path in zip(pixels, few["path"], strict=True):
        assert torch.equal(network_input(inputs, torch.tensor(given)[None])[0], inputs.from_pil(open_image(path)))


@pytest.mark.parametrize("image", [False, True])
def test_inputs_of_caffe_to_float_rounding(few, run, image):
    inputs = architecture("memnet-caffe").inputs
    if image:
        pixels = np.random.default_rng(0).uniform(90, 130, (256, 256, 3)).astype(np.float32)
        inputs = replace(inputs, mean=None, mean_image=MeanImage(pixels))
    pixels = run(table=few, inputs=inputs, frozen={}).pixels[:]
    for given, path in zip(pixels, few["path"], strict=True):
        wanted = inputs.from_pil(open_image(path))
        torch.testing.assert_close(network_input(inputs, torch.tensor(given)[None])[0], wanted, rtol=0, atol=1e-4)


def test_frozen_outputs_are_what_the_submodule_gives(table, run, submodule):
    inputs = replace(INPUTS, mean=(100.0, 110.0, 120.0), channels="bgr", scale=255.0)
    submodule.train()
    with unchanged(submodule), undisturbed():
        found = run(inputs=inputs)
    submodule.eval()
    pictures = torch.stack([inputs.from_pil(open_image(path)) for path in table["path"]])
    with torch.no_grad():
        wanted = torch.stack([submodule(pictures), submodule(pictures.flip(-1))], dim=1)
    assert found.frozen["submodule"][:].shape == (40, 2, 4)
    torch.testing.assert_close(torch.tensor(found.frozen["submodule"][:]), wanted)
    assert len({len(sha) for sha in found.sha256}) == 1
    assert found.unreadable == {}


def test_mirror_images_only_where_they_are_needed(run, submodule, tmp_path):
    both = run()
    submodule.seen.clear()
    one = run(mirrored=False)
    assert sum(submodule.seen) == 40 + 1
    assert one.frozen["submodule"][:].shape == (40, 1, 4)
    np.testing.assert_array_equal(one.frozen["submodule"][:][:, 0], both.frozen["submodule"][:][:, 0])
    np.testing.assert_array_equal(run().frozen["submodule"][:], both.frozen["submodule"][:])
    assert len(list((tmp_path / "cache").glob("submodule-*"))) == 2


def test_a_second_call_reads_from_disk(run, submodule, monkeypatch):
    first = run()
    count = sum(submodule.seen)
    assert count >= 80
    monkeypatch.setattr(features, "stream", lambda *args, **kwargs: pytest.fail("decoded again"))
    second = run()
    assert sum(submodule.seen) - count <= 1  # a black picture, to know the shape
    np.testing.assert_array_equal(first.pixels[:], second.pixels[:])
    np.testing.assert_array_equal(first.frozen["submodule"][:], second.frozen["submodule"][:])
    assert (first.sha256, first.unreadable) == (second.sha256, second.unreadable)


@pytest.mark.filterwarnings("ignore:Waiting for another training")
def test_trainings_that_share_a_cache_compute_once(run, submodule, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        found = [done.result() for done in [pool.submit(run) for _ in range(3)]]
    assert sum(submodule.seen) == 80 + 3  # each photograph and its mirror image once, and three times a black picture
    for other in found[1:]:
        np.testing.assert_array_equal(other.frozen["submodule"][:], found[0].frozen["submodule"][:])


def test_waiting_is_reported_once_and_only_if_records_are_missing(run, tmp_path, monkeypatch):
    run()
    [folder] = (tmp_path / "cache").glob("submodule-*")
    with locked(folder):
        run()  # all is there
    (folder / "keys-0").rename(tmp_path / "keys-0")
    other, told = ExitStack(), []
    other.enter_context(locked(folder))

    def warn(text, **_):
        told.append(text)
        (tmp_path / "keys-0").rename(folder / "keys-0")  # the other training is done
        other.close()

    monkeypatch.setattr(cache_module.warnings, "warn", warn)
    monkeypatch.setattr(cache_module, "_append", lambda *args: pytest.fail("made again"))
    run()
    assert told == [f"Waiting for another training, which adds to {folder}."]


def test_a_file_system_without_locks(run, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr("memviz.artefacts.FileLock.acquire", refuse)
    assert len(run().pixels.rows) == 40


def test_what_a_record_depends_on(run, submodule, tmp_path):
    run()
    made = {path.name for path in (tmp_path / "cache").iterdir()}

    def new(**changes):
        run(**changes)
        added = {path.name for path in (tmp_path / "cache").iterdir()} - made
        made.update(added)
        return sorted(name.partition("-")[0] for name in added)

    assert new() == []
    assert new(inputs=replace(INPUTS, mean=(0.5, 0.5, 0.5))) == ["submodule"]
    assert new(inputs=replace(INPUTS, resize=20)) == ["pixels", "submodule"]
    assert new(frozen={"other": submodule}) == ["other"]
    submodule.norm.running_var += 1  # statistics are weights too
    assert new() == ["submodule"]


def test_only_photographs_that_are_new_are_computed(table, run, submodule, tmp_path):
    """Another order, one less, one touched, moved: nothing is computed. One changed: only that one."""
    whole = run()
    files = {path: path.stat().st_size for path in (tmp_path / "cache").rglob("rows-0")}

    def count(**changes):
        submodule.seen.clear()
        found = run(**changes)
        return found, sum(submodule.seen) - 1  # a black picture, to know the shape

    found, passes = count(table=table.iloc[::-1].reset_index(drop=True))
    np.testing.assert_array_equal(found.frozen["submodule"][:], whole.frozen["submodule"][:][::-1])
    np.testing.assert_array_equal(found.pixels[[3, 0]], whole.pixels[[36, 39]])
    assert (passes, found.sha256) == (0, whole.sha256[::-1])
    assert count(table=table.iloc[1:].reset_index(drop=True))[1] == 0
    os.utime(table["path"][0], ns=(1, 1))
    assert count()[1] == 0
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    assert count(table=read_csv(tmp_path / "moved" / "bright.csv"))[1] == 0
    assert {path: path.stat().st_size for path in files} == files
    Image.new("RGB", (24, 20), "red").save(table["path"][7])
    found, passes = count()
    assert passes == 2  # the photograph and its mirror image
    changed = np.array([row == 7 for row in range(40)])
    assert (found.pixels[:] != whole.pixels[:]).any(axis=(1, 2, 3)).tolist() == changed.tolist()


def test_a_photograph_that_changes_while_it_is_read(table, run, monkeypatch):
    stream = features.stream

    def changing(files, *args, **options):
        for batch in stream(files, *args, **options):
            os.utime(table["path"][0], ns=(1, 1))
            yield batch

    monkeypatch.setattr(features, "stream", changing)
    with pytest.raises(ImageError, match=r"000\.png was changed while it was read"):
        run()


@pytest.mark.parametrize("seconds", [0, 1000])
def test_an_interrupted_pass_continues(run, submodule, tmp_path, monkeypatch, seconds):
    whole = run(folder=tmp_path / "whole")
    monkeypatch.setattr(cache_module, "SAVE_SECONDS", seconds)
    submodule.seen.clear()
    monkeypatch.setattr(Counting, "fail_at", 41)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(Counting, "fail_at", None)
    submodule.seen.clear()
    found = run()
    assert sum(submodule.seen) == 1 + 40  # two for each of the twenty that were left
    np.testing.assert_array_equal(found.frozen["submodule"][:], whole.frozen["submodule"][:])


def test_what_sigkill_left_of_a_row_or_a_key_is_written_anew(run, submodule, tmp_path):
    whole = run()
    [folder] = (tmp_path / "cache").glob("submodule-*")
    rows, keys = folder / "rows-0", folder / "keys-0"
    os.truncate(keys, 30 * 65 + 20)  # the rows are there, the keys not yet, one of them half
    with rows.open("ab") as file:
        file.write(b"half")
    submodule.seen.clear()
    np.testing.assert_array_equal(run().frozen["submodule"][:], whole.frozen["submodule"][:])
    assert sum(submodule.seen) == 1 + 2 * 10
    assert (rows.stat().st_size, keys.stat().st_size) == (40 * 2 * 4 * 4, 40 * 65)


def test_a_file_that_was_cut_off_is_noticed_and_computed_again(run, submodule, tmp_path):
    whole = run()
    [folder] = (tmp_path / "cache").glob("submodule-*")
    os.truncate(folder / "rows-0", 15 * 2 * 4 * 4 + 5)
    submodule.seen.clear()
    with pytest.warns(UserWarning, match="rows-0 was cut off"):
        found = run()
    assert sum(submodule.seen) == 1 + 2 * 25
    np.testing.assert_array_equal(found.frozen["submodule"][:], whole.frozen["submodule"][:])


def test_pruning_keeps_what_is_still_there(table, run, submodule, tmp_path):
    """Also for a process that has the records open."""
    whole = run()
    wanted = whole.frozen["submodule"][:].copy()
    cache = FeatureCache(tmp_path / "cache")
    assert cache.prune() == 0
    gone, changed = table["path"][0], table["path"][1]
    os.unlink(gone)
    Image.new("RGB", (24, 20), "red").save(changed)
    freed = cache.prune()
    assert freed == 2 * (3 * 16 * 16 + 2 * 4 * 4)
    assert {count for _, count, _ in cache.kinds()} == {38}
    np.testing.assert_array_equal(whole.frozen["submodule"][:], wanted)
    submodule.seen.clear()
    found = run(table=table.iloc[1:].reset_index(drop=True))
    assert sum(submodule.seen) == 1 + 2
    np.testing.assert_array_equal(found.frozen["submodule"][1:], wanted[2:])
    for path in table["path"][1:]:
        os.unlink(path)
    cache.prune()
    assert cache.kinds() == []


def test_unreadable_files_are_named_and_left_out(table, run, submodule):
    damaged = table["path"][3]
    with open(damaged, "wb") as file:
        file.write(b"no picture")
    found = run()
    assert list(found.unreadable) == [3]
    assert "not a picture" in found.unreadable[3]
    assert [row for row, sha in enumerate(found.sha256) if not sha] == [3]
    assert run().unreadable == found.unreadable


def test_no_file_is_readable(table, run):
    for path in table["path"]:
        with open(path, "wb") as file:
            file.write(b"no picture")
    with pytest.raises(ImageError, match=r"None of the 40 photographs can be read: .*000\.png"):
        run()


def test_files_are_missing(table, run, tmp_path):
    os.unlink(table["path"][5])
    with pytest.raises(ImageError, match=r"005\.png"):
        run()
    assert not (tmp_path / "cache").exists()


def test_there_is_no_room(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=40 * 3 * 16 * 16 - 1))
    with pytest.raises(StoreError, match="another disk"):
        run()


@pytest.mark.parametrize("name", ["manifest.json", "unreadable.json", "../photographs.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"a": ' * 50_000])
def test_damaged_notes(table, run, tmp_path, name, content):
    Path(table["path"][3]).write_bytes(b"no picture")
    run()
    [folder] = (tmp_path / "cache").glob("pixels-*")
    os.utime(table["path"][3])
    Path(table["path"][3]).write_bytes(b"another")
    (folder / name).write_text(content)
    with pytest.raises(StoreError, match=name.removeprefix("../").replace(".", r"\.")):
        run()


def test_a_submodule_that_gives_no_tensor(run):
    class Two(nn.Module):
        def forward(self, pictures):
            return {"out": pictures}

    with pytest.raises(TrainingError, match="submodule gives a dict"):
        run(frozen={"submodule": Two()})
