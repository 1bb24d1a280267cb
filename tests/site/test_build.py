import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import fakes
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import memviz
from memviz.errors import LayerError, StoreError
from memviz.explanation.labels import labels_folder
from memviz.index import load_index
from memviz.site import build as building
from memviz.site.photographs import COUNT, SIDE

LAYERS = ("alexnet.conv4", "resnet.layer2.3")


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src"):
                self.found.append(value)
            if name == "style":
                self.found += re.findall(r"url\(([^)]*)\)", value)


def build(index, out, **options):
    return memviz.build_site(index, out=out, progress=False, **options)


def content(site):
    return {
        path.relative_to(site).as_posix(): path.read_bytes()
        for path in sorted(site.rglob("*"))
        if path.is_file() and path.name not in (".lock", "manifest.json")
    }


def test_every_unit_has_its_page_and_every_link_leads_to_a_file(index, renders, tmp_path):
    home = build(index, tmp_path / "site", renders=[renders])
    site = home.parent
    pages = sorted(site.rglob("index.html"))
    assert len(pages) == 1 + len(LAYERS) * (1 + fakes.CHANNELS)
    assert (site / "resnet" / "layer2.3" / "5" / "index.html") in pages
    reached = {home}
    for page in pages:
        links = Links()
        links.feed(page.read_text())
        for each in links.found:
            if each.startswith("#"):
                continue
            assert not urlsplit(each).scheme
            target = (page.parent / unquote(each)).resolve()
            assert target.is_file(), (page, each)
            assert target.is_relative_to(site.resolve())
            reached.add(target)
    assert {page.resolve() for page in pages} <= {page.resolve() for page in reached}


def test_a_page_says_what_was_saved(index, renders, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders]).parent
    folder = site / "resnet" / "layer2.3" / "5"
    data = json.loads((folder / "unit.json").read_text())
    top, bottom = index.top("resnet.layer2.3:5", COUNT), index.bottom("resnet.layer2.3:5", COUNT)
    assert [each["value"] for each in data["highest"]] == list(top["value"])
    assert [each["name"] for each in data["lowest"]] == list(bottom["path"])
    assert data["drivers"]["drive"] == pytest.approx(0.06)
    record = memviz.rendering.load_renders(renders / "resnet.layer2.3").units[5]
    assert data["pictures"] == [
        {"file": "picture.jpg", "made": "", "lowest": False, "state": "ok", "peak": record.peak, "mean": record.mean}
    ]
    with Image.open(folder / "picture.jpg") as shown, Image.open(renders / "resnet.layer2.3" / record.file) as drawn:
        assert np.abs(np.asarray(shown, int) - np.asarray(drawn, int)).mean() < 8
    crops = index.crops("resnet.layer2.3:5", COUNT, SIDE)
    with Image.open(folder / "saw.jpg") as strip:
        for rank in (0, 5):
            seen = np.asarray(strip.crop((rank * SIDE, 0, (rank + 1) * SIDE, SIDE)), int)
            assert np.abs(seen - np.asarray(crops[rank], int)).mean() < 8
    html = (folder / "index.html").read_text()
    assert data["verdict"] in html
    assert "+0.06" in html


def test_a_dead_unit_one_without_a_picture_and_one_that_was_not_drawn(index, tmp_path):
    renders = fakes.renders(tmp_path / "some", {"alexnet.conv4": (0, 1, 5)})
    site = build(index, tmp_path / "site", renders=[renders]).parent / "alexnet" / "conv4"
    assert "Dead unit" in (site / "1" / "index.html").read_text()
    assert "Not drawn" in (site / "7" / "index.html").read_text()
    assert json.loads((site / "7" / "unit.json").read_text())["pictures"] == []
    page = (site / "index.html").read_text()
    assert page.count("data-dead") == 1
    # Unit 0 is never positive and unit 1 never drawn, so that of the three drawn ones 1 and 5 are live.
    assert "of 2 live units that were drawn" in page
    assert "or, where it has no picture, what it saw" in page


def test_only_what_changed_is_written_again(index, renders, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders]).parent
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.name not in (".lock", "manifest.json")}
    build(index, site, renders=[renders])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    labels = labels_folder(index)
    labels.mkdir(parents=True)
    (labels / "labels.csv").write_text("unit,label\nalexnet.conv4:5,stripes & <bars>\n")
    build(index, site, renders=[renders])
    changed = {path.relative_to(site).as_posix() for path in before if path.stat().st_mtime_ns != before[path]}
    own = {"alexnet/conv4/5/index.html", "alexnet/conv4/5/unit.json"}
    assert {path for path in changed if (site / path).is_file()} == own | {
        "alexnet/conv4/index.html", "search.js", "index.html",
    }  # fmt: skip
    assert "stripes &amp; &lt;bars&gt;" in (site / "alexnet/conv4/5/index.html").read_text()


