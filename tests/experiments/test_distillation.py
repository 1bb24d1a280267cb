from pathlib import Path

import pytest
from PIL import Image

from experiments.distillation.compare import RECIPE, figure
from memviz.gallery import load_recipe
from memviz.training import TrainConfig

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    "file",
    ["distillation/memnet.toml", *(f"table1/{name}.toml" for name in ("memnet", "resmem", "resmem-retrain", "m3m"))],
)
def test_settings_can_be_read(file):
    assert TrainConfig.read(EXPERIMENTS / file).epochs > 1


def test_the_recipe_has_every_convolution_of_the_branch():
    recipe = load_recipe(RECIPE)
    assert [panel.layer for row in recipe.rows for panel in row.panels] == [f"alexnet.conv{n}" for n in range(1, 6)]


def test_both_models_stand_side_by_side():
    colours = {"Distilled MemNet": "red", "ResMem": "blue"}
    shown = [
        (title, {f"alexnet.conv{n}": [Image.new("RGB", (8, 8), colour)] * 2 for n in (1, 2)})
        for title, colour in colours.items()
    ]
    axes = figure(shown).axes
    assert [axis.get_title(loc="left") for axis in axes if axis.get_title(loc="left")] == list(colours)
    assert [axis.get_ylabel() for axis in axes if axis.get_ylabel()] == ["conv1", "conv2"]
    columns = sorted((axis.get_position().x0, axis.images[0].get_array()[0, 0].tolist()) for axis in axes)
    assert [colour for _, colour in columns] == [[255, 0, 0]] * 4 + [[0, 0, 255]] * 4
