import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import memviz as library
from memviz.training import store


@pytest.fixture
def scored(photos):
    """A CSV with a score for each of the twelve photographs."""
    table = pd.DataFrame({"path": sorted(path.name for path in photos.iterdir()), "score": np.linspace(0.4, 0.9, 12)})
    table.to_csv(photos / "scores.csv", index=False)
    return photos / "scores.csv"


QUICK = (
    "--set",
    "recipe=paper",
    "--set",
    "epochs=2",
    "--set",
    "batch_size=4",
    "--set",
    "fractions=[0.5, 0.25, 0.25]",
    "--accelerator",
    "cpu",
)


def test_a_trained_model_is_a_folder_that_every_command_takes(memviz, tiny, photos, scored, tmp_path):
    done = memviz("train", tiny, "--data", f"csv={scored}", "--out", tmp_path / "run", *QUICK)
    assert done.code == 0, done.err
    model = library.load_model(tmp_path / "run")
    assert f"validation Spearman {model.card.metrics['val_spearman']:.3f}" in done.out
    assert model.card.training["batch_size"] == 4
    assert memviz("score", photos, "--model", tmp_path / "run").code == 0
    warned = memviz("evaluate", tmp_path / "run", "--data", f"csv={scored}", "--resamples", 5)
    assert warned.code == 0
    assert "6 of 12 images were in" in warned.out


def test_scores_that_are_all_the_same_have_no_correlation(memviz, tiny, scored, tmp_path):
    pd.read_csv(scored).assign(score=0.5).to_csv(scored, index=False)
    done = memviz("train", tiny, "--data", f"csv={scored}", "--out", tmp_path / "run", *QUICK)
    assert done.code == 0, done.err
    assert "Test subset, 3 photographs: Spearman undefined [undefined, undefined], MSE 0." in done.out


def test_of_several_processes_only_the_first_says_the_result(memviz, tiny, scored, tmp_path, monkeypatch):
    given = ("train", tiny, "--data", f"csv={scored}", "--out", tmp_path / "run", *QUICK)
    assert memviz(*given).out
    monkeypatch.setattr(store, "first_process", lambda: False)
    assert memviz(*given).out == ""


def test_config_file_and_changes_over_it(memviz, tiny, scored, tmp_path):
    (tmp_path / "mine.toml").write_text("learning_rate = 0.5\nmomentum = 0\n")
    changes = ("--config", tmp_path / "mine.toml", "--set", "learning_rate=0.001")
    done = memviz("train", tiny, "--data", f"csv={scored}", "--out", tmp_path / "run", *QUICK, *changes)
    assert done.code == 0, done.err
    training = json.loads((tmp_path / "run/card.json").read_text())["training"]
    assert (training["learning_rate"], training["momentum"]) == (0.001, 0.0)


def test_distilled_from_another_model(memviz, tiny, photos, scored, tmp_path):
    teacher = tmp_path / "teacher"
    assert memviz("train", tiny, "--data", f"csv={scored}", "--out", teacher, *QUICK).code == 0
    pupil = tmp_path / "pupil"
    done = memviz("train", tiny, "--teacher", teacher, "--images", photos, "--out", pupil, *QUICK, "--set", "seed=1")
    assert done.code == 0, done.err
    card = library.load_model(pupil).card
    assert card.distilled_from["weights"] == library.load_model(teacher).fingerprint()
    predictions = pd.read_csv(pupil / "test/predictions.csv")
    targets = library.load_model(teacher).score(list(predictions["path"]))["memorability"]
    np.testing.assert_allclose(predictions["truth"], targets, atol=1e-6)
    assert card.metrics["test_spearman"] == pytest.approx(spearmanr(targets, predictions["prediction"]).statistic)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "either --data, or --teacher with --images"),
        (("--data", "csv=x.csv", "--teacher", "resmem"), "either --data, or --teacher with --images"),
        (("--data", "csv=SCORES", "--set", "momentun=1"), "Close names: momentum"),
        (("--data", "csv=SCORES", "--set", "momentum"), "write name=value"),
        (("--data", "csv=SCORES", "--option", "head"), "write NAME=VALUE"),
        (("--data", "csv=SCORES", "--option", "out=x"), "has no option out='x'"),
        (("--data", "csv=SCORES", "--backbone", "resnet"), "write ADDRESS=FILE"),
        (("--data", "csv=SCORES", "--backbone", "random", "--backbone", "resnet=x"), "'random' alone"),
        (("--data", "csv=SCORES", "--mean", "mean.npy"), "subtracts no mean"),
        (("--data", "csv=SCORES", "--config", "missing.toml"), "missing.toml: No such file"),
    ],
)
def test_what_cannot_be_done_is_said(memviz, tiny, scored, tmp_path, arguments, reason):
    arguments = [argument.replace("SCORES", str(scored)) for argument in arguments]
    done = memviz("train", tiny, "--out", tmp_path / "run", *arguments)
    assert done.code != 0
    assert reason in done.err
    assert not (tmp_path / "run").exists()


def test_the_names_of_all_settings_are_in_the_help(memviz):
    for command in ("train", "search"):
        shown = memviz(command, "--help").out
        words = set(re.findall(r"[a-z_]+", shown))
        assert {field.name for field in dataclasses.fields(library.TrainConfig)} <= words
        assert {"hits", "false", "alarms", "missing"} <= words
