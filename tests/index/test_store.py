import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from memviz.errors import LayerError, StoreError
from memviz.images import open_image
from memviz.index import build_index, load_index, store
from memviz.index.crops import crop, seen_box
from memviz.index.store import write_index
from memviz.index.topk import TopK
from memviz.layers import Layer, capture


@pytest.fixture
def index(model, photos, tmp_path):
    return build_index(model, photos, out=tmp_path / "index", layers=["first", "block", "score"], k=5, batch_size=8)


def test_top_and_bottom_are_the_two_ends(index):
    top, bottom = index.top("@1", 3), index.bottom("first", 3, k=2)
    assert list(top.columns) == ["rank", "value", "image", "path", "y", "x", "prediction"]
    assert top["rank"].tolist() == [0, 1, 2, 3, 4]
    assert bottom["rank"].tolist() == [0, 1]
    assert top["value"].is_monotonic_decreasing
    assert bottom["value"].is_monotonic_increasing
    assert bottom["value"].max() <= top["value"].min()
    assert top["path"].tolist() == index.images["path"][top["image"]].tolist()
    assert top["prediction"].tolist() == index.images["prediction"][top["image"]].tolist()
    assert len(index.top("first", 3, k=100)) == 5


def test_positions_are_where_the_map_has_its_maximum(index, model, photos):
    for row in index.top("first", 2).itertuples():
        picture = model.inputs.from_pil(open_image(photos / row.path))[None]
        with capture(model.module, ["first"]) as activations:
            model(picture)
        assert activations["first"][0, 2, row.y, row.x].item() == pytest.approx(row.value, rel=1e-5)
        assert activations["first"][0, 2].max().item() == pytest.approx(row.value, rel=1e-5)


def test_stats_summarise_all_photographs(index):
    stats = index.stats("block")
    assert list(stats.columns) == ["unit", "mean", "std", "peak"]
    assert stats["unit"].tolist() == list(range(7))
    assert stats["peak"].tolist() == [index.top("block", unit, k=1)["value"].item() for unit in range(7)]
    assert (stats["mean"] < stats["peak"]).all()
    assert (stats["std"] > 0).all()


def test_crops_show_what_the_unit_saw(index, model, photos):
    crops = index.crops("first", 1, k=3, size=40)
    assert [each.size for each in crops] == [(40, 40)] * 3
    best = index.top("first", 1, k=1).iloc[0]
    box = seen_box(model.layers["first"], best["y"], best["x"], model.inputs.size)
    expected = crop(Image.open(photos / best["path"]), box, model.inputs, 40)
    np.testing.assert_array_equal(np.asarray(crops[0]), np.asarray(expected))
    assert len(index.crops("score", 0)) == 5
    whole = index.crops("score", 0, k=1, size=40, lowest=True)[0]
    photo = Image.open(photos / index.bottom("score", 0, k=1)["path"].item())
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(crop(photo, (0, 0, 24, 24), model.inputs, 40)))


def test_unknown_layers_and_units_say_what_is_valid(index):
    with pytest.raises(LayerError, match="first"):
        index.top("frist", 0)
    with pytest.raises(LayerError, match="its units are 0 to 6"):
        index.bottom("first", 7)
    with pytest.raises(LayerError, match="0 to 6"):
        index.crops("first", -1)
    with pytest.raises(LayerError):
        index.stats("block.conv")  # a layer of the model, but not watched
    with pytest.raises(StoreError, match="1 or more"):
        index.top("first", 0, k=0)


def test_missing_photograph_is_named(index, photos):
    path = index.top("first", 0, k=1)["path"].item()
    (photos / path).unlink()
    with pytest.raises(StoreError, match=path.split("/")[-1]):
        index.crops("first", 0)


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
    with pytest.raises(StoreError, match="lacks rows of first:0"):
        index.top("first", 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "memviz-renders"}, "not an index"),
        ({"format": 2}, "format 2"),
        ({"layers": [{"address": "first"}]}, "damaged"),
        ({"inputs": {"side": 3}}, "damaged"),
        ({"k": None}, "damaged"),
    ],
)
def test_manifests_that_are_none(index, change, said):
    path = index.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=said):
        load_index(index.path)


def test_types_on_disk(index):
    types = {name: str(dtype) for name, dtype in pd.read_parquet(index.path / "top.parquet").dtypes.items()}
    assert types == {
        "address": "category", "unit": "int32", "side": "category", "rank": "int16",
        "value": "float32", "image": "int32", "y": "int32", "x": "int32",
    }  # fmt: skip


def test_reads_one_layer_of_many(tmp_path, monkeypatch):
    layers = [Layer(f"layer{n}", "Conv2d", 4, 2, 2, None, None, None, None, False) for n in range(5)]
    no_images = {name: [] for name in ("path", "width", "height", "prediction", "error")}
    state = TopK(20, 3)
    state.update(torch.rand(3, 20), torch.zeros(3, 20, dtype=torch.int32), torch.arange(3))
    write_index(tmp_path, {}, no_images, layers, state)
    read = []
    original = pq.ParquetFile.read_row_groups

    def spy(file, groups, **options):
        read.extend(groups)
        return original(file, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    rows = store._read(tmp_path / "top.parquet", "layer3")
    assert read == [3]
    assert (len(rows), set(rows["address"])) == (4 * 2 * 3, {"layer3"})
