import importlib
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers import undisturbed
from PIL import Image

from memviz import files
from memviz.artefacts import locked
from memviz.errors import ImageError, StoreError, TrainingError
from memviz.files import _HOST, WRITING
from memviz.images import Split
from memviz.training import Runtime, TrainConfig, TrainingJob, search, train
from memviz.training.search import _next, _study, best
from memviz.training.store import BEST, LAST

module = importlib.import_module("memviz.training.search")
COLUMNS = ["number", "state", "learning_rate", "momentum", "val_spearman", "val_mse", "epochs", "folder"]
QUICK = TrainConfig(recipe="paper", epochs=2, batch_size=8, fractions=(0.6, 0.2, 0.2))
RANGES = {"learning_rate": (1e-5, 1e-1), "momentum": (0.5, 0.99)}


def run(table, out, trials=2, config=QUICK, name="toy-retrain", split=None, runtime=None, **ranges):
    job = TrainingJob(name, table, config, split=split, runtime=runtime or Runtime("cpu"))
    return search(job, out, trials, progress=False, **ranges)


@pytest.fixture
def folder(tmp_path):
    """Characters that have a meaning in a URL."""
    return tmp_path / "a {search}? #%25"


def test_table_figure_and_small_files(table, folder, capfd):
    level = logging.getLogger("optuna").level
    with undisturbed():
        found = run(table, folder, trials=3)
    assert logging.getLogger("optuna").level == level
    assert capfd.readouterr() == ("", "")
    assert list(found) == COLUMNS
    assert found["number"].tolist() == [0, 1, 2]
    assert set(found["state"]) == {"finished"}
    assert found["learning_rate"].between(1e-5, 1e-1).all()
    assert found["momentum"].between(0.5, 0.99).all()
    assert found[["learning_rate", "momentum"]].nunique().tolist() == [3, 3]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "trials.csv"), found, check_dtype=False)
    for _, trial in found.iterrows():
        history = pd.read_csv(folder / trial["folder"] / "history.csv")
        assert len(history) == trial["epochs"] == 2
        assert history["val_spearman"].max() == trial["val_spearman"]
        assert history["val_mse"][history["val_spearman"].idxmax()] == trial["val_mse"]
        assert (
            json.loads((folder / trial["folder"] / "manifest.json").read_text())["config"]["momentum"]
            == trial["momentum"]
        )
    with Image.open(folder / "search.png") as image:
        assert image.width == pytest.approx(85 / 25.4 * 300, abs=1)
    assert (folder / "search.pdf").is_file()
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {
        "", ".csv", ".db", ".json", ".pdf", ".png", ".yaml",
    }  # fmt: skip