def test_an_interrupted_build_goes_on_to_the_same_site(index, renders, tmp_path, monkeypatch):
    whole = content(build(index, tmp_path / "whole", renders=[renders]).parent)
    written = []
    write = building.write

    def interrupted(path, content):
        written.append(path)
        if len(written) == 25:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(building, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(index, tmp_path / "site", renders=[renders])
    assert content(build(index, tmp_path / "site", renders=[renders]).parent) == whole


def test_photographs_can_be_left_out_with_their_names(index, renders, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders], photographs=False).parent
    assert not list(site.rglob("saw.jpg"))
    assert not (site / "photographs").exists()
    assert not any(b"wave_" in text for text in content(site).values())


def test_nothing_tells_of_the_makers_disk(index, renders, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders]).parent
    texts = [path.read_text() for path in site.rglob("*") if path.suffix in (".html", ".json", ".js", ".css")]
    assert len(texts) > 50
    assert not any(tmp_path.name in text for text in texts)


def test_of_a_unit_that_was_drawn_again_the_best_picture_is_shown(index, renders, tmp_path):
    fakes.renders(renders / "retries" / "seed-1", {"alexnet.conv4": (5,)})
    rows = [("alexnet.conv4", unit, "seed-1" if unit == 5 else "first") for unit in range(fakes.CHANNELS)]
    pd.DataFrame(rows, columns=["layer", "unit", "attempt"]).to_parquet(renders / "units.parquet")
    path = renders / "retries" / "seed-1" / "alexnet.conv4"
    again = memviz.rendering.load_renders(path).units[5]
    Image.new("RGB", (32, 32), "red").save(path / again.file)
    site = build(index, tmp_path / "site", renders=[renders]).parent
    with Image.open(site / "alexnet" / "conv4" / "5" / "picture.jpg") as shown:
        assert np.abs(np.asarray(shown, int) - (255, 0, 0)).max() < 8


def test_several_pictures_of_a_unit_stand_side_by_side(index, renders, tmp_path):
    others = fakes.renders(tmp_path / "others", {"alexnet.conv4": (5,)}, steps=7)
    site = build(index, tmp_path / "site", renders=[renders, others]).parent
    assert len(json.loads((site / "alexnet/conv4/5/unit.json").read_text())["pictures"]) == 2
    assert len(json.loads((site / "alexnet/conv4/6/unit.json").read_text())["pictures"]) == 1
    assert (site / "alexnet/conv4/5/picture-2.jpg").is_file()


def test_layers_can_be_chosen_and_those_that_are_left_out_go(index, renders, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders]).parent
    build(index, site, renders=[renders], layers=["alexnet.conv4"])
    assert not (site / "resnet" / "layer2.3").exists()
    assert "resnet.layer2.3" not in (site / "index.html").read_text()
    with pytest.raises(LayerError, match=r"alexnet\.conv9"):
        build(index, tmp_path / "other", layers=["alexnet.conv9"])
    assert not (tmp_path / "other").exists()


def test_what_does_not_belong_together_is_refused(index, renders, other_index, tmp_path):
    site = build(index, tmp_path / "site", renders=[renders]).parent
    before = content(site)
    with pytest.raises(StoreError, match=r"holds another result: .*the index of other weights"):
        build(other_index, site)
    with pytest.raises(StoreError, match=r"renders of other weights"):
        build(other_index, tmp_path / "other", renders=[renders])
    with pytest.raises(StoreError, match=r"No units are rendered in .*pictures"):
        build(index, tmp_path / "third", renders=[index.photos])
    assert content(site) == before


def test_a_photograph_that_is_gone_is_named(index, renders, tmp_path):
    (index.photos / "wave_03.jpg").unlink()
    with pytest.raises(StoreError, match=r"wave_03\.jpg"):
        build(load_index(index.path), tmp_path / "site", renders=[renders])


def test_the_depth_profile_is_shown_on_the_home_page(index, renders, tmp_path, monkeypatch):
    folder = tmp_path / "depth"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "depth.png")
    found = SimpleNamespace(weights=index.manifest.weights, verdict=["It is <perceptual>."])
    monkeypatch.setattr(building, "load_depth", lambda path: found)
    site = build(index, tmp_path / "site", renders=[renders], depth=folder).parent
    assert "It is &lt;perceptual&gt;." in (site / "index.html").read_text()
    assert (site / "depth.png").read_bytes() == (folder / "depth.png").read_bytes()
    found.weights = "ab" * 32
    with pytest.raises(StoreError, match="of other weights"):
        build(index, tmp_path / "other", renders=[renders], depth=folder)
    assert not (tmp_path / "other").exists()


def test_what_nobody_drew_has_a_face_and_no_verdict(index, renders, tmp_path):
    site = memviz.build_site(index, out=tmp_path / "site", layers=["alexnet.conv1"], progress=False).parent
    unit = site / "alexnet/conv1/3"
    assert json.loads((unit / "unit.json").read_text())["verdict"] is None
    with Image.open(unit / "face.jpg") as face, Image.open(unit / "saw.jpg") as strip:
        assert face.size == (96, 96)
        apart = np.asarray(face, int) - np.asarray(strip.crop((0, 0, 96, 96)), int)
    assert np.abs(apart).mean() < 6
    near = (unit / "index.html").read_text().partition('class="near"')[2].partition("</ol>")[0]
    assert "face.jpg" in near
    assert "saw.jpg" not in near
