from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from PIL import Image

import memviz
from memviz.errors import RecipeError, StoreError
from memviz.gallery import Recipe, missing, parse_recipe
from memviz.gallery import build as building
from memviz.index import Index, load_index
from memviz.models import InputSpec
from memviz.models.mean_image import MeanImage
from memviz.rendering import load_renders

UNITS = [0, fakes.DEAD, fakes.REDIRECTED, 5]


def recipe(**change: Any) -> Recipe:
    panels = [{"layer": "alexnet.conv2", "units": UNITS}, {"layer": "resnet.layer4.2", "units": [6]}]
    data = {"title": "T", "model": "resmem", "layout": "grid", "render": {"size": 32, "steps": 128}, "panels": panels}
    return parse_recipe(data | change)


def gallery(out: Path, **arguments: Any) -> Path:
    return Path(memviz.build_gallery(recipe(), out=out, **arguments))


@pytest.fixture(scope="module")
def built(index: Index, renders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gallery(tmp_path_factory.mktemp("built") / "g", index=index, renders=renders).parent


@pytest.fixture
def plain(built: Path) -> dict[str, Any]:
    return dict(json.loads((built / "gallery.json").read_text()))


def shown(plain: dict[str, Any]) -> dict[str, Any]:
    return {
        unit["anchor"]: unit for section in plain["sections"] for group in section["groups"] for unit in group["units"]
    }


def test_everything_is_there(built: Path, plain: dict[str, Any]) -> None:
    assert {path.name for path in built.iterdir()} == {
        "index.html",
        "gallery.json",
        "figure.png",
        "figure.pdf",
        "images",
    }
    pictures = [unit["picture"] for unit in shown(plain).values() if unit["picture"]]
    pictures += [photo["picture"] for unit in shown(plain).values() for photo in unit["photos"]]
    assert sorted(pictures) == sorted(f"images/{path.name}" for path in (built / "images").iterdir())
    html = (built / "index.html").read_text()
    assert all(picture in html for picture in pictures)


def test_units_are_what_index_and_renders_say(plain: dict[str, Any], index: Index, renders: Path) -> None:
    unit = shown(plain)["alexnet.conv2:5"]
    record = load_renders(renders / "alexnet.conv2").units[5]
    top = index.top("alexnet.conv2:5", 9)
    assert (unit["peak"], unit["mean"]) == (record.peak, record.mean)
    assert unit["best"] == pytest.approx(top["value"].iloc[0])
    assert [photo["name"] for photo in unit["photos"]] == list(top["path"])
    assert [photo["prediction"] for photo in unit["photos"]] == pytest.approx(list(top["prediction"]))


def test_dead_and_redirected_units(plain: dict[str, Any], built: Path) -> None:
    units = shown(plain)
    assert units["alexnet.conv2:3"]["state"] == "dead"
    assert units["alexnet.conv2:3"]["picture"] is None
    assert units["alexnet.conv2:4"]["state"] == "redirected"
    assert units["alexnet.conv2:4"]["picture"]
    assert "Dead unit" in (built / "index.html").read_text()


def test_the_ring_marks_the_position_in_whole_pictures(plain: dict[str, Any], index: Index) -> None:
    units = shown(plain)
    assert all(photo["ring"] is None for photo in units["alexnet.conv2:5"]["photos"])
    top = index.top("resnet.layer4.2:6", 9)
    for photo, y, x in zip(units["resnet.layer4.2:6"]["photos"], top["y"], top["x"], strict=True):
        # Output i is centred on input pixel 32 i, whose centre is 0.5 px from its edge.
        assert photo["ring"] == pytest.approx([min(100, 100 * (32 * at + 0.5) / 227) for at in (x, y)], abs=0.01)


def test_it_says_where_it_came_from(plain: dict[str, Any], index: Index) -> None:
    assert plain["weights"] == fakes.WEIGHTS
    assert plain["provenance"]["recipe"]["title"] == "T"
    assert plain["provenance"]["renders"]["alexnet.conv2"]["seed"] == 0
    assert plain["provenance"]["index"]["inputs"] == index.manifest.inputs
    # The photographs' folder is not published.
    assert str(index.photos) not in json.dumps(plain)


def test_of_a_mean_image_only_its_checksum_is_published(index: Index, renders: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(90, 130, (256, 256, 3)).astype("<f4")
    inputs = InputSpec(size=(227, 227), resize=(256, 256), channels="bgr", scale=255.0, mean_image=MeanImage(pixels))
    folder = shutil.copytree(index.path, tmp_path / "index")
    manifest = json.loads((folder / "manifest.json").read_text()) | {"inputs": inputs.to_dict()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    made = shutil.copytree(renders, tmp_path / "renders")
    described = inputs.to_dict() | {"mean_image": {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}}
    for path in made.glob("*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": described}))
    page = gallery(tmp_path / "g", index=load_index(folder), renders=made)
    published = json.loads((page.parent / "gallery.json").read_text())["provenance"]["index"]["inputs"]
    assert published["mean_image"] == {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    assert (published["channels"], published["scale"]) == ("bgr", 255.0)
    assert (page.parent / "gallery.json").stat().st_size < 100_000


def test_again_replaces_the_gallery(built: Path, index: Index, renders: Path, tmp_path: Path) -> None:
    out = shutil.copytree(built, tmp_path / "g")
    (out / "images" / "old.png").touch()
    gallery(out, index=index, renders=renders)
    assert not (out / "images" / "old.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_whole_or_absent(
    built: Path, index: Index, renders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    kept = shutil.copytree(built, tmp_path / "kept")
    monkeypatch.setattr(building, "save_figures", interrupted)
    for out in (tmp_path / "new", kept):
        with pytest.raises(KeyboardInterrupt):
            gallery(out, index=index, renders=renders)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "figure.pdf").exists()


def test_missing_renders_are_named(index: Index, tmp_path: Path) -> None:
    fakes.renders(tmp_path, {"alexnet.conv2": (0, 3)})
    with pytest.raises(StoreError) as raised:
        gallery(tmp_path / "g", index=index, renders=tmp_path)
    assert "alexnet.conv2 (without units 4, 5)" in str(raised.value)
    assert "resnet.layer4.2 (not rendered)" in str(raised.value)
    assert not (tmp_path / "g").exists()
    assert [job.address for job in missing(recipe(), index, tmp_path)] == ["alexnet.conv2", "resnet.layer4.2"]


@pytest.mark.parametrize(
    ("render", "field"),
    [
        ({"size": 64}, "config.size 32, not 64"),
        ({"steps": 64}, "config.steps"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"objective": "neuron"}, "config.objective"),
        ({"learning_rate": 0.2}, "config.learning_rate"),
        ({"parameterization": {"kind": "pixel"}}, "config.parameterization"),
        ({"transforms": False}, "config.transforms"),
        ({"transforms": {"jitter": 2}}, "config.transforms.jitter"),
    ],
)
def test_renders_of_another_look_are_refused(index: Index, renders: Path, render: dict[str, Any], field: str) -> None:
    assert missing(recipe(), index, renders) == []
    with pytest.raises(StoreError, match=re.escape(field)):
        missing(recipe(render={"size": 32, "steps": 128} | render), index, renders)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"weights": "e0" * 32}, "weights e0e0"), ({"inputs": fakes.INPUTS | {"scale": 255.0}}, "inputs.scale 255.0")],
)
def test_renders_of_another_network_are_refused(
    index: Index, renders: Path, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    """Another preprocessing is one too: its activations are of another scale."""
    other = shutil.copytree(renders, tmp_path / "renders")
    path = other / "alexnet.conv2" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=re.escape(field)):
        gallery(tmp_path / "g", index=index, renders=other)


def test_a_picture_that_is_none_is_not_published(index: Index, renders: Path, tmp_path: Path) -> None:
    other = shutil.copytree(renders, tmp_path / "renders")
    (other / "alexnet.conv2" / "alexnet.conv2-0005.png").write_text("my password")
    with pytest.raises(StoreError, match="is damaged"):
        gallery(tmp_path / "g", index=index, renders=other)


def test_folders_that_hold_something_else_are_kept(index: Index, renders: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds notes\.txt"):
        gallery(tmp_path, index=index, renders=renders)
    with pytest.raises(StoreError, match="lies in it"):
        gallery(renders.parent, index=index, renders=renders)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        gallery(tmp_path / "file", index=index, renders=renders)


def test_without_an_index(renders: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no index"):
        gallery(tmp_path / "g", renders=renders)


def test_crops_are_large_enough_for_dense_screens(built: Path, plain: dict[str, Any]) -> None:
    with Image.open(built / shown(plain)["alexnet.conv2:5"]["photos"][0]["picture"]) as crop:
        assert crop.size == (building.CROP_SIZE, building.CROP_SIZE)