def test_trials_share_the_split_and_the_photographs(table, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("memviz.training.cache.sha256", lambda path: read.append(path) or files.sha256(path))
    found = run(table, tmp_path / "out", runtime=Runtime("cpu", cache=tmp_path / "cache"))
    assert sorted(read) == sorted(table["path"])
    assert len([*tmp_path.rglob("split.json")]) == len([*tmp_path.rglob("photographs.csv")]) == 1
    subsets = Split.load(tmp_path / "out/split.json")
    assert [len(subsets.train), len(subsets.validation), len(subsets.test)] == [24, 8, 8]
    again = run(table, tmp_path / "given", split=subsets, runtime=Runtime("cpu", cache=tmp_path / "cache"))
    pd.testing.assert_frame_equal(again, found)
    assert len(read) == len(table)


@pytest.mark.parametrize("cached", [True, False])
def test_frozen_submodules_run_once_for_all_trials(table, tmp_path, cached):
    config = TrainConfig.from_dict(QUICK.to_dict() | {"cache_frozen": cached})
    found = run(table, tmp_path / "out", 3, config, "toy")
    assert len([*tmp_path.rglob("resnet-*")]) == cached
    last = found.iloc[-1]
    job = TrainingJob("toy", table, config).with_config(**{name: float(last[name]) for name in RANGES})
    alone = train(job, tmp_path / "alone", progress=False)
    assert alone.card.metrics["val_spearman"] == last["val_spearman"]


def test_more_trials_are_added_as_if_asked_for_at_once(table, tmp_path, monkeypatch):
    whole = run(table, tmp_path / "whole", trials=10)  # beyond the spread ones
    run(table, tmp_path / "out", trials=1)
    run(table, tmp_path / "out", trials=9)
    pd.testing.assert_frame_equal(run(table, tmp_path / "out", trials=10), whole)
    monkeypatch.setattr(module, "fit", None)
    shutil.rmtree(tmp_path / "out/cache")
    pd.testing.assert_frame_equal(run(table, tmp_path / "out", trials=2), whole)


def test_the_first_trials_are_spread_evenly(tmp_path):
    with _study(tmp_path) as study:
        drawn = []
        for _ in range(8):
            number, settings = _next(study, RANGES, seed=0)
            study.tell(number, 0.0)
            drawn.append(settings)
    rates = [8 * (math.log10(settings["learning_rate"]) + 5) / 4 for settings in drawn]
    momenta = [8 * (settings["momentum"] - 0.5) / 0.49 for settings in drawn]
    assert sorted(map(int, rates)) == sorted(map(int, momenta)) == list(range(8))


def test_later_trials_go_where_the_best_were(tmp_path):
    with _study(tmp_path) as study:
        for _ in range(40):
            number, settings = _next(study, RANGES, seed=0)
            study.tell(number, settings["momentum"])
    momenta = [trial.params["momentum"] for trial in study.trials]
    assert sum(momenta[20:]) / 20 > 0.85


KILLED = """
import sys, torch
sys.path[:0] = {path!r}
torch.set_num_threads(1)
from toys import TOYS
from memviz.images import read_csv
from memviz.models.registry import ARCHITECTURES
from memviz.training import TrainConfig, TrainingJob, search
ARCHITECTURES.update(TOYS)
job = TrainingJob("toy-retrain", read_csv({csv!r}), TrainConfig.from_dict({config!r}))
search(job, {out!r}, trials=3, progress=False)
"""


def test_killed_in_the_middle_of_a_trial(table, tmp_path):
    """The search continues within the trial, to the same table as without the interruption."""
    config = TrainConfig.from_dict(QUICK.to_dict() | {"epochs": 12, "patience": 12})
    whole = run(table, tmp_path / "whole", trials=3, config=config)
    out = tmp_path / "out"
    (csv,) = (tmp_path / "photos").glob("*.csv")
    root = Path(__file__).parents[2]
    code = KILLED.format(path=[str(root), str(root / "tests")], csv=str(csv), out=str(out), config=config.to_dict())
    process = subprocess.Popen([sys.executable, "-c", code])
    last = out / "trials/001" / LAST
    limit = time.monotonic() + 120
    while not last.is_file():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = json.loads((out / "trials/001/manifest.json").read_text())["created"]
    before = os.stat(out / "trials/000/history.csv").st_mtime_ns
    found = run(table, out, trials=3, config=config)
    pd.testing.assert_frame_equal(found, whole)
    assert json.loads((out / "trials/001/manifest.json").read_text())["created"] == started
    assert os.stat(out / "trials/000/history.csv").st_mtime_ns == before
    assert not [*out.rglob("*.ckpt")]


def test_the_interrupted_trial_continues_from_its_last_epoch(table, tmp_path, monkeypatch):
    config = TrainConfig.from_dict(QUICK.to_dict() | {"epochs": 4, "patience": 4})
    whole = run(table, tmp_path / "whole", trials=1, config=config)
    with monkeypatch.context() as patch:
        patch.setattr("memviz.training.module.Regression.on_validation_epoch_end", _interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            run(table, tmp_path / "out", trials=1, config=config)
    epochs = []
    monkeypatch.setattr(
        "memviz.training.module.Regression.on_validation_epoch_end",
        lambda module: epochs.append(module.current_epoch),
        raising=False,
    )
    pd.testing.assert_frame_equal(run(table, tmp_path / "out", trials=1, config=config), whole)
    assert epochs == [2, 3]


def _interrupt(module):
    if module.current_epoch == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("ends", ["early", "at its last epoch"])
def test_killed_after_training_and_before_it_was_reported(table, tmp_path, monkeypatch, ends):
    config = TrainConfig.from_dict(QUICK.to_dict() | {"epochs": 6, "patience": 1 if ends == "early" else 6})
    rates = (1e-7, 1e-6) if ends == "early" else (1e-3, 1e-2)
    whole = run(table, tmp_path / "whole", trials=2, config=config, learning_rate=rates)
    assert (whole["epochs"] < 6).all() == (ends == "early")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("optuna.Study.tell", _killed)
        with pytest.raises(SystemError):
            run(table, out, trials=2, config=config, learning_rate=rates)
    assert (out / "trials/000" / LAST).is_file()
    (out / "trials/000/history.csv").unlink()
    pd.testing.assert_frame_equal(run(table, out, trials=2, config=config, learning_rate=rates), whole)


def test_killed_after_it_was_reported_leaves_no_checkpoints(table, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_remove_checkpoints", _killed)
        with pytest.raises(SystemError):
            run(table, tmp_path / "out")
    left = tmp_path / f"out/trials/000/{WRITING}{_HOST}-999999999-x.ckpt"
    left.write_text("half of a checkpoint")
    assert (tmp_path / "out/trials/000" / BEST).is_file()
    assert len(run(table, tmp_path / "out")) == 2
    assert not [*(tmp_path / "out").rglob("*.ckpt")]


def test_killed_while_a_trial_was_drawn(table, tmp_path, monkeypatch):
    whole = run(table, tmp_path / "whole")
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("optuna.Trial._suggest", _killed)
        with pytest.raises(SystemError):
            run(table, tmp_path / "out")
    found = run(table, tmp_path / "out")
    assert found["number"].tolist() == [1, 2]
    values = ["learning_rate", "momentum", "val_spearman"]
    pd.testing.assert_frame_equal(found[values], whole[values])


def _killed(*_, **__):
    raise SystemError


def test_a_trial_that_diverges_ends_only_itself(table, tmp_path):
    found = run(table, tmp_path / "out", trials=2, learning_rate=(1e38, 1e38), momentum=(0.9, 0.9))
    assert found["state"].tolist() == ["failed", "failed"]
    assert found["val_spearman"].isna().all()
    assert not (tmp_path / "out/search.png").exists()
    assert not [*(tmp_path / "out").rglob("*.ckpt")]
    assert best(found).empty
    assert len(run(table, tmp_path / "out", trials=2, learning_rate=(1e38, 1e38), momentum=(0.9, 0.9))) == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"config": TrainConfig.from_dict(QUICK.to_dict() | {"epochs": 3})}, r"config\.epochs 2, not 3"),
        ({"momentum": (0.5, 0.9)}, r"config\.ranges\.momentum \[0\.5, 0\.99\], not \[0\.5, 0\.9\]"),
        ({"split": Split(0, (0.5, 0.5, 0), (), (), ())}, r"another split"),
    ],
)
def test_a_search_with_other_settings_is_refused(table, tmp_path, changed, reason):
    run(table, tmp_path / "out", trials=1)
    with pytest.raises(StoreError, match=f"holds another result: {reason}\\. Give another folder"):
        run(table, tmp_path / "out", **changed)


