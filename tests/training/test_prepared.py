import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import unchanged, undisturbed
from torch import nn

from memviz.errors import ImageError, StoreError, TrainingError
from memviz.images import open_image, read_csv
from memviz.models import InputSpec
from memviz.models.mean_image import MeanImage
from memviz.models.registry import architecture
from memviz.training import prepared
from memviz.training.prepared import network_input, prepare

INPUTS = InputSpec(size=(16, 16), resize=18)
CPU = torch.device("cpu")


class Counting(nn.Module):
    """A part with a batch norm, which counts the pictures that it sees, and fails where it is told to."""

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
def part(monkeypatch):
    monkeypatch.setattr(Counting, "seen", [])
    monkeypatch.setattr(Counting, "fail_at", None)
    return Counting()


@pytest.fixture
def run(table, tmp_path, part):
    def run(mirrored=True, **changes):
        given = {"table": table, "inputs": INPUTS, "frozen": {"part": part}, "folder": tmp_path / "cache"} | changes
        return prepare(*given.values(), device=CPU, mirrored=mirrored, batch_size=4)

    return run


def photographs(originals):
    return [originals["coffee.png"], originals["rocket.jpg"], originals["camera.png"]]


@pytest.fixture
def few(originals, tmp_path):
    (tmp_path / "few.csv").write_text("path,score\n" + "".join(f"{path},0.5\n" for path in photographs(originals)))
    return read_csv(tmp_path / "few.csv")


def test_inputs_are_those_of_resmem_bit_by_bit(few, run):
    inputs = architecture("resmem").inputs
    pixels = run(table=few, inputs=inputs, frozen={}).pixels
    assert pixels.dtype == np.uint8
    for given, path in zip(pixels, few["path"], strict=True):
        assert torch.equal(network_input(inputs, torch.tensor(given)[None])[0], inputs.from_pil(open_image(path)))


@pytest.mark.parametrize("image", [False, True])
def test_inputs_of_caffe_to_float_rounding(few, run, image):
    inputs = architecture("memnet-caffe").inputs
    if image:
        pixels = np.random.default_rng(0).uniform(90, 130, (256, 256, 3)).astype(np.float32)
        inputs = prepared.replace(inputs, mean=None, mean_image=MeanImage(pixels))
    pixels = run(table=few, inputs=inputs, frozen={}).pixels
    for given, path in zip(pixels, few["path"], strict=True):
        wanted = inputs.from_pil(open_image(path))
        torch.testing.assert_close(network_input(inputs, torch.tensor(given)[None])[0], wanted, rtol=0, atol=1e-4)


def test_frozen_outputs_are_what_the_part_gives(table, run, part):
    inputs = prepared.replace(INPUTS, mean=(100.0, 110.0, 120.0), channels="bgr", scale=255.0)
    part.train()
    with unchanged(part), undisturbed():
        found = run(inputs=inputs)
    part.eval()
    pictures = torch.stack([inputs.from_pil(open_image(path)) for path in table["path"]])
    with torch.no_grad():
        wanted = torch.stack([part(pictures), part(pictures.flip(-1))], dim=1)
    assert found.frozen["part"].shape == (40, 2, 4)
    torch.testing.assert_close(torch.tensor(found.frozen["part"]), wanted)
    assert len({len(sha) for sha in found.sha256}) == 1
    assert found.unreadable == {}


def test_mirror_images_only_where_they_are_needed(run, part, tmp_path):
    both = run()
    part.seen.clear()
    one = run(mirrored=False)
    assert sum(part.seen) == 40 + 1
    assert one.frozen["part"].shape == (40, 1, 4)
    np.testing.assert_array_equal(one.frozen["part"][:, 0], both.frozen["part"][:, 0])
    np.testing.assert_array_equal(run().frozen["part"], both.frozen["part"])
    assert len(list((tmp_path / "cache").glob("part-*.npy"))) == 2


def test_a_second_call_reads_from_disk(run, part, monkeypatch):
    first = run()
    count = sum(part.seen)
    assert count >= 80
    monkeypatch.setattr(prepared, "stream", lambda *args, **kwargs: pytest.fail("decoded again"))
    second = run()
    assert sum(part.seen) - count <= 1  # a black picture, to know the shape
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.frozen["part"], second.frozen["part"])
    assert (first.sha256, first.unreadable) == (second.sha256, second.unreadable)


@pytest.mark.filterwarnings("ignore:Waiting for another training")
def test_trainings_that_share_a_cache_compute_once(run, part, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        found = [done.result() for done in [pool.submit(run) for _ in range(3)]]
    assert sum(part.seen) == 80 + 3  # each photograph and its mirror image once, and three times a black picture
    for other in found[1:]:
        np.testing.assert_array_equal(other.frozen["part"], found[0].frozen["part"])
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".npy", ".json"}


