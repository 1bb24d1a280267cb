from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import pytest

from memviz.errors import RecipeError
from memviz.gallery.recipe import Panel, Row, load_recipe, parse_recipe
from memviz.index import Index

PUBLISHED = sorted((Path(__file__).parents[2] / "galleries").glob("*.toml"))
GRID: dict[str, Any] = {
    "title": "Edges",
    "model": "resmem",
    "layout": "grid",
    "panels": [{"layer": "alexnet.conv1", "units": [3, 5]}],
}


def branches(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"title": "Both", "model": "resmem", "layout": "branches", "rows": list(rows)}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_recipes_can_be_followed(path: Path, index: Index) -> None:
    recipe = load_recipe(path)
    assert recipe.jobs(index)
    assert recipe.intro
    assert recipe.caption


def test_the_papers_figures_have_the_papers_panels(index: Index) -> None:
    chosen = {path.stem: load_recipe(path).resolve(index) for path in PUBLISHED}
    units = {name: [(c.layer.ordinal, len(c.units)) for row in rows for c in row] for name, rows in chosen.items()}
    assert units["figure13"] == [
        ("resnet@13", 5), ("resnet@35", 5), ("resnet@81", 5), ("resnet@96", 1), ("resnet@105", 3), ("resnet@126", 1),
        ("resnet@139", 5),
    ]  # fmt: skip
    assert sum(count for _, count in units["figure14"]) == 4
    assert units["figure15"] == [("alexnet@4", 9)]


def test_selective_units_stand_out_most_in_standard_deviations(index: Index) -> None:
    recipe = parse_recipe(GRID | {"panels": [{"layer": "alexnet@4", "units": "selective:4"}]})
    stats = index.stats("alexnet.conv4").set_index("channel")
    excited = range(2, fakes.CHANNELS)  # unit 0 is never positive, unit 1 never varies
    median = stats["peak"][list(excited)].median()
    lively = [unit for unit in excited if stats["peak"][unit] >= median]
    expected = sorted(lively, key=lambda unit: -(stats["peak"][unit] - stats["mean"][unit]) / stats["std"][unit])
    assert recipe.resolve(index)[0][0].units == tuple(expected[:4])


def test_faintly_excited_units_come_last(index: Index) -> None:
    recipe = parse_recipe(GRID | {"panels": [{"layer": "alexnet@4", "units": "selective:10"}]})
    peaks = index.stats("alexnet.conv4").set_index("channel")["peak"]
    chosen = [peaks[unit] for unit in recipe.resolve(index)[0][0].units]
    assert min(chosen[:5]) >= max(chosen[5:])


def test_asking_for_more_selective_units_than_vary(index: Index) -> None:
    recipe = parse_recipe(GRID | {"panels": [{"layer": "alexnet@4", "units": "selective:12"}]})
    with pytest.raises(RecipeError, match="has 10 units that some photograph"):
        recipe.jobs(index)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("alexnet.conv1", "resnet.layer1.0.conv1"),  # 11 px, exactly
        ("alexnet.conv4", "resnet.layer2.5"),  # 131 px: 123 and 139 are equally near, and the first block is taken
    ],
)
def test_nearest_receptive_field(left: str, right: str, index: Index) -> None:
    row = {"left": {"layer": left, "units": [2]}, "right": {"layer": "nearest:resnet", "units": [2]}}
    (found,) = parse_recipe(branches(row)).resolve(index)
    assert [choice.layer.address for choice in found] == [left, right]


def test_jobs_are_merged_per_layer(index: Index) -> None:
    panels = [
        {"layer": "alexnet.conv4", "units": [7, 2]},
        {"layer": "alexnet.conv1", "units": [0]},
        {"layer": "alexnet@4", "units": [2, 5]},
    ]
    jobs = parse_recipe(GRID | {"panels": panels, "render": {"size": 64, "seed": 3}}).jobs(index)
    assert [(job.address, job.units) for job in jobs] == [("alexnet.conv4", (2, 5, 7)), ("alexnet.conv1", (0,))]
    assert (jobs[0].config.size, jobs[0].seed) == (64, 3)


def test_rows_of_branches() -> None:
    left, right = {"layer": "a", "units": [0]}, {"layer": "b", "units": "selective:2"}
    recipe = parse_recipe(branches({"left": left, "right": right, "label": "x"}, {"right": right}))
    a, b = Panel("a", (0,)), Panel("b", "selective:2")
    assert recipe.rows == (Row((a, b), "x"), Row((b,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layuot": "grid"}, "unknown key 'layuot'. Close names: layout"),
        ({"layout": "table"}, "it can be grid, photographs, branches"),
        ({"title": ""}, "'title' is missing"),
        ({"model": 3}, "model should be text"),
        ({"columns": 0}, "whole number from 1"),
        ({"panels": []}, "at least one"),
        ({"panels": {}}, r"under \[\[panels\]\]"),
        ({"rows": []}, r"made of \[\[panels\]\]"),
        ({"render": {"stesp": 3}}, "has no 'stesp'. Close names: steps"),
        ({"render": {"seed": "1"}}, "seed must be a whole number"),
        ({"render": {"objective": "mean"}}, "objective='mean'"),
        ({"render": 3}, "should be a table"),
        ({"render": {"size": 10**5000}}, "size must be a whole number"),
        ({"panels": [{"layer": "alexnet.conv1"}]}, "units is None"),
        ({"panels": [{"layer": "alexnet.conv1", "units": "selective:0"}]}, "selective:5"),
        ({"panels": [{"layer": "alexnet.conv1", "units": [1, 1]}]}, "twice"),
        ({"panels": [{"layer": "alexnet.conv1", "units": [-1]}]}, "list of channel numbers"),
        ({"panels": [{"layer": "nearest:resnet", "units": [1]}]}, "only be the right of a row"),
        ({"panels": [3]}, "should be a table"),
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


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ({"layer": "alexnet.conv9", "units": [0]}, "does not watch 'alexnet.conv9'.*Close names: alexnet.conv"),
        ({"layer": "alexnet.conv1", "units": [3, 99]}, r"units 0 to 11, but the recipe asks for \[99\]"),
    ],
)
def test_layers_and_units_that_the_index_lacks(panel: dict[str, Any], message: str, index: Index) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(GRID | {"panels": [panel]}).jobs(index)


def test_a_recipe_about_another_model(index: Index) -> None:
    with pytest.raises(RecipeError, match="about the model 'm3m', but the index is of 'resmem'"):
        parse_recipe(GRID | {"model": "m3m"}).jobs(index)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        load_recipe(tmp_path / "figure.toml")
    (tmp_path / "figure1.toml").write_text("title = ")
    with pytest.raises(RecipeError, match=r"figure1\.toml"):
        load_recipe(tmp_path / "figure.toml")
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        load_recipe(tmp_path / "figure1.toml")


def test_the_index_is_found_from_the_recipes_folder(tmp_path: Path) -> None:
    text = 'title = "t"\nmodel = "resmem"\nlayout = "grid"\nindex = "../runs/x"\n[[panels]]\nlayer = "a"\nunits = [0]\n'
    (tmp_path / "r.toml").write_text(text)
    assert load_recipe(tmp_path / "r.toml").index == tmp_path / "../runs/x"