def test_two_processes_in_one_folder(table, tmp_path):
    run(table, tmp_path / "out", trials=1)
    with locked(tmp_path / "out"), pytest.raises(StoreError, match=r"Another process is writing .*out\. Wait"):
        run(table, tmp_path / "out")


def test_a_search_that_has_not_begun_gives_way(table, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", _killed)
        with pytest.raises(SystemError):
            run(table, tmp_path / "out")
    found = run(table, tmp_path / "out", momentum=(0.5, 0.9))
    pd.testing.assert_frame_equal(found, run(table, tmp_path / "whole", momentum=(0.5, 0.9)))


def test_other_photographs_and_another_model_are_refused(table, tmp_path):
    run(table, tmp_path / "out", trials=1)
    with pytest.raises(StoreError, match=r"data\.photographs 40, not 39"):
        run(table[1:].reset_index(drop=True), tmp_path / "out")
    with pytest.raises(StoreError, match="model 'toy-retrain', not 'toy'"):
        run(table, tmp_path / "out", name="toy")


def test_learning_rate_and_momentum_of_the_config_do_not_count(table, tmp_path):
    found = run(table, tmp_path / "out")
    other = TrainConfig.from_dict(QUICK.to_dict() | {"learning_rate": 0.5, "momentum": 0.1})
    pd.testing.assert_frame_equal(run(table, tmp_path / "out", config=other), found)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"learning_rate": (0.1, 0.01)},
            r"learning_rate must be the lowest and the highest value; given was \(0.1, 0.01",
        ),
        ({"learning_rate": (0, 0.01)}, "learning_rate must be above 0"),
        ({"momentum": (0.5, 1)}, "momentum must be from 0 to below 1"),
        ({"trials": 0}, "trials must be 1 or more"),
        ({"runtime": Runtime(devices=2)}, "A search trains on one device; given were 1 x 2"),
    ],
)
def test_what_is_not_possible_is_refused_before_anything_is_made(table, tmp_path, settings, reason):
    with pytest.raises(TrainingError, match=reason):
        run(table, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_what_no_trial_can_do_ends_the_search(table, tmp_path):
    with pytest.raises(TrainingError, match="The validation subset has 1 of 3 photographs"):
        run(table[:3], tmp_path / "few", config=TrainConfig(fractions=(0.6, 0.3, 0.1)))
    missing = table.assign(path=["none.png", *table["path"][1:]])
    with pytest.raises(ImageError, match=r"none\.png"):
        run(missing, tmp_path / "missing")
