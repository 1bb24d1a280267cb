import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import unchanged, undisturbed
from scipy import stats

from memviz.errors import ImageError, ModelError, StoreError
from memviz.evaluation import SavedReport, evaluate, measure
from memviz.evaluation.metrics import bootstrap_interval, mse


@pytest.fixture
def report(model, table):
    with unchanged(model.module), undisturbed():
        return evaluate(model, table, batch_size=5, resamples=50)


def test_predictions_stand_beside_their_truth(report, table):
    np.testing.assert_allclose(report.predictions["prediction"], table["grey"], atol=1e-6)
    assert report.predictions["truth"].tolist() == table["score"].tolist()
    assert report.predictions["path"].tolist() == table["path"].tolist()
    assert report.warnings == ()


def test_groups_as_by_hand(report, table):
    groups = report.frame()
    assert list(zip(groups["source"], groups["category"], groups["images"], strict=True)) == [
        ("all", "all", 24), ("lamem", "all", 12), ("memcat", "all", 12), ("memcat", "animal", 6), ("memcat", "food", 6),
    ]  # fmt: skip
    chosen = [slice(None), table["source"] == "lamem", table["source"] == "memcat"]
    chosen += [table["category"] == name for name in ("animal", "food")]
    for some, (_, row) in zip(chosen, groups.iterrows(), strict=True):
        truth, prediction = table["score"][some].to_numpy(), report.predictions["prediction"][some].to_numpy(float)
        assert row["mse"] == pytest.approx(np.mean((truth - prediction) ** 2))
        assert row["mae"] == pytest.approx(np.mean(abs(truth - prediction)))
        assert row["spearman"] == pytest.approx(stats.spearmanr(truth, prediction).statistic)
        assert row["slope"] == pytest.approx(stats.linregress(truth, prediction).slope)
        assert (row["mse_low"], row["mse_high"]) == bootstrap_interval(truth, prediction, mse, 50)


def test_only_whole_sources_have_a_ceiling(report):
    assert report.frame()["ceiling"].notna().tolist() == [False, True, True, False, False]


def test_a_table_of_paths_and_scores_is_enough(model, table):
    report = evaluate(model, table[["path", "score"]], resamples=10)
    assert report.frame()["source"].tolist() == ["all", "csv"]


def test_an_image_may_have_two_scores(model, table):
    report = evaluate(model, pd.concat([table, table]), resamples=10)
    assert len(report.predictions) == 48
    assert report.predictions["prediction"].notna().all()


def test_unreadable_images_are_left_out_and_named(model, table):
    with open(table["path"][3], "wb") as file:
        file.write(b"no picture")
    with pytest.warns(UserWarning, match="1 unreadable"):
        report = evaluate(model, table, resamples=10)
    assert report.frame()["images"][0] == len(report.predictions) == 23
    assert table["path"][3] in report.warnings[0]


