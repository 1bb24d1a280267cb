import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import memviz as library


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


def test_several_tables_are_one(memviz, tiny, photos, scored):
    file, _ = scored
    pd.read_csv(file)[["path", "score"]].assign(source="other").to_csv(photos / "more.csv", index=False)
    arguments = ("--data", f"csv={file}", "--data", f"csv={photos / 'more.csv'}", "--resamples", 5)
    done = memviz("evaluate", tiny, *arguments, "--weights", "random")
    assert done.code == 0, done.err
    rows = [line.split()[:3] for line in done.out.splitlines()[2:7]]
    assert [" ".join(row) for row in rows] == ["all all 24", "csv all 12", "csv animal 6", "csv food 6", "other all 12"]


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        ("csv=none.csv", 1, "none.csv is not a CSV file that can be read"),
        ("none.csv", 2, "write csv=FILE"),
        ("tsv=none.csv", 2, "write csv=FILE"),
    ],
)
def test_what_is_no_data_is_named(memviz, tiny, data, code, message):
    done = memviz("evaluate", tiny, "--data", data, "--weights", "random")
    assert done.code == code
    assert message in done.err
