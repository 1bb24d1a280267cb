import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from experiments.fake_data.make import MEMCAT_COLUMNS, make_lamem, make_memcat
from memviz.images import check_readable, lamem, memcat, mixed

SCRIPT = Path(__file__).parents[2] / "experiments/fake_data/make.py"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fake")
    make_lamem(folder / "lamem", 200)
    make_memcat(folder / "memcat", 200)
    return folder


def features(path):
    """What any low-level model sees: colour and contrast over the picture, and how much of it stands out."""
    with Image.open(path) as image:
        pixels = np.asarray(image.resize((64, 64)).convert("RGB"), dtype=float) / 255
    gray = pixels @ (0.299, 0.587, 0.114)
    chroma = pixels.max(-1) - pixels.min(-1)
    apart = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(-1)
    means = [chroma.mean(), chroma.max(), gray.std(), gray.max() - np.median(gray), apart.max()]
    return [*means, (apart > 0.1).mean(), (apart > 0.2).mean(), (chroma > 0.1).mean()]


def held_out_spearman(table, scores):
    """How well the scores of the second half follow from the pictures by what the first half teaches."""
    seen = np.array([features(path) for path in table["path"]])
    seen = (seen - seen.mean(0)) / seen.std(0)
    half = len(table) // 2
    return spearmanr(Ridge().fit(seen[:half], scores[:half]).predict(seen[half:]), scores[half:]).statistic


@pytest.mark.parametrize("read", [lamem, memcat])
def test_scores_depend_on_the_pictures(tree, read):
    table = read(tree / read.__name__)
    scores = table["score"].to_numpy()
    assert held_out_spearman(table, scores) > 0.7
    assert abs(held_out_spearman(table, np.random.default_rng(0).permutation(scores))) < 0.3


def test_real_layouts(tree):
    one, two = lamem(tree / "lamem", split=1), memcat(tree / "memcat")
    check_readable(mixed(one, two))
    assert len(one) == len(two) == 200
    assert one["subset"].value_counts().to_dict() == {"train": 154, "validation": 12, "test": 34}
    assert two["category"].value_counts().to_dict() == dict.fromkeys(
        ["animal", "food", "landscape", "sports", "vehicle"], 40
    )
    assert two["file"].str.split("/").str[1].nunique() == 10
    assert list(pd.read_csv(tree / "memcat/memcat_image_data.csv", index_col=0)) == MEMCAT_COLUMNS


def test_the_five_splits_are_of_the_same_photographs_and_differ(tree):
    tests = []
    for split in range(1, 6):
        table = lamem(tree / "lamem", split)
        assert set(table["file"]) == set(lamem(tree / "lamem")["file"])
        tests.append(frozenset(table.loc[table["subset"] == "test", "file"]))
    assert len(set(tests)) == 5


def test_labelled_synthetic(tree):
    table = mixed(lamem(tree / "lamem"), memcat(tree / "memcat"))
    assert table.attrs["dataset"]["synthetic"]
    with Image.open(table["path"][0]) as image:
        assert b"synthetic" in image.info["comment"]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_command_and_the_same_seed_gives_the_same_files(tmp_path, tree):
    for out in ("a", "b"):
        command = [sys.executable, SCRIPT, tmp_path / out, "--lamem", "6", "--memcat", "5", "--seed", "3"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "6 synthetic pictures" in run.stdout
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(lamem(tmp_path / "a/lamem")) == 6
    pictures = [path.read_bytes() for path in [*(tmp_path / "a").rglob("*.jpg"), *tree.rglob("*.jpg")]]
    assert len(set(pictures)) == len(pictures)
