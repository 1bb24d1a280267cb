from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest

from memviz.errors import RecipeError
from memviz.gallery import Plan, load_recipe, parse_recipe, plan_gallery
from memviz.index import Index

PUBLISHED = sorted((Path(__file__).parents[2] / "galleries").glob("*.toml"))
DISTILLATION = Path(__file__).parents[2] / "experiments" / "distillation" / "gallery.toml"


def plan(index: Index, *panels: dict[str, Any], **change: Any) -> Plan:
    data = {"title": "Edges", "model": "resmem", "layout": "grid", "panels": list(panels)} | change
    return plan_gallery(parse_recipe(data), index=index)


def plan_rows(index: Index, *rows: dict[str, Any], **change: Any) -> Plan:
    data = {"title": "Both", "model": "resmem", "layout": "branches", "rows": list(rows)} | change
    return plan_gallery(parse_recipe(data), index=index)


def channels(plan: Plan) -> list[int]:
    return [unit.channel for panel in plan.panels for unit in panel.units]


@pytest.mark.parametrize("path", [path for path in PUBLISHED if path.stem != "two-models"], ids=lambda path: path.stem)
def test_published_recipes_can_be_followed(path: Path, index: Index) -> None:
    recipe = load_recipe(path)
    assert plan_gallery(recipe, index=index).jobs
    assert recipe.intro
    assert recipe.caption


def test_the_recipe_of_an_experiment_can_be_followed(tmp_path: Path) -> None:
    saved = fakes.index(tmp_path / "index", fakes.photos(tmp_path / "photos"), model="memnet")
    made = plan_gallery(DISTILLATION, index=saved)
    assert [address for _, address in made.jobs] == [f"alexnet.conv{n}" for n in range(1, 6)]


def test_the_papers_figures_have_the_papers_panels(index: Index) -> None:
    found = {path.stem: plan_gallery(path, index=index).panels for path in PUBLISHED if "figure" in path.stem}
    units = {name: [(each.layer.ordinal, len(each.units)) for each in panels] for name, panels in found.items()}
    assert units["figure13"] == [
        ("resnet@13", 5), ("resnet@35", 5), ("resnet@81", 5), ("resnet@96", 1), ("resnet@105", 3), ("resnet@126", 1),
        ("resnet@139", 5),
    ]  # fmt: skip
    assert sum(count for _, count in units["figure14"]) == 4
    assert units["figure15"] == [("alexnet@4", 9)]


def test_selective_units_stand_out_most_in_standard_deviations(index: Index) -> None:
    stats = index.stats("alexnet.conv4").set_index("channel")
    excited = range(2, fakes.CHANNELS)  # unit 0 is never positive, unit 1 never varies
    median = stats["peak"][list(excited)].median()
    lively = [unit for unit in excited if stats["peak"][unit] >= median]
    expected = sorted(lively, key=lambda unit: -(stats["peak"][unit] - stats["mean"][unit]) / stats["std"][unit])
    assert channels(plan(index, {"layer": "alexnet@4", "units": "selective:4"})) == expected[:4]


def test_faintly_excited_units_come_last(index: Index) -> None:
    peaks = index.stats("alexnet.conv4").set_index("channel")["peak"]
    chosen = [peaks[unit] for unit in channels(plan(index, {"layer": "alexnet@4", "units": "selective:10"}))]
    assert min(chosen[:5]) >= max(chosen[5:])


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("drivers:4", [5, 4, 6, 7]),
        ("drivers:5", [5, 4, 3, 6, 7]),
        ("drivers:1", [5]),
        ("raising:2", [5, 4]),
        ("lowering:3", [6, 7, 8]),
    ],
)
def test_units_that_drive_the_score(units: str, expected: list[int], index: Index) -> None:
    made = plan(index, {"layer": "resnet@13", "units": units})
    assert channels(made) == expected
    assert made.to_dict()["networks"][0]["drivers"] == {"photographs": 12, "seed": 0}


def test_without_a_survey_it_says_how_to_make_one(other_index: Index) -> None:
    panel = {"layer": "alexnet.conv4", "units": "drivers:8"}
    with pytest.raises(RecipeError, match=r"memviz drivers memnet-caffe --index .*memnet-caffe"):
        plan(other_index, panel, model="memnet-caffe")
    assert "drivers" not in plan(other_index, panel | {"units": [1]}, model="memnet-caffe").networks[0].to_dict()


def test_of_several_surveys_the_largest_of_the_same_weights_counts(other_index: Index) -> None:
    fakes.drivers(other_index.path, 12, "2e" * 32)
    fakes.drivers(other_index.path, 30, "2e" * 32)
    fakes.drivers(other_index.path, 50, "00" * 32)
    made = plan(other_index, {"layer": "alexnet.conv4", "units": "drivers:8"}, model="memnet-caffe")
    assert made.networks[0].to_dict()["drivers"]["photographs"] == 30


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("alexnet.conv1", "resnet.layer1.0.conv1"),  # 11 px, exactly
        ("alexnet.conv4", "resnet.layer2.5"),  # 131 px: 123 and 139 are equally near, and the first block is taken
    ],
)
def test_nearest_receptive_field(left: str, right: str, index: Index) -> None:
    row = {"left": {"layer": left, "units": [2]}, "right": {"layer": "nearest:resnet", "units": [2]}}
    assert [panel.layer.address for panel in plan_rows(index, row).panels] == [left, right]


