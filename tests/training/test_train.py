import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import undisturbed
from trainings import SETTINGS, assert_same_result, changed, files, history, run, weights

import memviz
from memviz.images import Split
from memviz.training import fit
from memviz.training.module import Regression


@pytest.mark.parametrize("name", ["toy", "toy-retrain"])
def test_it_learns(table, tmp_path, name):
    model = run(table, tmp_path / "out", changed(epochs=40, learning_rate=0.5, patience=40), name)
    assert model.card.metrics["test_spearman"] > 0.8
    rows = history(tmp_path / "out")
    assert rows["train_mse"].iloc[-1] < rows["train_mse"].iloc[0] / 2
    assert rows["epoch"].tolist() == list(range(1, 41))


def test_the_folder(table, tmp_path):
    out, before = tmp_path / "out", files(tmp_path)
    with undisturbed():
        model = run(table, out)
    made = files(tmp_path) - before
    logs = {name for name in made if name.startswith("out/logs/")}
    assert made - logs == {
        f"out/{name}"
        for name in [
            "model.safetensors", "card.json", "split.json", "photographs.csv", "near_duplicates.csv", "history.csv",
            "manifest.json", ".lock",
            "test/report.json", "test/report.csv", "test/predictions.csv", "test/density.png", "test/density.pdf",
        ]
    }  # fmt: skip
    assert any(name.endswith("metrics.csv") for name in logs)

    listed, divided = pd.read_csv(out / "photographs.csv"), Split.load(out / "split.json")
    assert list(listed) == ["name", "path", "subset", "score", "sha256"]
    assert listed["name"].tolist() == ("bright/" + table["file"]).tolist()
    np.testing.assert_allclose(listed["score"], table["score"])
    for subset, count in {"train": 24, "validation": 8, "test": 8}.items():
        assert set(listed["name"][listed["subset"] == subset]) == set(getattr(divided, subset))
        assert len(getattr(divided, subset)) == count
    wanted = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in listed["path"]]
    assert listed["sha256"].tolist() == wanted

    rows = pd.read_csv(out / "history.csv")
    assert list(rows) == ["epoch", "step", "train_mse", "val_mse", "val_spearman", "seconds"]
    assert rows["step"].tolist() == [3, 6, 9]
    assert rows.notna().all(axis=None)

    predictions = pd.read_csv(out / "test" / "predictions.csv")
    assert set(predictions["path"]) == set(listed["path"][listed["subset"] == "test"])
    again = memviz.load_model(out).score(list(predictions["path"]))
    np.testing.assert_allclose(again["memorability"], predictions["prediction"], rtol=1e-5)

    card, best = model.card, rows.loc[rows["val_spearman"].idxmax()]
    assert (card.architecture, card.seed, card.training, card.distilled_from) == ("toy", 0, SETTINGS.to_dict(), None)
    assert card.split["validation"] == 8
    assert card.data["photographs"] == 40
    for measure in ("val_spearman", "val_mse", "epoch"):
        assert card.metrics[measure] == pytest.approx(best[measure])
    report = json.loads((out / "test" / "report.json").read_text())
    assert card.metrics["test_mse"] == pytest.approx(report["groups"][0]["mse"])
    assert json.loads((out / "manifest.json").read_text())["kind"] == "memviz-training"


def test_the_best_epoch_is_kept(table, tmp_path, monkeypatch):
    """The weights are those of the epoch with the highest validation correlation, here the second of three."""
    states, values = [], [0.1, 0.9, 0.5]
    ended = Regression.on_train_epoch_end

    def end(self):
        self.trainer.callback_metrics["val_spearman"] = torch.tensor(values[self.current_epoch])
        states.append({name: value.clone() for name, value in self.network.state_dict().items()})
        ended(self)

    monkeypatch.setattr(Regression, "on_train_epoch_end", end)
    model = run(table, tmp_path / "out", changed(cache_frozen=False))
    assert model.card.metrics["epoch"] == 2
    for name, value in weights(tmp_path / "out").items():
        assert torch.equal(value, states[1][name]), name


def test_the_same_call_again_returns_at_once(table, tmp_path, monkeypatch):
    first = run(table, tmp_path / "out")
    shutil.rmtree(tmp_path / "photos")
    monkeypatch.setattr(fit, "_run", lambda *args: pytest.fail("trained again"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert run(table, tmp_path / "out").card == first.card
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_branches_move_as_many_times_further_in_a_first_step(table, tmp_path):
    """The gradient into the branches is scaled, by an option that the card records; the head's step is the same."""
    moved = []
    for scale in (1.0, 16.0):
        config = changed(epochs=1, steps_per_epoch=1, initialization="torch", branch_gradient_scale=scale)
        card = run(table, tmp_path / f"{scale:g}", config, "toy-retrain").card
        assert card.training["branch_gradient_scale"] == scale
        moved.append(card.movement)
    for layer, share in moved[0].items():
        assert moved[1][layer] == pytest.approx(share * (1 if layer == "head" else 16), rel=1e-3), layer


def test_the_same_seed_gives_the_same_and_another_another(table, tmp_path):
    for out, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(len(out))  # has no effect
        run(table, tmp_path / out, changed(seed=seed))
    assert_same_result(tmp_path / "one", tmp_path / "same")
    assert not torch.equal(*(weights(tmp_path / out)["alexnet.0.weight"] for out in ("one", "other")))


def test_frozen_outputs_from_disk_give_the_same_result(table, tmp_path):
    run(table, tmp_path / "cached")
    run(table, tmp_path / "computed", changed(cache_frozen=False))
    assert_same_result(tmp_path / "cached", tmp_path / "computed", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
def test_frozen_submodules_stay_as_they_are(table, tmp_path, cached):
    start = memviz.load_model("toy", weights=None)
    trained = run(table, tmp_path / "out", changed(cache_frozen=cached, initialization="torch"))
    for name, tensor in trained.module.state_dict().items():
        moved = not torch.equal(tensor, start.module.state_dict()[name])
        assert moved == (not name.startswith("resnet")), name


def test_what_is_trained_along_moves(table, tmp_path):
    start = memviz.load_model("toy", weights=None)
    trained = run(table, tmp_path / "out", changed(initialization="torch"), "toy-retrain")
    for name in ("resnet.0.weight", "resnet.1.running_mean", "resnet.1.running_var", "resnet.1.weight"):
        assert not torch.equal(trained.module.state_dict()[name], start.module.state_dict()[name]), name
