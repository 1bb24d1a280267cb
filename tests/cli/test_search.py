import shlex

import numpy as np
import pandas as pd
import pytest

import memviz as library
from memviz.training.search import best

QUICK = ("--set", "epochs=1", "--set", "batch_size=4", "--set", "fractions=[0.5, 0.25, 0.25]", "--accelerator", "cpu")


@pytest.fixture
def scored(photos):
    """A CSV with a score for each of the twelve photographs."""
    table = pd.DataFrame({"path": sorted(path.name for path in photos.iterdir()), "score": np.linspace(0.4, 0.9, 12)})
    table.to_csv(photos / "scores.csv", index=False)
    return photos / "scores.csv"


def test_best_trials_the_figure_and_what_to_type_next(memviz, tiny, scored, tmp_path):
    out = tmp_path / "a search"
    ranges = ("--learning-rate", "1e-4:1e-2", "--momentum", ".8:.9")
    done = memviz("search", tiny, "--data", f"csv={scored}", "--out", out, "--trials", 2, *ranges, *QUICK)
    assert done.code == 0, done.err
    found = pd.read_csv(out / "trials.csv")
    assert found["learning_rate"].between(1e-4, 1e-2).all()
    assert found["momentum"].between(0.8, 0.9).all()
    lines = done.out.splitlines()
    assert lines[0].split() == ["number", "learning_rate", "momentum", "val_spearman", "val_mse", "epochs", "folder"]
    order = best(found)
    assert [int(line.split()[0]) for line in lines[1:3]] == order["number"].tolist()
    assert lines[3] == f"2 trials: {out / 'trials.csv'}"
    assert lines[4] == f"Validation along training: {out / 'search.png'} and .pdf"
    assert (out / "search.png").is_file()
    assert "Trial 2 of 2: η = " in done.err
    program, *words = shlex.split(lines[-1])
    assert program == "memviz"
    assert memviz(*words, "--set", "epochs=1").code == 0
    card = library.load_model(f"{out}-best").card
    top = order.iloc[0]
    assert card.training["learning_rate"] == pytest.approx(top["learning_rate"], rel=0.01)
    assert card.training["momentum"] == pytest.approx(top["momentum"], rel=0.01)
    assert card.training["batch_size"] == 4
    assert card.metrics["val_spearman"] == pytest.approx(top["val_spearman"], abs=0.3)
    assert [*tmp_path.rglob("pixels-*")] == [*(out / "cache").glob("pixels-*")]


def test_settings_of_a_file_and_of_the_call_are_in_what_to_type_next(memviz, tiny, scored, tmp_path):
    (tmp_path / "mine.toml").write_text("weight_decay = 0.001\n")
    arguments = ("--config", tmp_path / "mine.toml", "--cache", tmp_path / "shared", "--trials", 1, *QUICK)
    done = memviz("search", tiny, "--data", f"csv={scored}", "--out", tmp_path / "out", *arguments)
    assert done.code == 0, done.err
    command = done.out.splitlines()[-1]
    assert "epochs=" not in command  # a trial's few
    for part in (f"--config {tmp_path / 'mine.toml'}", f"--cache {tmp_path / 'shared'}", "--set batch_size=4"):
        assert part in command
    assert not (tmp_path / "out/cache").exists()


def test_scores_of_a_teacher(memviz, tiny, photos, scored, tmp_path):
    teacher = tmp_path / "teacher"
    assert memviz("train", tiny, "--data", f"csv={scored}", "--out", teacher, *QUICK).code == 0
    arguments = ("--teacher", teacher, "--images", photos, "--out", tmp_path / "out", "--trials", 1, *QUICK)
    done = memviz("search", tiny, *arguments)
    assert done.code == 0, done.err
    assert f"--teacher {teacher} --images {photos}" in done.out
    assert memviz(*shlex.split(done.out.splitlines()[-1])[1:], "--set", "epochs=1").code == 0


def test_where_no_trial_finished(memviz, tiny, scored, tmp_path):
    data = ("--data", f"csv={scored}", "--out", tmp_path / "out", *QUICK, "--set", "epochs=4", "--set", "recipe=paper")
    done = memviz("search", tiny, *data, "--trials", 1, "--learning-rate", "1e38:1e38", "--momentum", ".9:.9")
    assert done.code == 1
    assert "All 1 trials failed. Give a new --out, and --learning-rate with a lower end than 1e+38" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 2, "either --data, or --teacher with --images"),
        (("--data", "csv", "--learning-rate", "0.1"), 2, "'0.1': write LOWEST:HIGHEST, as 1e-5:1e-1"),
        (("--data", "csv", "--momentum", "a:b"), 2, "'a:b': write LOWEST:HIGHEST"),
        (("--data", "csv", "--momentum", "0.9:0.5"), 1, "momentum must be the lowest and the highest"),
        (("--data", "csv", "--trials", "0"), 2, "--trials"),
        (("--data", "csv", "--mean", "mean.npy"), 1, "subtracts no mean"),
        (("--data", "csv", "--option", "trials=3"), 1, "has no option trials='3'"),
    ],
)
def test_what_is_not_possible(memviz, tiny, scored, tmp_path, arguments, code, reason):
    given = [f"csv={scored}" if word == "csv" else word for word in arguments]
    done = memviz("search", tiny, "--out", tmp_path / "out", *given)
    assert done.code == code
    assert reason in done.err
    assert not (tmp_path / "out").exists()
