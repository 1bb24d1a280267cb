import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from memviz.errors import StoreError
from memviz.rendering import load_renders
from memviz.rendering.store import MANIFEST, open_renders, to_pil

HEADER = {"model": "small", "weights": "a" * 64, "config": {"size": 16, "steps": 3}, "seed": 0}
RECORD = {"activation": 0.5, "peak": 1.0, "steps": 3, "seed": 0, "state": "ok"}


@pytest.fixture
def layer(small):
    return small.layers["body.3"]


@pytest.fixture
def saved(tmp_path, layer):
    """Two pictures, the second unit dead."""
    saved = open_renders(tmp_path / "renders", HEADER, layer)
    saved.add(3, torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), RECORD)
    saved.add(1, torch.full((3, 16, 16), 0.5), RECORD | {"state": "dead"})
    saved.save()
    return saved


def edit(folder, change):
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_opening_makes_nothing(tmp_path, layer):
    saved = open_renders(tmp_path / "a" / "b", HEADER, layer)
    assert saved.units == {}
    assert not (tmp_path / "a").exists()


def test_what_is_saved_comes_back(saved, layer):
    loaded = load_renders(saved.folder)
    assert loaded.layer == layer
    assert loaded.units == {1: RECORD | {"state": "dead"}, 3: RECORD | {"file": "unit-0003.png"}}
    assert loaded.path(3) == saved.folder / "unit-0003.png"
    assert loaded.path(1) is loaded.path(7) is None
    assert loaded.picture(1) is loaded.picture(7) is None
    assert sorted(path.name for path in saved.folder.iterdir()) == [MANIFEST, "unit-0003.png"]


def test_the_manifest_says_where_they_come_from(saved):
    manifest = json.loads((saved.folder / MANIFEST).read_text())
    assert manifest.items() >= HEADER.items()
    assert manifest["kind"] == "memviz-renders"
    assert manifest["format"] == 1
    assert manifest["layer"]["address"] == "body.3"
    assert list(manifest["units"]) == ["1", "3"]
    assert manifest["versions"].keys() >= {"memviz", "torch", "python"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest["created"])


def test_a_picture_says_where_it_comes_from(saved):
    with Image.open(saved.path(3)) as image:
        assert image.text == {
            "memviz:model": "small", "memviz:weights": "a" * 64, "memviz:unit": "body.3:3",
        }  # fmt: skip
        assert image.mode == "RGB"


def test_8_bits_are_rounded_to_nearest():
    values = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 1.49 / 255, 254.6 / 255, 1.0, -0.2, 1.7])
    image = to_pil(values.expand(3, 2, 8))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 1, 255, 255, 0, 255]
    every = torch.arange(256) / 255
    assert np.asarray(to_pil(every.expand(3, 1, 256)))[0, :, 1].tolist() == list(range(256))


def test_colours_and_sides_stay_apart():
    picture = torch.zeros(3, 4, 6)
    picture[0, 0], picture[1, :, 5], picture[2, 3, 0] = 1, 1, 1
    array = np.asarray(to_pil(picture))
    assert array.shape == (4, 6, 3)
    np.testing.assert_array_equal(array.transpose(2, 0, 1), picture.numpy() * 255)


def test_opening_again_goes_on(saved, layer):
    again = open_renders(saved.folder, HEADER, layer)
    assert again.units == saved.units
    again.add(0, torch.zeros(3, 16, 16), RECORD)
    again.save()
    assert sorted(load_renders(saved.folder).units) == [0, 1, 3]


def test_a_picture_counts_once_the_manifest_names_it(saved):
    saved.add(2, torch.zeros(3, 16, 16), RECORD)
    assert (saved.folder / "unit-0002.png").exists()
    assert sorted(load_renders(saved.folder).units) == [1, 3]


def test_a_unit_whose_picture_is_gone_is_not_done(saved):
    saved.path(3).unlink()
    assert sorted(load_renders(saved.folder).units) == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, r"another model: 'small' there, 'other' now"),
        ({"weights": "b" * 64}, r"another weights: 'aaa.*bbb"),
        ({"seed": 1}, r"another seed: 0 there, 1 now"),
        ({"config": {"size": 32, "steps": 3}}, r"another config: size 16 there, 32 now\. Choose another folder"),
        ({"config": {"size": 16, "steps": 3, "new": 1}}, r"another config: new None there, 1 now"),
    ],
)
def test_other_weights_or_settings_are_refused(saved, layer, change, message):
    before = (saved.folder / MANIFEST).read_bytes()
    with pytest.raises(StoreError, match=message):
        open_renders(saved.folder, HEADER | change, layer)
    assert (saved.folder / MANIFEST).read_bytes() == before


def test_another_layer_is_refused(saved, layer, tmp_path):
    moved = shutil.copytree(saved.folder, tmp_path / "moved")
    with pytest.raises(StoreError, match=r"pictures of body\.3, not of stem\.0"):
        open_renders(moved, HEADER, replace(layer, address="stem.0"))


@pytest.mark.parametrize("place", ["renders", "renders/body.3", "renders/deep/er"])
def test_a_file_where_a_folder_should_be(tmp_path, layer, place):
    (tmp_path / "renders").write_text("a file")
    with pytest.raises(StoreError, match=r"renders is a file.*Choose another folder"):
        open_renders(tmp_path / place, HEADER, layer)


def test_no_manifest(tmp_path):
    with pytest.raises(StoreError, match=r"manifest\.json does not exist"):
        load_renders(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "memviz-renders", "format"', b"\xff\xfe\x00", b"\x89PNG"])
def test_a_damaged_manifest(saved, layer, content):
    (saved.folder / MANIFEST).write_bytes(content)
    for opening in (lambda: load_renders(saved.folder), lambda: open_renders(saved.folder, HEADER, layer)):
        with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
            opening()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("units"),
        lambda m: m.update(units=[]),
        lambda m: m.update(units={"three": RECORD}),
        lambda m: m["units"].update({"5": None}),
        lambda m: m["units"].update({"5": {}}),
        lambda m: m["units"]["3"].pop("state"),
        lambda m: m.pop("layer"),
        lambda m: m["layer"].pop("address"),
        lambda m: m["layer"].update(unknown=1),
        lambda m: m.update(layer="body.3"),
    ],
)
def test_a_manifest_that_lacks_something(saved, change):
    edit(saved.folder, change)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged.*render again"):
        load_renders(saved.folder)


@pytest.mark.parametrize("change", [{"kind": "memviz-index"}, {"format": 2}])
def test_a_manifest_of_something_else(saved, change):
    edit(saved.folder, lambda m: m.update(change))
    with pytest.raises(StoreError, match="not a manifest of memviz renders of format 1"):
        load_renders(saved.folder)
    (saved.folder / MANIFEST).write_text("[1, 2]")
    with pytest.raises(StoreError, match="not a manifest"):
        load_renders(saved.folder)


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_a_damaged_picture(saved, keep):
    saved.path(3).write_bytes(saved.path(3).read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"unit-0003\.png is damaged"):
        load_renders(saved.folder).picture(3)


def test_a_failed_write_leaves_the_old_picture_and_no_rest(saved, monkeypatch):
    before = saved.path(3).read_bytes()

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        saved.add(3, torch.zeros(3, 16, 16), RECORD)
    assert saved.path(3).read_bytes() == before
    assert sorted(path.name for path in saved.folder.iterdir()) == [MANIFEST, "unit-0003.png"]
