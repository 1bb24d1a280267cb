import json
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from memviz.errors import LayerError, StoreError
from memviz.images import open_image
from memviz.index import build_index, load_index
from memviz.index.crops import crop, seen_box
from memviz.index.store import read_rows, write_tables
from memviz.index.topk import TopK
from memviz.layers import Layer, capture
from memviz.layers.unit import Unit


@pytest.fixture
def index(model, photos, tmp_path):
    return build_index(model, photos, out=tmp_path / "index", layers=["first", "block", "score"], k=5, batch_size=8)


def test_top_and_bottom_are_the_two_ends(index):
    top, bottom = index.top("@1:3"), index.bottom("first:3", k=2)
    assert list(top.columns) == ["rank", "value", "image", "path", "y", "x", "prediction"]
    assert top["rank"].tolist() == [0, 1, 2, 3, 4]
    assert bottom["rank"].tolist() == [0, 1]
    assert top["value"].is_monotonic_decreasing
    assert bottom["value"].is_monotonic_increasing
    assert bottom["value"].max() <= top["value"].min()
    assert top["path"].tolist() == index.images["path"][top["image"]].tolist()
    assert top["prediction"].tolist() == index.images["prediction"][top["image"]].tolist()
    assert len(index.top("first:3", k=100)) == 5


def test_positions_are_where_the_map_has_its_maximum(index, model, photos):
    for row in index.top("first:2").itertuples():
        picture = model.inputs.from_pil(open_image(photos / row.path))[None]
        with capture(model.module, ["first"]) as activations:
            model(picture)
        assert activations["first"][0, 2, row.y, row.x].item() == pytest.approx(row.value, rel=1e-5)
        interior = index.layers["first"].interior(model.inputs.size)
        assert activations["first"][0, 2, *interior].max().item() == pytest.approx(row.value, rel=1e-5)


def test_stats_summarise_all_photographs(index):
    stats = index.stats("block")
    assert list(stats.columns) == ["channel", "mean", "std", "peak"]
    assert stats["channel"].tolist() == list(range(7))
    assert stats["peak"].tolist() == [index.layer("block").top(unit, k=1)["value"].item() for unit in range(7)]
    assert (stats["mean"] < stats["peak"]).all()
    assert (stats["std"] > 0).all()


def test_crops_show_what_the_unit_saw(index, model, photos):
    crops = index.crops("first:1", k=3, size=40)
    assert [each.size for each in crops] == [(40, 40)] * 3
    best = index.top("first:1", k=1).iloc[0]
    box = seen_box(model.layers["first"], best["y"], best["x"], model.inputs.size)
    expected = crop(Image.open(photos / best["path"]), box, model.inputs, 40)
    np.testing.assert_array_equal(np.asarray(crops[0]), np.asarray(expected))
    assert len(index.crops("score:0")) == 5
    whole = index.crops("score:0", k=1, size=40, lowest=True)[0]
    photo = Image.open(photos / index.bottom("score:0", k=1)["path"].item())
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(crop(photo, (0, 0, 24, 24), model.inputs, 40)))


def test_unknown_layers_and_units_say_what_is_valid(index):
    with pytest.raises(LayerError, match="first"):
        index.top("frist:0")
    with pytest.raises(LayerError, match="units 0 to 6"):
        index.bottom("first:7")
    with pytest.raises(LayerError, match="write a unit as"):
        index.crops("first:-1")
    with pytest.raises(LayerError, match=r"1\.5 is no channel"):
        index.layer("first").top(1.5)
    with pytest.raises(StoreError, match=r"k=1\.5 is no number of photographs"):
        index.top("first:0", k=1.5)
    with pytest.raises(LayerError):
        index.stats("block.conv")  # a layer of the model, but not watched
    with pytest.raises(StoreError, match="1 or more"):
        index.top("first:0", k=0)


def test_crops_that_fill_the_memory_are_refused(index):
    with pytest.raises(StoreError, match="size=1000000 is too large for a crop: give 4096 pixels at most"):
        index.crops("first:1", k=1, size=10**6)


def test_missing_photograph_is_named(index, photos):
    path = index.top("first:0", k=1)["path"].item()
    (photos / path).unlink()
    with pytest.raises(StoreError, match=path.split("/")[-1]):
        index.crops("first:0")


def test_other_weights_are_refused(index, model):
    index.check_model(model)
    model.module.first.bias.data += 1
    with pytest.raises(StoreError, match="other weights"):
        index.check_model(model)


def test_missing_index(tmp_path):
    with pytest.raises(StoreError, match=r"There is no index in .*Build it"):
        load_index(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["images.parquet", "top.parquet", "stats.parquet"])
def test_missing_and_damaged_files_are_named(index, name):
    path = index.path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        load_index(index.path)
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(StoreError, match=f"{name} has no column"):
        load_index(index.path)
    path.unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        load_index(index.path)