def test_waiting_is_told_once_and_only_where_there_is_something_to_wait_for(run, tmp_path, monkeypatch):
    run()
    [path] = (tmp_path / "cache").glob("part-*.npy")
    other, told = FileLock(path.with_suffix(".lock")), []
    with other:
        run()
    path.rename(tmp_path / "whole.npy")
    other.acquire()

    def warn(text, **_):
        told.append(text)
        (tmp_path / "whole.npy").rename(path)  # the other training is done
        other.release()

    monkeypatch.setattr(prepared.warnings, "warn", warn)
    monkeypatch.setattr(prepared, "_make", lambda *args: pytest.fail("made again"))
    run()
    assert told == [f"Waiting for another training, which makes {path}."]
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_a_file_system_without_locks(run, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr("memviz.training.prepared.FileLock.acquire", refuse)
    assert len(run().pixels) == 40


def arrays(folder):
    return {path.name for path in folder.glob("*.npy")}


def test_what_an_array_depends_on(table, run, part, tmp_path):
    run()
    [pixels], [outputs] = (list((tmp_path / "cache").glob(f"{what}-*.npy")) for what in ("pixels", "part"))
    made = {pixels.name, outputs.name}

    def new(**changes):
        run(**changes)
        added = arrays(tmp_path / "cache") - made
        made.update(added)
        return sorted(name.partition("-")[0] for name in added)

    assert new() == []
    assert new(inputs=prepared.replace(INPUTS, mean=(0.5, 0.5, 0.5))) == ["part"]
    assert new(inputs=prepared.replace(INPUTS, resize=20)) == ["part", "pixels"]
    assert new(frozen={"other": part}) == ["other"]
    part.norm.running_var += 1  # statistics are weights too
    assert new() == ["part"]
    assert new(table=table.iloc[::-1].reset_index(drop=True)) == ["part", "pixels"]
    os.utime(table["path"][0], ns=(1, 1))
    assert new() == ["part", "pixels"]
    shutil.copy(table["path"][1], table["path"][0])
    assert new() == ["part", "pixels"]


def test_photographs_elsewhere_are_the_same(table, run, tmp_path):
    run()
    made = arrays(tmp_path / "cache")
    shutil.copytree(tmp_path / "photos", tmp_path / "moved", copy_function=shutil.copy2)
    run(table=read_csv(tmp_path / "moved" / "bright.csv"))
    assert arrays(tmp_path / "cache") == made


@pytest.mark.parametrize("saved", [1, 3, 1000])
def test_an_interrupted_pass_goes_on(run, part, tmp_path, monkeypatch, saved):
    whole = run(folder=tmp_path / "whole")
    monkeypatch.setattr(prepared, "SAVE_EVERY", saved)
    part.seen.clear()
    monkeypatch.setattr(Counting, "fail_at", 41)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not list((tmp_path / "cache").glob("part-*.npy"))
    monkeypatch.setattr(Counting, "fail_at", None)
    part.seen.clear()
    found = run()
    assert sum(part.seen) == 1 + 40  # two for each of the twenty that were left
    np.testing.assert_array_equal(found.frozen["part"], whole.frozen["part"])
    assert not list((tmp_path / "cache").glob("*.partial*"))


@pytest.mark.parametrize("killed_before", ["the array is renamed", "the notes are written"])
def test_killed_at_the_end(run, tmp_path, killed_before):
    whole = run()
    cache = tmp_path / "cache"
    for array in list(cache.glob("*.npy")):
        facts = array.with_suffix(".json")
        (cache / f"{array.name}.partial.json").write_text(facts.read_text())
        array.rename(cache / f"{array.name}.partial")
        if killed_before == "the notes are written":
            facts.unlink()
    found = run()
    np.testing.assert_array_equal(found.frozen["part"], whole.frozen["part"])
    assert found.sha256 == whole.sha256


def test_unreadable_files_are_named_and_left_out(table, run, part):
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
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}


@pytest.mark.parametrize("damage", ["cut", "header", "shape", "notes", "no facts", "few facts"])
def test_damaged_arrays(run, tmp_path, damage):
    run()
    [path] = (tmp_path / "cache").glob("pixels-*.npy")
    named = spoil(path, path.with_suffix(".json"), damage)
    with pytest.raises(StoreError, match=rf"{named.name}.*Delete"):
        run()


@pytest.mark.parametrize("damage", ["cut", "header", "shape", "notes", "no facts"])
def test_damaged_arrays_that_were_not_complete(run, part, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(Counting, "fail_at", 41)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(Counting, "fail_at", None)
    [path] = (tmp_path / "cache").glob("part-*.npy.partial")
    named = spoil(path, path.with_name(f"{path.name}.json"), damage)
    with pytest.raises(StoreError, match=rf"{named.name}.*Delete"):
        run()


def spoil(path, notes, damage):
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "header":
        path.write_bytes(b"nothing" + path.read_bytes()[7:])
    elif damage == "shape":
        with path.open("wb") as file:
            np.save(file, np.zeros((3, 2), np.uint8))
    else:
        notes.write_text({"notes": "{", "no facts": "{}", "few facts": '{"facts": [""]}'}[damage])
        return notes
    return path


def test_a_part_that_gives_no_tensor(run):
    class Two(nn.Module):
        def forward(self, pictures):
            return {"out": pictures}

    with pytest.raises(TrainingError, match="part gives a dict"):
        run(frozen={"part": Two()})
