import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from memviz.artefacts import MANIFEST, SHARDS, claim
from memviz.errors import StoreError
from memviz.rendering import RenderJob, load_renders
from memviz.rendering.engine import RenderResult
from memviz.rendering.measure import to_pil
from memviz.rendering.record import RenderRecord
from memviz.rendering.store import CONTACT_SHEET, RECORDS

RECORD = RenderRecord("excitation(body.3:3)", 3, 0.4, 0.5, 1.0, (2, 1), 3, 0, "ok")


def result(record=RECORD, seed=0):
    picture = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return RenderResult(picture, record)


@pytest.fixture
def saved(tmp_path, small):
    """Two pictures, the second unit dead."""
    folder = tmp_path / "renders"
    job = RenderJob("body.3", (1, 3))
    claim(folder, job.manifest("small", "a" * 64, small.layers["body.3"], small.inputs))
    opened = load_renders(folder)
    dead = replace(RECORD, unit=1, objective="excitation(body.3:1)", state="dead")
    opened.add([result(), result(dead)], ["body.3-0003.png", "body.3-0001.png"])
    return load_renders(folder)


def test_what_is_saved_comes_back(saved):
    assert [record.unit for record in saved.records] == [1, 3]
    assert saved.units[3] == replace(RECORD, file="body.3-0003.png")
    assert saved.path(saved.units[3]) == saved.folder / "body.3-0003.png"
    np.testing.assert_array_equal(np.asarray(saved.picture(saved.units[3])), np.asarray(to_pil(result().picture)))
    assert saved.path(saved.units[1]) is saved.picture(saved.units[1]) is None
    grey, shown = saved.images([saved.units[1], saved.units[3]], (16, 16))
    assert (grey == 128 / 255).all()
    assert torch.equal(shown, result().picture / 255)


def test_a_picture_says_where_it_comes_from(saved):
    with Image.open(saved.folder / "body.3-0003.png") as image:
        assert image.text == {
            "memviz:model": "small", "memviz:weights": "a" * 64, "memviz:objective": "excitation(body.3:3)",
        }  # fmt: skip
        assert image.mode == "RGB"


def test_colours_and_sides_stay_apart():
    picture = torch.zeros(3, 4, 6, dtype=torch.uint8)
    picture[0, 0], picture[1, :, 5], picture[2, 3, 0] = 255, 255, 255
    np.testing.assert_array_equal(np.asarray(to_pil(picture)).transpose(2, 0, 1), picture.numpy())


def test_shards_are_merged_once_and_the_sheet_is_drawn(saved):
    records = saved.records
    assert len(list((saved.folder / SHARDS).iterdir())) == 1
    assert saved.merge("a title").records == records
    assert not (saved.folder / SHARDS).exists() or not list((saved.folder / SHARDS).iterdir())
    assert (saved.folder / CONTACT_SHEET).is_file()
    stamps = {path: path.stat().st_mtime_ns for path in saved.folder.iterdir()}
    assert load_renders(saved.folder).merge("a title").records == records
    assert {path: path.stat().st_mtime_ns for path in saved.folder.iterdir()} == stamps


@pytest.mark.parametrize("merged", [True, False])
def test_what_is_there_is_not_written_again(saved, merged):
    if merged:
        saved.merge()
    before = (saved.folder / "body.3-0003.png").read_bytes()
    saved.add([result(seed=1)], ["body.3-0003.png"])
    assert (saved.folder / "body.3-0003.png").read_bytes() == before
    assert load_renders(saved.folder).units == saved.units


def test_a_unit_whose_picture_is_gone_is_not_done(saved):
    (saved.folder / "body.3-0003.png").unlink()
    assert sorted(load_renders(saved.folder).units) == [1]


@pytest.mark.parametrize("file", ["/etc/hostname", "../secret.png", "a/../../secret.png", "", "link.png", None])
@pytest.mark.parametrize("merged", [True, False])
def test_names_that_lead_out_of_the_folder_are_refused(saved, tmp_path, file, merged):
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (saved.folder / "link.png").symlink_to(tmp_path / "secret.png")
    if merged:
        saved.merge()
    path = saved.folder / RECORDS if merged else next((saved.folder / SHARDS).iterdir())
    content = json.loads(path.read_text())
    content[0]["file"] = file
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError):
        load_renders(saved.folder)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"{}", b"[1]", b"[{}]", b"\xff\xfe", b"[" * 100_000, b'[{"objective": ' + b"9" * 10_000 + b"}]",
    ],
)  # fmt: skip
def test_damaged_records(saved, content):
    saved.merge()
    (saved.folder / RECORDS).write_bytes(content)
    with pytest.raises(StoreError, match=r"records\.json is damaged"):
        load_renders(saved.folder)


@pytest.mark.parametrize("change", [{"state": "fine"}, {"unit": "three"}, {"peak": "high"}, {"position": [1]}])
def test_records_of_other_types(saved, change):
    saved.merge()
    content = json.loads((saved.folder / RECORDS).read_text())
    content[0] |= change
    (saved.folder / RECORDS).write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"records\.json is damaged"):
        load_renders(saved.folder)


def test_no_manifest(tmp_path):
    with pytest.raises(StoreError, match=r"manifest\.json does not exist"):
        load_renders(tmp_path)


@pytest.mark.parametrize("change", [{"kind": "memviz-index"}, {"format": 1}])
def test_a_manifest_of_something_else(saved, change):
    path = saved.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match="memviz-renders"):
        load_renders(saved.folder)


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_a_damaged_picture(saved, keep):
    path = saved.folder / "body.3-0003.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"body\.3-0003\.png is damaged"):
        saved.picture(saved.units[3])


@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n(%pipe%touch /tmp/owned) (w) file\n", b"BM" + b"\0" * 60],
)
def test_a_picture_is_a_png_and_nothing_that_another_plugin_reads(saved, content):
    (saved.folder / "body.3-0003.png").write_bytes(content)
    with pytest.raises(StoreError, match=r"body\.3-0003\.png is damaged"):
        saved.picture(saved.units[3])


def test_a_picture_that_is_a_bomb(saved):
    Image.new("1", (20_000, 3)).save(saved.folder / "body.3-0003.png")
    with pytest.raises(StoreError, match="20000x3 px, which no render is"):
        saved.picture(saved.units[3])


def test_a_failed_write_leaves_no_record_and_no_rest(saved, monkeypatch):
    before = sorted(path.name for path in saved.folder.rglob("*"))

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        saved.add([result(replace(RECORD, unit=0))], ["body.3-0000.png"])
    assert sorted(path.name for path in saved.folder.rglob("*")) == before
    assert load_renders(saved.folder).units == saved.units