def test_lost_rows_are_noticed(index):
    table = pd.read_parquet(index.path / "top.parquet")
    table[table["rank"] < 4].to_parquet(index.path / "top.parquet")
    with pytest.raises(StoreError, match=r"rows of first in .* are damaged"):
        index.top("first:0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "memviz-renders"}, "not a 'memviz-index'"),
        ({"format": 1}, "format 1"),
        ({"config": {"layers": [{"address": "first"}]}}, "damaged"),
        ({"config": {"k": None}}, "damaged"),
        ({"inputs": {"side": 3}}, "damaged"),
        ({"inputs": None}, "damaged"),
        ({"result": {}}, "damaged"),
        ({"result": {"photographs": 0, "unreadable": 0, "copies": 0, "root": "/"}}, "damaged"),
    ],
)
def test_manifests_that_are_none(index, change, said):
    path = index.path / "manifest.json"
    content = json.loads(path.read_text())
    if "config" in change:
        change = {"config": content["config"] | change["config"]}
    path.write_text(json.dumps(content | change))
    with pytest.raises(StoreError, match=said):
        load_index(index.path)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("layer", {"channels": 10**9}),
        ("layer", {"stride": [1e308, 1e308]}),
        ("layer", {"receptive_field": [-5, 0]}),
        ("layer", {"address": "../first"}),
        ("config", {"k": 10**9}),
        ("result", {"photographs": 10**10}),
        ("result", {"root": "/\0"}),
    ],
)
def test_manifests_that_ask_for_too_much(index, place, change):
    path = index.path / "manifest.json"
    content = json.loads(path.read_text())
    (content["config"]["layers"][0] if place == "layer" else content[place]).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError):
        load_index(index.path).top("first:0")


def test_types_on_disk(index):
    types = {name: str(dtype) for name, dtype in pd.read_parquet(index.path / "top.parquet").dtypes.items()}
    assert types == {
        "address": "category", "channel": "int32", "side": "category", "rank": "int16",
        "value": "float32", "image": "int32", "y": "int32", "x": "int32",
    }  # fmt: skip


def test_reads_one_layer_of_many(tmp_path, monkeypatch):
    layers = [Layer(f"layer{n}", "Conv2d", 4, 2, 2, None, None, None, None, False) for n in range(5)]
    state = TopK(20, 3)
    state.update(torch.rand(3, 20), torch.zeros(3, 20, dtype=torch.int32), torch.arange(3))
    write_tables(tmp_path, [], layers, state)
    read = []
    original = pq.ParquetFile.read_row_groups

    def spy(file, groups, **options):
        read.extend(groups)
        return original(file, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    rows = read_rows(tmp_path / "top.parquet", 120, "layer3")
    assert read == [3]
    assert (len(rows["address"]), set(rows["address"])) == (4 * 2 * 3, {"layer3"})


def test_a_layer_is_read_once_for_all_its_units(index, monkeypatch):
    read = []
    original = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda file, groups, **options: read.append(groups) or original(file, groups, **options),
    )
    layer = index.layer("@1")
    for channel in range(7):
        assert layer.top(channel).equals(index.top(f"first:{channel}"))
        assert layer.bottom(channel, 2).equals(index.bottom(Unit("first", channel), 2))
    assert len(read) == 3  # the layer's rows of both files, and the photographs


@pytest.mark.parametrize("change", ["replaced", "touched"])
def test_a_photograph_that_was_replaced_is_refused(index, photos, change):
    path = photos / index.top("first:0", k=1)["path"].item()
    if change == "touched":
        os.utime(path, (0, 0))  # the same bytes: nothing is refused
        assert len(index.crops("first:0", k=1)) == 1
        return
    before = path.stat()
    picture = np.asarray(Image.open(path)).copy()
    picture[0, 0] ^= 1
    Image.fromarray(picture).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreError, match=rf"{path.name} is not the photograph .* changed or replaced"):
        index.crops("first:0", k=1)


def test_photographs_that_moved(index, photos, tmp_path):
    moved = tmp_path / "elsewhere"
    photos.rename(moved)
    with pytest.raises(StoreError, match=r"load_index\(folder, photos=\.\.\.\)"):
        index.crops("first:0", k=1)
    assert len(load_index(index.path, photos=moved).crops("first:0", k=2)) == 2
    with pytest.raises(StoreError, match="There is no folder"):
        load_index(index.path, photos=photos)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.png", "deeper/../../secret.png", ""])
def test_names_of_photographs_stay_below_the_root(index, name):
    table = pd.read_parquet(index.path / "images.parquet")
    table.loc[0, "path"] = name
    table.to_parquet(index.path / "images.parquet")
    with pytest.raises(StoreError, match="names a photograph"):
        load_index(index.path).top("first:0")


@pytest.mark.parametrize(("column", "value"), [("image", 99), ("y", 10_000), ("x", -1), ("rank", 3), ("value", np.nan)])
def test_rows_that_cannot_be_are_noticed(index, column, value):
    table = pd.read_parquet(index.path / "top.parquet")
    table[column] = table[column].astype(table[column].dtype).where(table.index != 0, value)
    table.to_parquet(index.path / "top.parquet")
    with pytest.raises(StoreError, match="damaged"):
        load_index(index.path).top("first:0")


def test_a_file_of_too_many_rows_is_not_read(index):
    table = pd.read_parquet(index.path / "top.parquet")
    pd.concat([table] * 3).to_parquet(index.path / "top.parquet")
    with pytest.raises(StoreError, match=r"rows; .* belong to it"):
        load_index(index.path).top("first:0")


def test_queries_keep_nothing(index):
    import gc
    import tracemalloc

    def ask():
        for _ in range(20):
            for address in ("first", "block", "score"):
                index.layer(address).top(0)
                index.crops(f"{address}:0", k=2)
        gc.collect()

    ask()
    tracemalloc.start()
    try:
        ask()
        before = tracemalloc.get_traced_memory()[0]
        ask()
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