def test_jobs_are_merged_per_layer(index: Index) -> None:
    panels = [
        {"layer": "alexnet.conv4", "units": [7, 2]},
        {"layer": "alexnet.conv1", "units": [0]},
        {"layer": "alexnet@4", "units": [2, 5]},
    ]
    jobs = [each.job for each in plan(index, *panels, render={"size": 64, "seed": 3}).jobs.values()]
    assert [(job.address, job.units) for job in jobs] == [("alexnet.conv4", (2, 5, 7)), ("alexnet.conv1", (0,))]
    assert (jobs[0].config.size, jobs[0].seed) == (64, 3)


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ({"layer": "alexnet.conv9", "units": [0]}, "does not watch 'alexnet.conv9'.*Close names: alexnet.conv"),
        ({"layer": "alexnet.conv1", "units": [3, 99]}, "alexnet.conv1 has units 0 to 11; given was 99"),
        ({"layer": "alexnet@4", "units": "selective:12"}, "has 10 units that some photograph"),
        ({"layer": "alexnet@4", "units": "lowering:7"}, "alexnet.conv4 has 6 units lowering the score, but .* for 7"),
    ],
)
def test_layers_and_units_that_the_index_lacks(panel: dict[str, Any], message: str, index: Index) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(index, panel)


def test_a_recipe_about_another_model(index: Index) -> None:
    with pytest.raises(RecipeError, match=r"about the model 'm3m', but the index .* is of 'resmem'"):
        plan(index, {"layer": "alexnet@4", "units": [0]}, model="m3m")


def test_more_units_than_a_page_shows(index: Index) -> None:
    panel = {"layer": "alexnet@4", "units": list(range(fakes.CHANNELS))}
    with pytest.raises(RecipeError, match=r"shows 1,008 units; a gallery shows at most 1,000"):
        plan(index, *[panel] * 84)


def test_a_network_for_each_side(index: Index, other_index: Index) -> None:
    left = {"layer": "alexnet.conv4", "units": [2], "model": "memnet-caffe", "index": str(other_index.path)}
    row = {"left": left, "right": {"layer": "nearest:resnet", "units": "selective:1"}}
    made = plan_rows(index, row)
    assert list(made.jobs) == [("memnet-caffe", "alexnet.conv4"), ("resmem", "resnet.layer2.5")]
    weights = [job.manifest.weights for job in made.jobs.values()]
    assert weights == ["2e" * 32, fakes.WEIGHTS]
    # Nothing is rendered with one network into the folder of the other.
    assert len({job.renders for job in made.jobs.values()}) == 2
    assert len({job.renders for job in plan_gallery(made.recipe, index=index, renders="r").jobs.values()}) == 2


def test_one_layer_of_two_networks_is_two_jobs(index: Index, other_index: Index) -> None:
    side = {"layer": "alexnet.conv4", "units": [2]}
    made = plan_rows(index, {"left": side | {"model": "memnet-caffe", "index": str(other_index.path)}, "right": side})
    assert list(made.jobs) == [("memnet-caffe", "alexnet.conv4"), ("resmem", "alexnet.conv4")]


def test_each_indexs_photographs_may_have_moved(index: Index, other_index: Index, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    side = {"layer": "alexnet.conv4", "units": [2]}
    own = {"model": "memnet-caffe", "index": str(other_index.path), "photos": str(tmp_path / "here")}
    made = plan_rows(index, {"left": side | own, "right": side})
    assert [network.index.photos for network in made.networks] == [tmp_path / "here", index.photos]
    made = plan_gallery(made.recipe, index=index, photos=tmp_path / "there")
    assert [network.index.photos for network in made.networks] == [tmp_path / "here", tmp_path / "there"]


def test_two_weights_of_one_model_are_told_apart(index: Index, tmp_path: Path) -> None:
    second = fakes.index(tmp_path / "second", fakes.photos(tmp_path / "photos"), weights="2e" * 32)
    side = {"layer": "alexnet.conv4", "units": [2]}
    made = plan_rows(index, {"left": side | {"weights": "mine.safetensors", "index": str(second)}, "right": side})
    assert [network.label for network in made.networks] == ["resmem 2e2e2e2e", "resmem 1f1f1f1f"]


def test_the_same_index_by_two_names_is_one_network(index: Index) -> None:
    side = {"layer": "alexnet.conv4", "units": [2]}
    made = plan_rows(index, {"left": side | {"index": f"{index.path}/../{index.path.name}"}, "right": side})
    assert [network.label for network in made.networks] == ["resmem"]
    assert len(made.jobs) == 1


def test_renders_beside_the_index_are_apart_by_settings(index: Index) -> None:
    panel = {"layer": "alexnet@4", "units": [0]}
    settings: list[dict[str, Any]] = [{}, {"seed": 1}, {"objective": "neuron"}, {"steps": 7}]
    folders = [job.renders for each in settings for job in plan(index, panel, render=each).jobs.values()]
    assert len(set(folders)) == len(settings)
    assert {folder.parent for folder in folders} == {index.path.parent / "renders"}


def test_a_plan_is_plain_data_without_the_makers_folders(index: Index) -> None:
    made = plan(index, {"layer": "alexnet@4", "units": [3, 5]})
    text = json.dumps(made.to_dict())
    assert '"alexnet.conv4:3", "alexnet.conv4:5"' in text
    assert str(index.path) not in text
    assert str(index.photos) not in text


def test_the_published_recipes_can_share_a_folder_of_renders() -> None:
    """One layer's pictures cannot have two sizes in one folder."""
    recipes = [load_recipe(path) for path in PUBLISHED]
    assert len({(str(recipe.render), recipe.objective, recipe.seed) for recipe in recipes}) == 1
