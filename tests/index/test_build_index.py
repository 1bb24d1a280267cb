import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from indexes import save_often as save_often

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.index import Index, build, build_index, load_index, rows
from memviz.index.photographs import Photographs
from memviz.models import InputSpec, ScoreSpec, wrap


def test_watches_convolutions_and_blocks_and_says_where_it_comes_from(model, photos, tmp_path):
    index = build_index(model, photos, out=tmp_path / "index", k=4, batch_size=4)
    assert [layer.address for layer in index.layers] == ["first", "block.conv", "block"]
    about = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert (about["kind"], about["format"]) == ("memviz-index", 2)
    assert (about["model"], about["weights"], about["config"]["k"]) == ("tiny", model.fingerprint(), 4)
    assert about["config"]["target"] == "memorability"
    assert about["result"] == {"photographs": 20, "unreadable": 0, "copies": 1, "root": str(photos)}
    assert InputSpec.from_dict(about["inputs"]) == model.inputs
    assert {"created", "versions", "platform"} <= about.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "photos"]


def test_batch_size_and_workers_change_nothing(model, photos, tmp_path):
    one = build_index(model, photos, out=tmp_path / "one", k=30, batch_size=1, workers=1)
    two = build_index(model, photos, out=tmp_path / "two", k=30, batch_size=13, workers=3)
    for unit in range(7):
        for side in ("top", "bottom"):
            first, second = (getattr(index.layer("block"), side)(unit) for index in (one, two))
            np.testing.assert_allclose(first["value"], second["value"], rtol=1e-5)
            assert set(first["image"]) == set(second["image"]) == set(range(20))


def test_of_ten_crops_the_centre_is_ranked_and_all_are_scored(model, photos, tmp_path):
    model.inputs = InputSpec(size=(24, 24), resize=(28, 28))
    centre = build_index(model, photos, out=tmp_path / "centre", k=4)
    model.inputs = InputSpec(size=(24, 24), resize=(28, 28), crops="ten")
    model.score_spec = ScoreSpec(mean=0.4, scale=3.0, shift=0.2, clip=(0.0, 1.0))
    ten = build_index(model, photos, out=tmp_path / "ten", k=4, batch_size=5)
    for unit in range(7):
        one, two = (index.layer("block").top(unit)[["image", "y", "x"]] for index in (centre, ten))
        assert one.equals(two)
    scores = model.score(photos)["memorability"].tolist()
    assert ten.images["prediction"].tolist() == pytest.approx(scores, abs=1e-6)
    assert ten.inputs == model.inputs
    assert ScoreSpec.from_dict(ten.config.score_spec) == model.score_spec


def test_layers_by_ordinal_or_layer_in_executed_order(model, photos, tmp_path):
    index = build_index(model, photos, out=tmp_path / "index", layers=["@2", model.layers["first"], "score"], k=2)
    assert [layer.address for layer in index.layers] == ["first", "block.conv", "score"]
    assert set(index.top("score:0")["y"]) == {0}
    assert build_index(model, photos, out=tmp_path / "one", layers="first").layers[0].address == "first"


def test_complete_index_is_returned_at_once(model, photos, tmp_path, monkeypatch):
    build_index(model, photos, out=tmp_path / "index", k=4)
    monkeypatch.setattr(build, "work", None)
    assert build_index(model, photos, out=tmp_path / "index", k=4).config.k == 4


def test_unreadable_photographs_are_named_and_left_out(model, photos, tmp_path):
    (photos / "03.png").write_text("no picture")
    (photos / "broken.png").symlink_to(photos / "nowhere.png")
    with pytest.warns(UserWarning, match=r"2 of 22 photographs cannot be read.*03\.png"):
        index = build_index(model, photos, out=tmp_path / "index", k=30, batch_size=4)
    errors = index.images.set_index("path")["error"].dropna()
    assert sorted(errors.index) == ["03.png", "broken.png"]
    assert index.result.unreadable == 2
    assert len(index.top("first:0")) == 19
    assert not set(index.top("first:0")["path"]) & set(errors.index)
    assert index.images.set_index("path")["prediction"].isna().sum() == 2


