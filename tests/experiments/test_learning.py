"""Where the default recipe comes from: its README says what its results say, and the default is what they favour."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.learning import compare
from memviz.training import TrainConfig

HERE = Path(compare.__file__).parent


@pytest.fixture(scope="module")
def results():
    lines = (HERE / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return compare.summary(pd.DataFrame([json.loads(line) for line in lines]))


def test_the_readme_has_the_results(results):
    """A row in the table for each data set and settings, with mean and standard deviation over seeds."""
    rows = re.findall(r"^\| (textures|photos) .*$", (HERE / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(results)
    text = (HERE / "README.md").read_text(encoding="utf-8")
    for row in results.itertuples():
        spread = "" if row.seeds == 1 else f" ± {row.deviation:.2f}"
        measured = "diverged" if np.isnan(row.test) else f"{row.test:.2f}{spread}"
        settings = f"{row.data} | {row.recipe} | {row.start} | {row.rate:g} | {row.scale:g} | {row.seeds}"
        assert f"| {settings} | {measured} |" in text


def test_textures_depend_on_the_strokes_direction():
    """The score follows the share of gradients along y, which horizontal strokes have; means and colours do not."""
    scores, along = [], []
    for number in range(60):
        picture, score = compare.texture(number)
        gray = np.asarray(picture.convert("L"), dtype=float)
        vertical, horizontal = (np.abs(np.diff(gray, axis=axis)).mean() for axis in (0, 1))
        scores.append(score)
        along.append(vertical / (vertical + horizontal))
    assert np.corrcoef(scores, along)[0, 1] > 0.7
    assert compare.texture(3)[0].tobytes() == compare.texture(3)[0].tobytes()


def test_the_default_is_the_best_of_the_textures(results):
    textures = results[(results["data"] == "textures") & (results["seeds"] >= 3)]
    best = textures.loc[textures["test"].idxmax()]
    default = TrainConfig()
    chosen = default.recipe, default.initialization, default.learning_rate, default.branch_gradient_scale
    assert chosen == tuple(best[["recipe", "start", "rate", "scale"]])
