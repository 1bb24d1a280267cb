import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import undisturbed
from tiny import Toy
from trainings import (
    SETTINGS,
    changed,
    changed_toy,
    run,
    weights,
)

import memviz
from memviz.errors import ImageError, StoreError, TrainingError, WeightsError
from memviz.evaluation import evaluate
from memviz.images import Split, split
from memviz.models import InputSpec
from memviz.models.mean_image import MeanImage
from memviz.training import Runtime, Start, TrainingJob


def test_a_run_that_starts_from_another(table, tmp_path):
    run(table, tmp_path / "first")
    second = run(table, tmp_path / "second", changed(epochs=1, learning_rate=1e-9), weights=tmp_path / "first")
    torch.testing.assert_close(second.module.state_dict(), weights(tmp_path / "first"))
    first = memviz.load_model(tmp_path / "first")
    made = {"folder": str(tmp_path / "first"), "start": first.card.start, "data": first.card.data}
    assert made.items() <= second.card.start.items()
    assert second.card.start["fingerprint"] == first.fingerprint()
    warned = " ".join(evaluate(second, table, resamples=5).warnings)
    assert f"24 of 40 images were in its predecessor {tmp_path / 'first'}'s training subset" in warned


@pytest.mark.parametrize("target", ["false_alarm_rate", "score + false_alarm_rate as another predicts it"])
def test_scores_of_another_kind(table, tmp_path, target):
    table.attrs["dataset"]["target"] = target
    with pytest.raises(TrainingError, match=re.escape(f"predicts memorability, and what it is to learn is {target}.")):
        run(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_that_says_nothing_of_itself(table, tmp_path):
    table.attrs = {}
    assert run(table, tmp_path / "out", changed(epochs=1)).card.data["photographs"] == 40


def test_pretrained_submodules_that_are_not_named_are_torchvisions(table, monkeypatch):
    changed_toy(monkeypatch, backbones={"resnet": "theirs", "alexnet": "theirs too"})
    asked, pretrained = {}, Toy()
    monkeypatch.setattr(
        "memviz.models.weights.backbone_state",
        lambda source, address: asked.setdefault(address, source) and pretrained.get_submodule(address).state_dict(),
    )
    start = TrainingJob("toy", table, SETTINGS, Start(backbones={"resnet": Path("mine")})).untrained()
    assert asked == {"resnet": "mine", "alexnet": "theirs too"}
    assert torch.equal(start.module.alexnet[0].weight, pretrained.alexnet[0].weight)
    asked.clear()
    TrainingJob("toy", table, SETTINGS, Start(backbones={})).untrained()
    assert asked == {}


def test_pretrained_submodules_that_would_be_ignored(table, tmp_path):
    for backbones in ({"resnet": "file"}, {}):
        with pytest.raises(TrainingError, match=r"first holds the pretrained submodules already: leave backbones out"):
            run(table, tmp_path / "out", weights=tmp_path / "first", backbones=backbones)
    with pytest.raises(memviz.errors.ModelError, match=r"toy has no pretrained submodule 'resnet'\. Valid: none"):
        run(table, tmp_path / "out", backbones={"resnet": "file"})


def test_options_are_those_of_the_model_it_starts_from(table, tmp_path, monkeypatch):
    changed_toy(monkeypatch, build=lambda head="paper": Toy(), options={"head": ("paper", "small")})
    run(table, tmp_path / "first", changed(epochs=1), options={"head": "small"})
    second = run(table, tmp_path / "second", changed(epochs=1), weights=tmp_path / "first")
    assert second.card.options == {"head": "small"}


class Linear(Toy):
    """Without the sigmoid."""

    def forward(self, pictures):
        return torch.cat([self.alexnet(pictures), self.resnet(pictures)], 1).mean((2, 3)) @ self.head.weight.T + (
            self.head.bias
        )


def test_a_start_at_random_predicts_the_mean_of_the_training_scores(table, tmp_path, monkeypatch):
    """The constant 0.75, above most scores, made the first steps push all down, the brightest most."""
    changed_toy(monkeypatch, build=Linear)
    still = run(table, tmp_path / "still", changed(epochs=1, learning_rate=1e-9))
    scores = pd.read_csv(tmp_path / "still/photographs.csv").groupby("subset")["score"]
    mean = scores.mean()["train"]
    assert still.card.start["score"] == pytest.approx(mean)
    error = ((scores.get_group("validation") - mean) ** 2).mean()
    assert still.card.metrics["val_mse"] == pytest.approx(error, rel=0.02)
    learned = run(table, tmp_path / "out", changed(epochs=1, learning_rate=0.01))
    assert learned.card.metrics["val_spearman"] > 0.5


def test_a_mean_image(table, tmp_path, monkeypatch):
    changed_toy(monkeypatch, inputs=InputSpec(size=(16, 16), resize=(18, 18), mean=(0.5, 0.5, 0.5)))
    for name in ("one", "other"):
        np.save(tmp_path / f"{name}.npy", np.full((18, 18, 3), len(name) / 10, dtype=np.float32))
    model = run(table, tmp_path / "out", changed(epochs=1), mean=tmp_path / "one.npy")
    assert model.inputs.mean_image == MeanImage(tmp_path / "one.npy")
    with pytest.raises(StoreError, match=r"another mean image"):
        run(table, tmp_path / "out", changed(epochs=1), mean=tmp_path / "other.npy")


def test_a_split_that_is_given(table, tmp_path):
    fixed = split(table, seed=5, fractions=(0.5, 0.25, 0.25))
    run(table, tmp_path / "out", split=fixed)
    assert Split.load(tmp_path / "out" / "split.json") == fixed
    card = memviz.load_model(tmp_path / "out").card
    assert (card.split["seed"], card.split["train"]) == (5, 20)


def test_a_split_of_other_photographs(table, tmp_path):
    fixed = split(table.iloc[1:].reset_index(drop=True))
    with pytest.raises(ImageError, match=r"does not say to which subset.*bright/000\.png"):
        run(table, tmp_path / "out", split=fixed)


def test_photographs_of_a_split_that_the_table_has_not(table, tmp_path):
    fixed = split(table, fractions=(0.5, 0.25, 0.25))
    fixed = dataclasses.replace(fixed, train=(*fixed.train, "elsewhere/a.png"))
    card = run(table, tmp_path / "out", changed(epochs=1), split=fixed).card
    assert (card.split["train"], card.data["photographs"]) == (20, 40)


def test_unknown_names(table, tmp_path):
    with pytest.raises(memviz.errors.ModelError, match="no model 'toyy'"):
        run(table, tmp_path / "out", name="toyy")
    with pytest.raises(WeightsError):
        run(table, tmp_path / "out", weights=tmp_path / "missing.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", [{"accelerator": "gpuu"}, {"accelerator": "gpu"}, {"precision": "17"}, {"precision": "bf16-true"}]
)
def test_machines_that_are_not_there(table, tmp_path, wrong):
    if "gpu" in wrong.values() and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with undisturbed(), pytest.raises(TrainingError, match=next(iter(wrong.values()))):
        run(table, tmp_path / "out", runtime=Runtime(**{"accelerator": "cpu"} | wrong))