def test_files_with_the_same_bytes_are_ranked_once_and_named(model, photos, tmp_path):
    (photos / "again.png").hardlink_to(photos / "04.png")
    index = build_index(model, photos, out=tmp_path / "index", k=30)
    copies = index.images.set_index("path")["copy_of"].dropna().to_dict()
    assert copies == {"again.png": "04.png", "deeper/20.png": "00.png"}
    assert index.result.copies == 2
    for side in (index.top("first:0"), index.bottom("first:0")):
        assert len(side) == len(set(side["path"])) == 20
        assert not set(side["path"]) & copies.keys()
    predictions = index.images.set_index("path")["prediction"]
    assert predictions["again.png"] == predictions["04.png"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_names_that_are_not_utf8_are_unreadable_from_the_beginning(model, photos, tmp_path):
    strange = os.fsencode(photos) + b"/caf\xe9.png"
    try:
        os.link(photos / "04.png", strange)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    index = build_index(model, photos, out=tmp_path / "index", k=3)
    errors = index.images.set_index("path")["error"].dropna()
    assert errors.to_dict() == {"caf\\xe9.png": "its name is not UTF-8: rename it"}


def test_only_unreadable_photographs_are_an_error(model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no picture")
    with pytest.raises(ImageError, match="None of the 1 photographs"):
        build_index(model, tmp_path / "photos", out=tmp_path / "index")
    assert not (tmp_path / "index.partial").exists()


def test_model_without_a_score_has_no_predictions(model, photos, tmp_path):
    plain = wrap(model.module.first, model.inputs, target=None)
    with pytest.raises(LayerError):  # the network itself is no layer of its own
        build_index(plain, photos, out=tmp_path / "index")
    plain = wrap(torch.nn.Sequential(model.module.first), model.inputs)
    index = build_index(plain, photos, out=tmp_path / "index", k=2)
    assert index.images["prediction"].isna().all()
    assert index.config.target is None


def test_a_default_device_changes_nothing(model, photos, tmp_path):
    plain = model.score(photos)["memorability"].tolist()
    with torch.device("meta"):
        index = build_index(model, photos, out=tmp_path / "index", k=2)
        assert model.score(photos)["memorability"].tolist() == plain
    assert index.images["prediction"].tolist() == pytest.approx(plain)


def test_several_sources_share_a_root(model, photos, tmp_path):
    index = build_index(model, [photos / "deeper", photos / "00.png"], out=tmp_path / "index", k=2)
    assert index.photos == photos
    assert index.images["path"].tolist()[0] == "deeper/02.png"
    assert index.images["path"].tolist()[-1] == "00.png"


def test_photographs_in_archives_are_indexed_and_found_again(model, photos, tmp_path):
    shards = [tmp_path / f"{number}.tar" for number in range(2)]
    for number, shard in enumerate(shards):
        with tarfile.open(shard, "w") as tar:
            for path in sorted(photos.rglob("*.png"))[number::2]:
                tar.add(path, path.relative_to(photos).as_posix())
    folder = build_index(model, photos, out=tmp_path / "folder", k=4)
    packed = build_index(model, shards, out=tmp_path / "packed", k=4)
    assert (packed.result.photographs, packed.result.copies, packed.photos) == (20, 1, tmp_path)
    for one, other in zip(folder.crops("block:3"), packed.crops("block:3"), strict=True):
        assert one.tobytes() == other.tobytes()
    assert {path.partition("/")[2] for path in packed.top("first:0")["path"]} == set(folder.top("first:0")["path"])
    scores = model.score(shards)
    assert sorted(scores["memorability"]) == pytest.approx(sorted(model.score(photos)["memorability"]), abs=1e-6)
    alone = build_index(model, shards[0], out=tmp_path / "alone", k=4)
    moved = shards[0].rename(tmp_path / "moved.tar")
    again = load_index(alone.path, photos=moved)
    assert len(again.crops("block:0")) == 4
    with pytest.raises(StoreError, match="cannot be read any more"):
        alone.crops("block:0")
    with moved.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(StoreError, match="truncated or damaged"):
        again.crops("block:0")


@pytest.mark.filterwarnings("ignore:1 of 21 photographs:UserWarning")
def test_a_photograph_that_vanishes_during_the_pass_is_left_out(model, photos, tmp_path, monkeypatch):
    contents = Photographs.contents

    def vanishes(found, *arguments):
        hashes = contents(found, *arguments)
        (photos / "04.png").unlink()
        return hashes

    monkeypatch.setattr(Photographs, "contents", vanishes)
    index = build_index(model, photos, out=tmp_path / "index", k=3)
    errors = index.images.set_index("path")["error"].dropna()
    assert errors.to_dict() == {"04.png": "No such file or directory"}


def test_rows_of_photographs_are_written_in_parts(model, photos, tmp_path, monkeypatch):
    whole = build_index(model, photos, out=tmp_path / "whole", k=3).images
    monkeypatch.setattr(rows, "PART", 4)
    parts = build_index(model, photos, out=tmp_path / "parts", k=3).images
    assert parts.equals(whole)
    assert pq.ParquetFile(tmp_path / "parts/images.parquet").num_row_groups == 6


def test_bad_requests_say_what_is_valid(model, photos, tmp_path):
    with pytest.raises(LayerError, match="first"):
        build_index(model, photos, out=tmp_path / "index", layers=["frist"])
    with pytest.raises(LayerError, match="none were given"):
        build_index(model, photos, out=tmp_path / "index", layers=[])
    with pytest.raises(StoreError, match="1 or more"):
        build_index(model, photos, out=tmp_path / "index", k=0)
    with pytest.raises(ImageError, match="batch_size"):
        build_index(model, photos, out=tmp_path / "index", batch_size=0)
    with pytest.raises(StoreError, match="is not an index"):
        build_index(model, photos, out=photos)
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="holds thesis"):
        build_index(model, photos, out=tmp_path / "other")


def test_model_with_broken_weights_leaves_no_index(model, photos, tmp_path):
    with torch.no_grad():
        model.module.first.weight[2] = torch.inf
    with pytest.raises(ModelError, match="first:2"):
        build_index(model, photos, out=tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_public_names():
    assert (memviz.build_index, memviz.load_index) == (build_index, load_index)
    assert memviz.Index is Index


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_photograph_that_is_changed_between_its_hash_and_its_decoding_is_not_ranked(
    model, photos, tmp_path, monkeypatch
):
    contents = Photographs.contents

    def changes(found, *arguments):
        hashes = contents(found, *arguments)
        shutil.copy(photos / "03.png", photos / "04.png")
        return hashes

    monkeypatch.setattr(Photographs, "contents", changes)
    index = build_index(model, photos, out=tmp_path / "index", k=3)
    errors = index.images.set_index("path")["error"].dropna()
    assert errors.to_dict() == {"04.png": "its contents were changed meanwhile"}
