import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import memviz as library
from memviz.images import lamem, memcat, mixed, split


@pytest.fixture
def scored(photos):
    """A CSV beside the twelve photographs, and its scores."""
    scores = np.linspace(0.4, 0.9, 12)
    table = pd.DataFrame({"path": sorted(path.name for path in photos.iterdir()), "score": scores})
    table["category"] = ["animal", "food"] * 6
    table.to_csv(photos / "scores.csv", index=False)
    return photos / "scores.csv", scores


def test_report_table_and_figure(memviz, tiny, photos, scored, tmp_path):
    file, truth = scored
    out = tmp_path / "new/report"
    done = memviz("evaluate", tiny, "--data", f"csv={file}", "--weights", "random", "--resamples", 20, "--out", out)
    assert done.code == 0, done.err
    names = ["density.pdf", "density.png", "predictions.csv", "report.csv", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    predictions = library.load_model(tiny, weights=None).score(photos)["memorability"]
    table = pd.read_csv(out / "predictions.csv")
    np.testing.assert_allclose(table["prediction"], predictions, atol=1e-6)
    np.testing.assert_allclose(table["truth"], truth)
    report = pd.read_csv(out / "report.csv")
    assert report["category"].tolist() == ["all", "all", "animal", "food"]
    assert report["spearman"][0] == pytest.approx(spearmanr(truth, predictions).statistic)
    assert json.loads((out / "report.json").read_text())["groups"][0]["mse"] == pytest.approx(report["mse"][0])
    assert f"{report['spearman'][0]:.3f} [" in done.out


@pytest.mark.parametrize(("column", "named"), [("memorability", ""), ("hits", ":hits")])
def test_another_column_of_scores(memviz, tiny, photos, scored, column, named):
    """What `memviz score` writes needs no name."""
    file, _ = scored
    pd.read_csv(file).rename(columns={"score": column}).to_csv(file, index=False)
    done = memviz("evaluate", tiny, "--data", f"csv={file}{named}", "--weights", "random", "--resamples", 2)
    assert done.code == 0, done.err
    wrong = memviz("evaluate", tiny, "--data", f"csv={file}:score", "--weights", "random", "--resamples", 2)
    assert "has no column score; its columns are path" in wrong.err


def test_several_tables_are_one(memviz, tiny, photos, scored):
    file, _ = scored
    whole = pd.read_csv(file)
    whole[:5][["path", "score"]].to_csv(photos / "a.csv", index=False)
    whole[5:].to_csv(photos / "b.csv", index=False)
    arguments = ("--data", f"csv={photos / 'a.csv'}", "--data", f"csv={photos / 'b.csv'}", "--resamples", 5)
    done = memviz("evaluate", tiny, *arguments, "--weights", "random")
    assert done.code == 0, done.err
    rows = [line.split()[:3] for line in done.out.splitlines()[2:7]]
    assert [" ".join(row) for row in rows] == ["all all 12", "a all 5", "b all 7", "b animal 3", "b food 4"]


def test_one_subset_of_lamem_and_memcat(memviz, tiny, tmp_path):
    fake = runpy.run_path(str(Path(__file__).parents[2] / "experiments/fake_data/make.py"))
    fake["make_lamem"](tmp_path / "lamem", 20, seed=0)
    fake["make_memcat"](tmp_path / "memcat", 20, seed=0)
    table = mixed(lamem(tmp_path / "lamem"), memcat(tmp_path / "memcat"))
    drawn = split(table, fractions=(0.5, 0.0, 0.5))
    drawn.save(tmp_path / "split.json")
    arguments = ("--data", f"lamem={tmp_path / 'lamem'}", "--data", f"memcat={tmp_path / 'memcat'}", "--resamples", 5)
    chosen = ("--split", tmp_path / "split.json", "--subset", "test", "--out", tmp_path / "out")
    done = memviz("evaluate", tiny, *arguments, *chosen, "--weights", "random")
    assert done.code == 0, done.err
    assert sorted(pd.read_csv(tmp_path / "out/predictions.csv")["path"]) == sorted(drawn.subset(table, "test")["path"])
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert {group["source"] for group in report["groups"]} == {"all", "lamem", "memcat"}
    assert "synthetic" in report["warnings"][0]
    assert "synthetic" in done.out


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        ("csv=none.csv", 1, "none.csv: No such file"),
        ("none.csv", 2, "write lamem=DIR, memcat=DIR or csv=FILE"),
        ("tsv=none.csv", 2, "write lamem=DIR, memcat=DIR or csv=FILE"),
    ],
)
def test_what_is_no_data_is_named(memviz, tiny, data, code, message):
    done = memviz("evaluate", tiny, "--data", data, "--weights", "random")
    assert done.code == code
    assert message in done.err
