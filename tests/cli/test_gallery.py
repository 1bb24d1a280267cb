import json
from dataclasses import replace

import pytest

import memviz as library
from memviz.models.registry import ARCHITECTURES
from memviz.rendering import engine as engines
from memviz.rendering import load_renders

RECIPE = """
title = "Two branches"
model = "tiny"
layout = "branches"
[render]
size = 16
steps = 3
[[rows]]
label = "Second convolutions"
left = { layer = "alexnet.conv2", units = [1, 3] }
right = { layer = "nearest:resnet", units = "selective:1" }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def drawn(monkeypatch):
    drawn = []
    draw = engines.Engine.draw
    monkeypatch.setattr(
        engines.Engine, "draw", lambda self, chosen, *args: drawn.extend(map(str, chosen)) or draw(self, chosen, *args)
    )
    return drawn


def test_renders_what_is_missing_then_builds_the_page(memviz, recipe, index, tmp_path, drawn):
    command = ("gallery", recipe, "--out", tmp_path / "page", "--index", index, "--weights", "random")
    done = memviz(*command)
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'page/index.html'}\n"
    assert "Rendering alexnet.conv2" in done.err
    assert len(drawn) == 3
    html = (tmp_path / "page/index.html").read_text()
    assert "Two branches" in html
    assert "alexnet.conv2" in html
    for name in ("figure.png", "figure.pdf", "gallery.json", "manifest.json"):
        assert (tmp_path / "page" / name).stat().st_size > 0
    # Beside the index, where the next gallery finds them.
    (folder,) = (tmp_path / "renders").glob("tiny-*/alexnet.conv2")
    assert sorted(load_renders(folder).units) == [1, 3]
    again = memviz(*command)
    assert again.code == 0
    assert len(drawn) == 3
    assert "Rendering" not in again.err


def test_nothing_missing_needs_no_model(memviz, recipe, index, tmp_path, monkeypatch):
    command = ("gallery", recipe, "--out", tmp_path / "page", "--index", index)
    assert memviz(*command, "--weights", "random").code == 0
    monkeypatch.setattr("memviz.workflow.load_model", None)
    assert memviz(*command).code == 0


def test_renders_are_kept_where_asked(memviz, recipe, index, tmp_path):
    done = memviz(
        "gallery", recipe, "--out", tmp_path / "page", "--index", index, "--renders", tmp_path / "mine",
        "--weights", "random",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "mine/alexnet.conv2/manifest.json").is_file()
    assert not (tmp_path / "renders").exists()


def test_the_index_may_be_named_in_the_recipe(memviz, recipe, index, tmp_path):
    recipe.write_text('index = "index"\n' + RECIPE)
    done = memviz("gallery", recipe, "--out", tmp_path / "page", "--weights", "random")
    assert done.code == 0, done.err


def test_no_index(memviz, recipe, tmp_path):
    done = memviz("gallery", recipe, "--out", tmp_path / "page")
    assert done.code == 1
    assert "names no index of tiny. Make one, `memviz index tiny PHOTOS --out runs/photos`" in done.err


def test_the_photographs_may_have_moved(memviz, recipe, index, photos, tmp_path):
    photos.rename(tmp_path / "moved")
    command = ("gallery", recipe, "--out", tmp_path / "page", "--index", index, "--weights", "random")
    lost = memviz(*command)
    assert lost.code == 1
    assert "--photos" in lost.err
    assert memviz(*command, "--photos", tmp_path / "moved").code == 0


def test_a_side_of_another_network(memviz, recipe, index, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "small", replace(ARCHITECTURES["tiny"], name="small"))
    assert memviz("index", "small", photos, "--out", tmp_path / "second", "-k", 9, "--weights", "random").code == 0
    own = 'left = { model = "small", weights = "random", index = "second", layer'
    recipe.write_text(RECIPE.replace("left = { layer", own))
    done = memviz("gallery", recipe, "--out", tmp_path / "page", "--index", index, "--weights", "random")
    assert done.code == 0, done.err
    shown = json.loads((tmp_path / "page/gallery.json").read_text())
    assert [group["network"] for group in shown["sections"][0]["groups"]] == ["small", "tiny"]


def test_other_weights_than_the_indexs(memviz, recipe, index, tmp_path):
    done = memviz("gallery", recipe, "--out", tmp_path / "page", "--index", index, "--weights", "nowhere.safetensors")
    assert done.code == 1
    assert "nowhere.safetensors" in done.err
    assert not (tmp_path / "page").exists()
    assert not (tmp_path / "renders").exists()


def test_a_recipe_of_another_model(memviz, recipe, index, tmp_path):
    recipe.write_text(RECIPE.replace('"tiny"', '"memnet"'))
    done = memviz("gallery", recipe, "--out", tmp_path / "page", "--index", index)
    assert done.code == 1
    assert "about the model 'memnet', but the index" in done.err


def test_galleries_of_two_networks_beside_each_other(memviz, recipe, index, tiny, photos, tmp_path, monkeypatch):
    """Their indexes lie in one folder, and so do their renders, without being taken for one another."""
    first = memviz("gallery", recipe, "--out", tmp_path / "page1", "--index", index, "--weights", "random")
    assert first.code == 0, first.err
    other = library.load_model(tiny, weights=None, seed=1)
    library.build_index(other, photos, out=tmp_path / "second", k=9)
    monkeypatch.setattr("memviz.workflow.load_model", lambda *_, **__: other)
    second = memviz("gallery", recipe, "--out", tmp_path / "page2", "--index", tmp_path / "second")
    assert second.code == 0, second.err
    assert len(list((tmp_path / "renders").glob("tiny-*"))) == 2
