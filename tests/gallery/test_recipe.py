from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from memviz.errors import RecipeError
from memviz.files import write_json
from memviz.gallery.recipe import Panel, Row, Source, load_recipe, parse_recipe
from memviz.rendering import RenderConfig

GRID: dict[str, Any] = {
    "title": "Edges",
    "model": "resmem",
    "layout": "grid",
    "panels": [{"layer": "alexnet.conv1", "units": [3, 5]}],
}


def branches(*rows: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {"title": "Both", "model": "resmem", "layout": "branches", "rows": list(rows)} | change


def test_rows_of_branches() -> None:
    left, right = {"layer": "a", "units": [0]}, {"layer": "b", "units": "selective:2"}
    recipe = parse_recipe(branches({"left": left, "right": right, "label": "x"}, {"right": right}))
    a, b = Panel("a", (0,)), Panel("b", "selective:2")
    assert recipe.rows == (Row((a, b), "x"), Row((b,)))
    assert recipe.source == Source("resmem")


def test_what_a_recipe_does_not_say_is_the_render_configs_default() -> None:
    assert parse_recipe(GRID).render == RenderConfig()
    render = {"size": 64, "transforms": False, "objective": "neuron", "seed": 3}
    recipe = parse_recipe(GRID | {"render": render})
    assert recipe.render == RenderConfig(size=64, transforms=None)
    assert (recipe.objective, recipe.seed) == ("neuron", 3)


def test_a_spectrum_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    table = {"kind": "pixel", "sd": 0.5}
    write_json(tmp_path / "spectrum.json", table)
    recipe = parse_recipe(GRID | {"render": {"parameterization": "spectrum.json"}}, folder=tmp_path)
    assert recipe.render == RenderConfig.from_dict({"parameterization": table})
    write_json(tmp_path / "spectrum.json", [1])
    for file, message in (("spectrum.json", "give a table with kind"), ("spectrums.json", "does not exist")):
        with pytest.raises(RecipeError, match=message):
            parse_recipe(GRID | {"render": {"parameterization": file}}, folder=tmp_path)


def test_a_side_may_name_a_network_of_its_own() -> None:
    left = {
        "layer": "a",
        "units": [0],
        "model": "m3m",
        "options": {"head": "small"},
        "index": "../runs/m3m",
        "photos": "p",
    }
    right = {"layer": "b", "units": [0], "weights": "mine.safetensors", "index": "../runs/mine"}
    row = parse_recipe(branches({"left": left, "right": right}), folder=Path("galleries")).rows[0]
    assert [panel.source for panel in row.panels] == [
        Source("m3m", options=(("head", "small"),), index=Path("galleries/../runs/m3m"), photos=Path("galleries/p")),
        Source("resmem", weights="galleries/mine.safetensors", index=Path("galleries/../runs/mine")),
    ]


def test_a_network_of_its_own_needs_an_index() -> None:
    side = {"layer": "a", "units": [0], "model": "memnet-caffe"}
    with pytest.raises(RecipeError, match=r"rows\[0\]\.left: a panel that names a network of its own also names its"):
        parse_recipe(branches({"left": side}))


def test_paths_are_relative_to_the_recipes_folder(tmp_path: Path) -> None:
    text = (
        'title = "t"\nmodel = "../runs/mine"\nweights = "random"\nmean = "mean.npy"\nlayout = "grid"\n'
        'index = "../runs/x"\n[[panels]]\nlayer = "a"\nunits = [0]\n'
    )
    (tmp_path / "r.toml").write_text(text)
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.source == Source(
        str(tmp_path / "../runs/mine"), None, tmp_path / "mean.npy", index=tmp_path / "../runs/x"
    )
    assert recipe.rows[0].panels[0].source is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "table"}, "layout is 'table'; it can be grid, photographs, branches"),
        ({"panels": []}, "at least one"),
        ({"rows": [{}]}, r"made of \[\[panels\]\], not of \[\[rows\]\]"),
        ({"render": {"stesp": 3}}, "has no 'stesp'. Close names: steps"),
        ({"render": {"seed": "1"}}, "seed must be a whole number"),
        ({"render": {"objective": "mean"}}, "objective='mean'"),
        ({"render": {"size": 10**5000}}, "size must be a whole number"),
        ({"panels": [{"layer": "alexnet.conv1", "units": [1, 1]}]}, "twice"),
        ({"panels": [{"layer": "nearest:resnet", "units": [1]}]}, "only the right of a row has one"),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(GRID | change)


def test_rows_that_cannot_be_followed() -> None:
    with pytest.raises(RecipeError, match="needs `left`, `right` or both"):
        parse_recipe(branches({"label": "x"}))
    with pytest.raises(RecipeError, match="to be nearest to"):
        parse_recipe(branches({"left": {"layer": "nearest:resnet", "units": [1]}}))


def test_the_recipes_in_the_readme_can_be_read() -> None:
    text = (Path(__file__).parents[2] / "galleries" / "README.md").read_text()
    first, second = (parse_recipe(tomllib.loads(block)) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    assert [row.label for row in first.rows] == ["Early", "Late"]
    left, right = second.rows[0].panels
    assert left.source is not None
    assert (left.source.model, left.layer, right.source) == ("memnet-caffe", "alexnet.conv4", None)
