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
from memviz.artefacts import Manifest
from memviz.errors import RecipeError, StoreError
from memviz.explanation.labels import labels_folder
from memviz.gallery import Recipe, missing, parse_recipe, plan_gallery
from memviz.gallery import build as building
from memviz.gallery.describe import CROP_SIZE
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
        card["anchor"]: card for section in plain["sections"] for group in section["groups"] for card in group["cards"]
    }


def test_everything_is_there(built: Path, plain: dict[str, Any]) -> None:
    names = {path.name for path in built.iterdir()}
    assert names == {"index.html", "gallery.json", "manifest.json", "figure.png", "figure.pdf", "images"}
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
    assert [photo["value"] for photo in unit["photos"]] == pytest.approx(list(top["value"]))
    assert [photo["name"] for photo in unit["photos"]] == list(top["path"])
    assert [photo["prediction"] for photo in unit["photos"]] == pytest.approx(list(top["prediction"]))


def test_dead_and_redirected_units(plain: dict[str, Any], built: Path) -> None:
    units = shown(plain)
    assert units["alexnet.conv2:1"]["state"] == "dead"
    assert units["alexnet.conv2:1"]["picture"] is None
    assert [units[f"alexnet.conv2:{unit}"]["varies"] for unit in (1, 4)] == [False, True]
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


def test_it_says_where_it_came_from(built: Path, index: Index, renders: Path) -> None:
    manifest = Manifest.read(built, building.KIND, building.FORMAT)
    assert (manifest.model, manifest.weights, manifest.inputs) == ("resmem", fakes.WEIGHTS, index.manifest.inputs)
    assert (manifest.config["title"], manifest.config["render"]["steps"], manifest.seed) == ("T", 128, 0)
    assert manifest.config["networks"][0]["photographs"] == 12
    assert manifest.versions["memviz"] == memviz.__version__
    made = load_renders(renders / "alexnet.conv2").manifest.created
    assert manifest.result["renders"]["resmem alexnet.conv2"]["created"] == made
    # Where the index and the photographs lie is not published.
    for text in ("manifest.json", "gallery.json", "index.html"):
        assert str(index.photos.parent) not in (built / text).read_text()


def test_it_counts_its_units(built: Path, plain: dict[str, Any]) -> None:
    result = Manifest.read(built, building.KIND, building.FORMAT).result
    assert (result["units"], result["pictures"]) == (5, 4)
    cards = [card for card in shown(plain).values() if card["picture"]]
    assert result["succeed"] == sum(card["peak"] > max(0, card["photos"][0]["value"]) for card in cards)


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
    published = json.loads((page.parent / "manifest.json").read_text())["inputs"]
    assert published["mean_image"] == {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    assert (published["channels"], published["scale"]) == ("bgr", 255.0)
    assert (page.parent / "manifest.json").stat().st_size < 100_000


def test_missing_renders_are_named(index: Index, tmp_path: Path) -> None:
    fakes.renders(tmp_path, {"alexnet.conv2": (0, fakes.DEAD)})
    with pytest.raises(StoreError) as raised:
        gallery(tmp_path / "g", index=index, renders=tmp_path)
    assert f"alexnet.conv2 of resmem in {tmp_path}; resnet.layer4.2 of resmem in {tmp_path}" in str(raised.value)
    assert not (tmp_path / "g").exists()
    lacking = missing(plan_gallery(recipe(), index=index, renders=tmp_path))
    assert [planned.layer.address for planned in lacking] == ["alexnet.conv2", "resnet.layer4.2"]


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
    assert missing(plan_gallery(recipe(), index=index, renders=renders)) == []
    other = plan_gallery(recipe(render={"size": 32, "steps": 128} | render), index=index, renders=renders)
    with pytest.raises(StoreError, match=re.escape(field)):
        missing(other)


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


def test_without_an_index(renders: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no index"):
        gallery(tmp_path / "g", renders=renders)


def test_crops_are_large_enough_for_dense_screens(built: Path, plain: dict[str, Any]) -> None:
    with Image.open(built / shown(plain)["alexnet.conv2:5"]["photos"][0]["picture"]) as crop:
        assert crop.size == (CROP_SIZE, CROP_SIZE)


def test_photographs_that_moved(index: Index, renders: Path, tmp_path: Path) -> None:
    saved = shutil.copytree(index.path, tmp_path / "index")
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["result"]["root"] = str(tmp_path / "gone")
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="--photos"):
        gallery(tmp_path / "g", index=saved, renders=renders)
    moved = shutil.copytree(index.photos, tmp_path / "moved")
    for given in (saved, load_index(saved)):
        assert gallery(tmp_path / "g", index=given, renders=renders, photos=moved).is_file()


def test_what_a_photographs_file_says_is_not_published(renders: Path, tmp_path: Path) -> None:
    pictures = fakes.photos(tmp_path / "photos")
    for path in pictures:
        with Image.open(path) as photo:
            exif = Image.Exif()
            exif[0x013B] = "Jane Doe"
            photo.save(path, comment=b"taken by Jane Doe", exif=exif, icc_profile=b"Jane Doe's profile")
    page = gallery(tmp_path / "g", index=fakes.index(tmp_path / "index", pictures), renders=renders)
    crops = list((page.parent / "images").glob("*.jpg"))
    assert len(crops) == 45
    assert not any(b"Jane" in path.read_bytes() for path in crops)


def test_labels_are_shown_where_there_are_any(
    index: Index, renders: Path, plain: dict[str, Any], built: Path, tmp_path: Path
) -> None:
    assert {unit["label"] for unit in shown(plain).values()} == {""}
    assert "named" not in (built / "index.html").read_text().split("</style>")[1]
    shutil.copytree(index.path, tmp_path / "index")
    labels = labels_folder(load_index(tmp_path / "index"))
    labels.mkdir(parents=True)
    (labels / "labels.csv").write_text("unit,label,by\nalexnet.conv2:5,waves & <b>,AN\nalexnet.conv2:0,none,AN\n")
    page = gallery(tmp_path / "g", index=tmp_path / "index", renders=renders)
    found = shown(json.loads((tmp_path / "g/gallery.json").read_text()))
    told = {name: (unit["label"], unit["origin"]) for name, unit in found.items() if unit["origin"]}
    assert told == {"alexnet.conv2:5": ("waves & <b>", "person, AN"), "alexnet.conv2:0": ("", "person, AN")}
    html = page.read_text()
    assert html.count('<p class="named">waves &amp; &lt;b&gt; <span>person, AN</span></p>') == 1
    assert html.count('class="named"') == 1
