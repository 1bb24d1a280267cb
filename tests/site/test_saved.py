import json

import pytest

import memviz
from memviz.errors import StoreError
from memviz.layers.unit import Unit
from memviz.site import load_site


def test_what_was_built_is_found(index, renders, tmp_path):
    memviz.build_site(index, out=tmp_path / "site", renders=[renders], layers=["alexnet.conv4", "alexnet.conv1"])
    site = load_site(tmp_path / "site")
    drawn, dead, other = Unit("alexnet.conv4", 5), Unit("alexnet.conv1", 5), Unit("resnet.layer2.3", 5)
    assert (site.page(drawn), site.picture(drawn)) == ("alexnet/conv4/5/index.html", "alexnet/conv4/5/picture.jpg")
    assert (site.picture(dead), site.seen(dead)) == (None, "alexnet/conv1/5/face.jpg")
    assert site.page(other) is site.picture(other) is site.seen(other) is None
    assert site.weights == index.manifest.weights


def test_a_picture_of_the_second_folder_of_renders_is_found(index, renders, tmp_path):
    first = tmp_path / "first"
    (renders / "alexnet.conv4").rename(first)
    (tmp_path / "only").mkdir()
    first.rename(tmp_path / "only" / "alexnet.conv4")
    memviz.build_site(index, out=tmp_path / "site", renders=[renders, tmp_path / "only"], layers=["alexnet.conv4"])
    found = load_site(tmp_path / "site").picture(Unit("alexnet.conv4", 5))
    assert found == "alexnet/conv4/5/picture-2.jpg"


def test_what_is_no_site_is_refused(index, tmp_path):
    with pytest.raises(StoreError):
        load_site(tmp_path)
    memviz.build_site(index, out=tmp_path / "site", layers=["alexnet.conv4"])
    manifest = json.loads((tmp_path / "site/manifest.json").read_text())
    (tmp_path / "site/manifest.json").write_text(json.dumps(manifest | {"result": {}}))
    with pytest.raises(StoreError, match="not finished"):
        load_site(tmp_path / "site")