def test_nothing_readable_is_an_error(model, table):
    with open(table["path"][3], "wb") as file:
        file.write(b"no picture")
    with pytest.warns(UserWarning, match="1 unreadable"), pytest.raises(ImageError, match=r"None of the 1 .*03\.png"):
        evaluate(model, table[3:4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="score"), "no column 'score'; its columns are path, source, category, grey"),
        (lambda table: table[:0], "no rows"),
        (lambda table: table.assign(score=["0.5", "high"] * 12), r"01\.png is 'high'"),
        (lambda table: table.assign(score=math.nan), r"00\.png is .*nan"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(model, table, change, message):
    with pytest.raises(ImageError, match=message):
        evaluate(model, change(table))


def test_another_quantity_than_the_sets_is_warned_of(model, table):
    model.target = "false_alarm_rate"
    (warning,) = evaluate(model, table, resamples=10).warnings
    assert warning.startswith("brightness predicts false_alarm_rate")
    assert evaluate(model, table.assign(source="ours"), resamples=10).warnings == ()


def test_few_images_and_equal_scores_are_warned_of(model, table):
    (few,) = evaluate(model, table[:2], resamples=10).warnings
    assert few.startswith("2 images are few")
    (equal,) = evaluate(model, table.assign(score=0.5), resamples=10).warnings
    assert equal.startswith("All true scores are 0.5")


def test_scores_of_zero_are_suspect_in_lamem_alone(model, table):
    table.loc[[0, 5, 20], "score"] = 0  # the last is MemCat's
    (warning,) = evaluate(model, table, resamples=10).warnings
    assert warning.startswith("2 images from lamem have the score 0.")


def test_a_synthetic_set_is_called_so(model, table, tmp_path):
    table.attrs["dataset"] = {"name": "fake LaMem", "synthetic": True}
    report = evaluate(model, table, resamples=10)
    assert "synthetic" in report.warnings[0]
    report.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["dataset"] == table.attrs["dataset"]


def test_a_prediction_that_is_no_number_is_the_models_fault(model, table):
    torch.nn.init.constant_(model.module.scale.weight, math.nan)
    with pytest.raises(ModelError, match="brightness predicts nan"):
        evaluate(model, table)


def test_files_hold_what_the_frame_has(report, tmp_path):
    report.to_csv(tmp_path / "report.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "report.csv"), report.frame())
    report.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    content = json.loads(text)
    assert "NaN" not in text
    assert [group["spearman"] for group in content["groups"]] == report.frame()["spearman"].tolist()
    assert content["groups"][0]["ceiling"] is None
    assert content["consistency"]["memcat"]["split_half"] == 0.78
    assert {"model", "weights", "interval", "created", "versions"} <= content.keys()


def test_text_has_all_that_a_reader_needs(report):
    lines = str(report).splitlines()
    assert lines[0] == "brightness"
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["all", "all", "24"],
        ["lamem", "all", "12"],
        ["memcat", "all", "12"],
    ]
    row = report.frame().iloc[0]
    assert f"{row['spearman']:.3f} [{row['spearman_low']:.3f}, {row['spearman_high']:.3f}]" in lines[2]
    assert "Khosla" in str(report)


def test_measures_of_a_single_image_are_null_not_an_error():
    one = pd.DataFrame({"truth": [0.5], "prediction": [0.75], "source": ["a"], "category": [""]})
    row = measure(one, resamples=5).iloc[0]
    assert (row["mse"], row["mse_low"], row["mae"]) == (0.0625, 0.0625, 0.25)
    assert math.isnan(row["spearman"])


@pytest.mark.parametrize("scores", [[0.5, 0.7], [0.5] * 20])
@pytest.mark.parametrize("constant", [False, True])
def test_what_has_no_order_has_no_correlation(model, table, scores, constant):
    """Neither two images, of which it is always 1 or -1, nor equal scores."""
    if constant:
        torch.nn.init.zeros_(model.module.scale.weight)
    report = evaluate(model, table[: len(scores)].assign(score=scores, source="ours", category=""), resamples=10)
    measures = report.frame()[["spearman", "spearman_low", "spearman_high"]]
    assert measures.isna().all(axis=None)
    assert str(report).count("undefined") == 2
    assert "nan" not in str(report)
    assert ("All predictions are 0: a rank correlation is not defined." in report.warnings) == constant


def test_a_saved_report_is_read_and_checked(report, tmp_path):
    path = tmp_path / "report.json"
    report.to_json(path)
    saved = SavedReport.read(path)
    assert (saved.model, saved.weights) == (report.model, report.weights)
    assert [group["mse"] for group in saved.groups] == report.frame()["mse"].tolist()
    content = json.loads(path.read_text())
    del content["groups"][1]["spearman_low"]
    for wrong in (
        content,
        content | {"groups": []},
        content | {"groups": [3]},
        content | {"groups": {}},
        content | {"kind": "memviz-model"},
        content | {"format": 2},
        content | {"weights": 7},
        [],
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(StoreError, match=r"report\.json"):
            SavedReport.read(path)
