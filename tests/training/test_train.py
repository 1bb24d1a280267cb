import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import undisturbed
from PIL import Image
from tiny import Toy
from torch import nn
from toys import TOYS, bright

import memviz
from memviz.artefacts import Manifest, locked
from memviz.errors import ImageError, StoreError, TrainingError, WeightsError
from memviz.evaluation import evaluate
from memviz.images import Split, mixed, read_csv, split
from memviz.models import InputSpec, registry
from memviz.models.mean_image import MeanImage
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, fit, store, train
from memviz.training.module import Regression

finishing = sys.modules["memviz.training.train"]
CPU = Runtime(accelerator="cpu")
SETTINGS = TrainConfig(
    recipe="paper", epochs=3, batch_size=8, learning_rate=0.3, patience=10, fractions=(0.6, 0.2, 0.2)
)
HERE = Path(__file__).parent


def run(table, out, config=SETTINGS, name="toy", runtime=CPU, split=None, **start):
    return train(TrainingJob(name, table, config, Start(**start), split, runtime), out)


def changed(**changes):
    return TrainConfig.from_dict(SETTINGS.to_dict() | changes)


def weights(folder):
    return memviz.load_model(folder).module.state_dict()


def history(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def assert_same_result(one, other, **tolerance):
    pd.testing.assert_frame_equal(history(one), history(other), **tolerance)
    torch.testing.assert_close(weights(one), weights(other), **tolerance)


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
    for part, count in {"train": 24, "validation": 8, "test": 8}.items():
        assert set(listed["name"][listed["subset"] == part]) == set(getattr(divided, part))
        assert len(getattr(divided, part)) == count
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


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


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


def test_the_same_seed_gives_the_same_and_another_another(table, tmp_path):
    for out, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(len(out))  # of no account
        run(table, tmp_path / out, changed(seed=seed))
    assert_same_result(tmp_path / "one", tmp_path / "same")
    assert not torch.equal(*(weights(tmp_path / out)["alexnet.0.weight"] for out in ("one", "other")))


def test_frozen_outputs_from_disk_give_the_same_result(table, tmp_path):
    run(table, tmp_path / "cached")
    run(table, tmp_path / "computed", changed(cache_frozen=False))
    assert_same_result(tmp_path / "cached", tmp_path / "computed", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
def test_frozen_parts_stay_as_they_are(table, tmp_path, cached):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": changed(momentum=0.5)}, r"config.momentum 0.9, not 0.5"),
        ({"name": "toy-retrain"}, r"model 'toy', not 'toy-retrain'"),
        ({"split": Split(0, (0.5, 0.5, 0), ("bright/1",), ("bright/2",), ())}, r"another split"),
        ({"table": "fewer"}, r"data.photographs 40, not 39"),
        ({"table": "other scores"}, r"other photographs or scores"),
        ({"weights": True}, r"other starting weights; config.start 'random', not .*"),
    ],
)
def test_other_settings_in_the_same_folder(table, tmp_path, change, message):
    run(table, tmp_path / "out")
    given = {"table": table, "out": tmp_path / "out"} | change
    if change.get("table") == "fewer":
        given["table"] = table.iloc[1:].reset_index(drop=True)
    elif change.get("table") == "other scores":
        given["table"] = table.assign(score=table["score"].iloc[::-1].to_numpy())
    elif "weights" in change:
        given["weights"] = tmp_path / "out"
    with pytest.raises(StoreError, match=message):
        run(**given)


def manifest(**config):
    return Manifest("memviz-training", 1, "toy", config=config)


def claim(out, settings, begun=("last.ckpt",)):
    with store.claimed(out, settings, begun):
        pass


def test_an_option_that_is_no_longer_given(tmp_path):
    claim(tmp_path, manifest(options={"head": "small"}))
    (tmp_path / "last.ckpt").touch()
    claim(tmp_path, manifest(options={"head": "small"}))
    with pytest.raises(StoreError, match=r"config.options.head 'small', not None"):
        claim(tmp_path, manifest(options={}))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "run"):
        with pytest.raises(StoreError, match=r"out is a file"):
            claim(out, manifest())


def test_other_processes_refuse_too_and_write_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "first_process", lambda: False)
        claim(tmp_path / "out", manifest(options={}))
        assert not (tmp_path / "out").exists()
    claim(tmp_path / "out", manifest(a=1))
    (tmp_path / "out/last.ckpt").touch()
    monkeypatch.setattr(store, "first_process", lambda: False)
    with locked(tmp_path / "out"):  # by the first
        claim(tmp_path / "out", manifest(a=1))
    with pytest.raises(StoreError, match=r"config\.a 1, not 2"):
        claim(tmp_path / "out", manifest(a=2))


def test_what_has_not_begun_gives_way(table, tmp_path):
    """A first call that failed does not block its folder: nothing is lost."""
    missing = table.assign(path=["none.png", *table["path"][1:]])
    with pytest.raises(ImageError, match=r"none\.png"):
        run(missing, tmp_path / "out")
    with pytest.raises(TrainingError, match="The validation subset has 1 of"):
        run(table[:4].reset_index(drop=True), tmp_path / "out", changed(fractions=(0.5, 0.25, 0.25)))
    model = run(table, tmp_path / "out", changed(epochs=1))
    assert model.card.data["photographs"] == 40


def test_two_processes_in_one_folder(table, tmp_path):
    claim(tmp_path / "out", TrainingJob("toy", table, SETTINGS, runtime=CPU).manifest(memviz.load_model("toy", None)))
    with locked(tmp_path / "out"), pytest.raises(StoreError, match=r"Another process is writing .*out\. Wait"):
        run(table, tmp_path / "out")
    run(table, tmp_path / "out", changed(epochs=1))


def test_a_checkpoint_that_does_not_fit_on_the_disk(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"last\.ckpt cannot be written \(.*\)\. Make room"):
            fit._WholeFiles().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else(table, tmp_path):
    with pytest.raises(StoreError, match="is no memviz-training: it holds"):
        run(table, tmp_path / "photos")


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


def test_devices_and_precision_are_part_of_the_result(table, tmp_path):
    model = run(table, tmp_path / "out", changed(epochs=1))
    device = model.card.runtime["device"]
    assert device.startswith("CPU (")
    assert model.card.runtime == {"devices": 1, "nodes": 1, "precision": "32-true", "device": device}
    free = Runtime("cpu", precision="32-true", workers=1, logger="tensorboard")
    assert run(table, tmp_path / "out", changed(epochs=1), runtime=free).card == model.card
    mixed = Runtime(accelerator="cpu", precision="bf16-mixed")
    assert run(table, tmp_path / "out", changed(epochs=1), runtime=mixed).card == model.card
    (tmp_path / "out/card.json").rename(tmp_path / "out/last.ckpt")  # as if it were not finished
    for other, was in (
        ({"devices": 2}, "1, not 2"),
        ({"nodes": 2}, "1, not 2"),
        ({"precision": "bf16-mixed"}, "'32-t"),
    ):
        with pytest.raises(StoreError, match=rf"runtime\.{next(iter(other))} {was}"):
            run(table, tmp_path / "out", changed(epochs=1), runtime=Runtime(**{"accelerator": "cpu"} | other))


@pytest.mark.parametrize("target", ["false_alarm_rate", "score + false_alarm_rate as another predicts it"])
def test_scores_of_another_kind(table, tmp_path, target):
    table.attrs["dataset"]["target"] = target
    with pytest.raises(TrainingError, match=re.escape(f"predicts memorability, and what it is to learn is {target}.")):
        run(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_that_says_nothing_of_itself(table, tmp_path):
    table.attrs = {}
    assert run(table, tmp_path / "out", changed(epochs=1)).card.data["photographs"] == 40


def test_photographs_of_a_split_that_the_table_has_not(table, tmp_path):
    fixed = split(table, fractions=(0.5, 0.25, 0.25))
    fixed = dataclasses.replace(fixed, train=(*fixed.train, "elsewhere/a.png"))
    card = run(table, tmp_path / "out", changed(epochs=1), split=fixed).card
    assert (card.split["train"], card.data["photographs"]) == (20, 40)


def changed_toy(monkeypatch, name="toy", **changes):
    monkeypatch.setitem(registry.ARCHITECTURES, name, dataclasses.replace(TOYS[name], **changes))


def test_pretrained_submodules_that_are_not_named_are_torchvisions(table, monkeypatch):
    changed_toy(monkeypatch, backbones={"resnet": "theirs", "alexnet": "theirs too"})
    asked, parts = {}, Toy()
    monkeypatch.setattr(
        "memviz.models.weights.backbone_state",
        lambda source, address: asked.setdefault(address, source) and parts.get_submodule(address).state_dict(),
    )
    start = TrainingJob("toy", table, SETTINGS, Start(backbones={"resnet": Path("mine")})).untrained()
    assert asked == {"resnet": "mine", "alexnet": "theirs too"}
    assert torch.equal(start.module.alexnet[0].weight, parts.alexnet[0].weight)
    asked.clear()
    TrainingJob("toy", table, SETTINGS, Start(backbones={})).untrained()
    assert asked == {}


def test_pretrained_parts_that_would_be_ignored(table, tmp_path):
    for backbones in ({"resnet": "file"}, {}):
        with pytest.raises(TrainingError, match=r"first holds the pretrained submodules already: leave backbones out"):
            run(table, tmp_path / "out", weights=tmp_path / "first", backbones=backbones)
    with pytest.raises(memviz.errors.ModelError, match=r"toy has no pretrained part 'resnet'\. Valid: none"):
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


def test_photographs_that_were_replaced_meanwhile(table, tmp_path, monkeypatch):
    """Not where nothing was learned yet, nor where a file was only touched."""
    with monkeypatch.context() as patch:
        patch.setattr(Regression, "training_step", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out")
    Image.new("RGB", (24, 20), "red").save(table["path"][1])
    with monkeypatch.context() as patch:
        patch.setattr(finishing, "finish", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out")
    os.utime(table["path"][2])
    content = Path(table["path"][3]).read_bytes()
    Image.new("RGB", (24, 20), "blue").save(table["path"][3])
    with pytest.raises(StoreError, match=r"replaced since .* 1 of them: bright/003\.png"):
        run(table, tmp_path / "out")
    Path(table["path"][3]).write_bytes(content)
    run(table, tmp_path / "out")


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


def test_doubles_in_two_sources_stay_together(tmp_path, originals):
    """A photograph in both data sets, in the second at another quality, is in one subset."""
    doubled = ["coffee.png", "rocket.jpg", "chelsea.png", "astronaut.png"]
    for source, quality in (("one", 95), ("two", 60)):
        folder = tmp_path / source
        bright(folder, 12, source)
        rows = pd.read_csv(folder / f"{source}.csv")
        for number, name in enumerate(doubled):
            with Image.open(originals[name]) as image:
                image.convert("RGB").resize((200, 150)).save(folder / f"{name}.jpg", quality=quality)
            rows.loc[len(rows)] = [f"{name}.jpg", 0.1 * number]
        rows.to_csv(folder / f"{source}.csv", index=False)
    table = mixed(*(read_csv(tmp_path / source / f"{source}.csv") for source in ("one", "two")))
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        run(table, out, changed(epochs=1, split_seed=seed))
        parts = pd.read_csv(out / "photographs.csv").set_index("name")["subset"]
        assert parts.index.is_unique
        for name in doubled:
            assert parts[f"one/{name}.jpg"] == parts[f"two/{name}.jpg"]
        pairs = pd.read_csv(out / "near_duplicates.csv")
        assert len(pairs) >= len(doubled)


@pytest.mark.parametrize("recipe", ["lars", "adamw"])
def test_every_recipe_continues_to_the_same_result(table, tmp_path, monkeypatch, recipe):
    config = TrainConfig(recipe=recipe, epochs=4, batch_size=8, patience=10, fractions=(0.6, 0.2, 0.2))
    whole = run(table, tmp_path / "whole", config, "toy-retrain")
    stepped, count = Regression.training_step, []

    def step(self, batch, number):
        count.append(number)
        if len(count) == 8:
            raise MemoryError
        return stepped(self, batch, number)

    monkeypatch.setattr(Regression, "training_step", step)
    with pytest.raises(MemoryError):
        run(table, tmp_path / "out", config, "toy-retrain")
    again = run(table, tmp_path / "out", config, "toy-retrain")
    assert len(count) == 8 + 6
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_the_card_says_how_far_each_trained_layer_moved(table, tmp_path):
    config = changed(epochs=2)
    trained = run(table, tmp_path / "out", config)
    start = TrainingJob("toy", table, config, Start(), runtime=CPU).untrained().module.state_dict()
    moved = trained.card.movement
    assert moved.keys() == {
        address
        for address, layer in trained.module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not address.startswith("resnet")
    }
    for address, share in moved.items():
        before, after = start[f"{address}.weight"], trained.module.state_dict()[f"{address}.weight"]
        assert share == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)


def test_a_branch_that_did_not_learn_is_warned_of(table, tmp_path):
    with pytest.warns(UserWarning, match="The branch alexnet has hardly moved from its random start"):
        run(table, tmp_path / "out", changed(epochs=1, learning_rate=1e-6))


def test_too_few_photographs(table, tmp_path):
    with pytest.raises(TrainingError, match=r"The validation subset has 1 of 4 photographs; it needs 2 or more"):
        run(table.iloc[:4].reset_index(drop=True), tmp_path / "out", changed(fractions=(0.5, 0.25, 0.25)))


def test_no_test_part(table, tmp_path):
    model = run(table, tmp_path / "out", changed(fractions=(0.5, 0.5, 0.0)))
    assert set(model.card.metrics) == {"val_spearman", "val_mse", "epoch"}
    assert not (tmp_path / "out" / "test").exists()


@pytest.mark.parametrize("given", [True, False])
def test_unreadable_photographs_are_left_out(table, tmp_path, given):
    """Also of the card's counts; the split has them, so that it goes with the whole table."""
    drawn = split(table, fractions=SETTINGS.fractions)
    for part in ("train", "validation", "test"):
        Path(tmp_path / "photos" / getattr(drawn, part)[0].removeprefix("bright/")).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"3 unreadable files were skipped:\n.*\.png"):
        model = run(table, tmp_path / "out", split=drawn if given else None)
    saved = Split.load(tmp_path / "out" / "split.json")
    parts = {part: saved.subset(table, part) for part in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 40
    if given:
        assert saved == drawn
    listed = pd.read_csv(tmp_path / "out" / "photographs.csv")["subset"].value_counts()
    assert model.card.data["photographs"] == listed.sum() == 37
    for part in parts:
        readable = sum(Path(path).read_bytes() != b"no picture" for path in parts[part]["path"])
        assert model.card.split[part] == listed[part] == readable
    assert len(pd.read_csv(tmp_path / "out" / "test" / "predictions.csv")) == listed["test"]


def test_a_cache_that_is_shared(table, tmp_path):
    for out in ("one", "two"):
        run(table, tmp_path / out, runtime=Runtime("cpu", cache=tmp_path / "cache"))
        assert not (tmp_path / out / "cache").exists()
    assert len(list((tmp_path / "cache").glob("*-*"))) == 2


def test_epochs_of_a_few_steps(table, tmp_path):
    run(table, tmp_path / "out", changed(steps_per_epoch=2))
    assert history(tmp_path / "out")["step"].tolist() == [2, 4, 6]


def test_fewer_photographs_than_a_batch(table, tmp_path):
    run(table, tmp_path / "out", changed(batch_size=100))
    assert history(tmp_path / "out")["step"].tolist() == [1, 2, 3]


def test_early_stopping(table, tmp_path, monkeypatch):
    pretend(monkeypatch, [0.1, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9])
    model = run(table, tmp_path / "out", changed(epochs=7, patience=3))
    assert history(tmp_path / "out")["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert model.card.metrics["epoch"] == 2


def pretend(monkeypatch, values):
    """The validation correlations of the epochs."""
    ended = Regression.on_train_epoch_end

    def end(self):
        self.trainer.callback_metrics["val_spearman"] = torch.tensor(values[self.current_epoch])
        ended(self)

    monkeypatch.setattr(Regression, "on_train_epoch_end", end)


@pytest.mark.parametrize("values", [[0.5, 0.4, 0.3, 0.9, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5]])
def test_killed_between_training_and_saving(table, tmp_path, monkeypatch, values):
    """Whether it stopped early or after the last epoch: it is not trained further, and all is there."""
    config = changed(epochs=5, patience=2)
    with monkeypatch.context() as patch:
        pretend(patch, values)
        run(table, tmp_path / "whole", config)
        patch.setattr(finishing, "finish", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out", config)
        (tmp_path / "out" / "history.csv").unlink()  # it is written after the checkpoint
        patch.undo()
        patch.setattr(Regression, "training_step", lambda *args: pytest.fail("trained on"))
        model = run(table, tmp_path / "out", config)
    assert_same_result(tmp_path / "out", tmp_path / "whole")
    assert model.card.metrics == memviz.load_model(tmp_path / "whole").card.metrics
    assert "test_spearman" in model.card.metrics
    assert files(tmp_path / "out") >= {"test/report.json", "photographs.csv"}


def test_killed_between_saving_and_tidying(table, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store.shutil, "rmtree", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out")
    run(table, tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {"cache", "last.ckpt", "best.ckpt"}


SCRIPT = f"""
import os, signal, sys
sys.path.insert(0, {str(HERE.parent)!r})
from toys import TOYS, read_csv
from memviz.models import registry
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, fit, store, train
from memviz.training.module import Regression

registry.ARCHITECTURES.update(TOYS)
folder, out = sys.argv[1:3]
settings = dict(recipe="paper", epochs=5, batch_size=8, learning_rate=0.3, patience=10, fractions=(0.6, 0.2, 0.2))
"""


def python(code, *arguments, wait=True, env=None):
    folder = Path(arguments[1]).parent
    script = folder / f"script{len(list(folder.glob('script*')))}.py"
    script.write_text(SCRIPT + textwrap.dedent(code))
    command = [sys.executable, "-W", "error", "-W", "ignore:The branch", str(script), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), **(env or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=folder)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


KILLED = """
def step(self, batch, number, original=Regression.training_step):
    if (self.current_epoch, number) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batch, number)
Regression.training_step = step
job = TrainingJob("toy-retrain", read_csv(folder + "/bright.csv"), TrainConfig(**settings), runtime=Runtime("cpu"))
train(job, out)
"""


@pytest.mark.parametrize(("how", "name"), [("SIGKILL", "toy-retrain"), ("SIGINT", "toy"), ("SIGTERM", "toy-retrain")])
def test_killed_in_the_middle(table, tmp_path, monkeypatch, how, name):
    """In the third epoch; the same call again continues, to the same result."""
    run(table, tmp_path / "whole", changed(epochs=5), name)
    stepped, steps = Regression.training_step, []
    if how == "SIGKILL":
        code, _, errors = python(KILLED, tmp_path / "photos", tmp_path / "out")
        assert code == -signal.SIGKILL, errors
    else:

        def step(self, batch, number):
            if (self.current_epoch, number) == (2, 1):
                os.kill(os.getpid(), getattr(signal, how))
            return stepped(self, batch, number)

        monkeypatch.setattr(Regression, "training_step", step)
        with undisturbed(), pytest.raises(KeyboardInterrupt):
            run(table, tmp_path / "out", changed(epochs=5), name)
    assert (tmp_path / "out" / "last.ckpt").is_file()
    assert not (tmp_path / "out" / "card.json").exists()
    monkeypatch.setattr(Regression, "training_step", lambda self, *args: steps.append(0) or stepped(self, *args))
    run(table, tmp_path / "out", changed(epochs=5), name)
    assert len(steps) == 9  # three whole epochs of three steps
    assert_same_result(tmp_path / "out", tmp_path / "whole", rtol=1e-5, atol=1e-6)


def test_a_folder_that_was_moved_meanwhile(table, tmp_path, monkeypatch):
    """The best epoch of before is still known."""
    values = [0.9, 0.1, 0.2, 0.3]
    pretend(monkeypatch, values)
    config = changed(epochs=4)
    run(table, tmp_path / "whole", config)
    stepped = Regression.training_step

    def stop(self, batch, number):
        if self.current_epoch == 2:
            raise MemoryError
        return stepped(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Regression, "training_step", stop)
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out", config)
    (tmp_path / "out").rename(tmp_path / "moved")
    model = run(table, tmp_path / "moved", config)
    assert model.card.metrics["epoch"] == 1
    assert_same_result(tmp_path / "moved", tmp_path / "whole")
    assert not (tmp_path / "out").exists()


def test_in_a_thread(table, tmp_path):
    """Which may not set the handlers of signals."""
    with ThreadPoolExecutor(1) as pool, undisturbed():
        model = pool.submit(run, table, tmp_path / "out").result()
    assert model.card.metrics["epoch"] >= 1


def test_the_end_of_the_program_is_no_interruption(table, tmp_path, monkeypatch):
    monkeypatch.setattr(Regression, "training_step", lambda *args: sys.exit(7))
    with undisturbed(), pytest.raises(SystemExit, match="7"):
        run(table, tmp_path / "out")


def test_interrupted_while_decoding(table, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, undisturbed():
        patch.setattr(
            "memviz.training.data.compute_features", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGINT)
        )
        with pytest.raises(KeyboardInterrupt):
            run(table, tmp_path / "out")
    assert signal.getsignal(signal.SIGINT) is handler
    run(table, tmp_path / "out")


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("step", [0, 2])
def test_divergence(table, tmp_path, monkeypatch, epoch, step):
    """In the first or a later epoch, and, where only the last step goes wrong, found by the validation."""

    def explode(self, batch, number, original=Regression.training_step):
        loss = original(self, batch, number)
        return loss * float("nan") if (self.current_epoch, number) == (epoch, step) else loss

    monkeypatch.setattr(Regression, "training_step", explode)
    with (
        undisturbed(),
        pytest.raises(TrainingError, match=r"epoch \d.*learning_rate than 0\.3\. It needs a new folder"),
    ):
        run(table, tmp_path / "out", changed(epochs=epoch + 1))
    with undisturbed(), pytest.raises(TrainingError, match="diverged"):
        run(table, tmp_path / "out", changed(epochs=epoch + 1))


@pytest.mark.parametrize(
    "wrong", [{"accelerator": "gpuu"}, {"accelerator": "gpu"}, {"precision": "17"}, {"precision": "bf16-true"}]
)
def test_machines_that_are_not_there(table, tmp_path, wrong):
    if "gpu" in wrong.values() and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with undisturbed(), pytest.raises(TrainingError, match=next(iter(wrong.values()))):
        run(table, tmp_path / "out", runtime=Runtime(**{"accelerator": "cpu"} | wrong))


def test_mixed_precision(table, tmp_path):
    """In bfloat16, which is what the CPU has: steps of 0.004 at 0.7, and weights and validation in 32 bits."""
    run(table, tmp_path / "whole")
    model = run(table, tmp_path / "mixed", runtime=Runtime("cpu", precision="bf16-mixed"))
    assert {value.dtype for value in model.module.parameters()} == {torch.float32}
    whole, mixed = history(tmp_path / "whole"), history(tmp_path / "mixed")
    for measure in ("train_mse", "val_mse"):
        np.testing.assert_allclose(mixed[measure], whole[measure], rtol=0, atol=0.001)
        assert (mixed[measure] != whole[measure]).all()


def test_unknown_names(table, tmp_path):
    with pytest.raises(memviz.errors.ModelError, match="no model 'toyy'"):
        run(table, tmp_path / "out", name="toyy")
    with pytest.raises(WeightsError):
        run(table, tmp_path / "out", weights=tmp_path / "missing.safetensors")
    assert not (tmp_path / "out").exists()


def test_tensorboard(table, tmp_path):
    before = files(tmp_path)
    with undisturbed():
        run(table, tmp_path / "out", runtime=Runtime("cpu", logger="tensorboard"))
    (settings,) = (tmp_path / "out/tensorboard").rglob("hparams.yaml")
    assert {"model: toy", "learning_rate: 0.3"} <= set(settings.read_text().splitlines())
    assert any("events.out" in name and name.startswith("out/tensorboard") for name in files(tmp_path) - before)


WANDB = """
import wandb
for number in range(2):
    config, runtime = TrainConfig(**settings | {"seed": number}), Runtime("cpu", logger="wandb")
    train(TrainingJob("toy", read_csv(folder + "/bright.csv"), config, runtime=runtime), f"{out}/{number}")
    assert wandb.run is None
"""


@pytest.mark.slow
def test_wandb_offline(table, tmp_path):
    home, before = tmp_path / "home", files(tmp_path)
    home.mkdir()
    env = {"WANDB_MODE": "offline", "HOME": str(home), "WANDB_API_KEY": ""}
    code, _, errors = python(WANDB, tmp_path / "photos", tmp_path / "runs", env=env)
    assert code == 0, errors
    made = {name for name in files(tmp_path) - before if not name.startswith(("home/", "script"))}
    assert all(name.startswith("runs/") for name in made), made
    for number in range(2):
        assert len([name for name in made if re.match(rf"runs/{number}/wandb/.*\.wandb$", name)]) == 1


TWO = """
settings = {**settings, "flip": False, "batch_size": 4, "fractions": (0.6, 0.225, 0.175), "cache_frozen": %s}
runtime = Runtime("cpu", devices=2)
model = train(TrainingJob("toy", read_csv(folder + "/bright.csv"), TrainConfig(**settings), runtime=runtime), out)
print("done", model.card.metrics["epoch"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_two_processes(table, tmp_path, cached):
    """As one with batches of twice the size: the processes take every other photograph of the same order.

    24 of them make three steps; of the nine for validation one process takes five, the other four.
    """
    code, output, errors = python(TWO % cached, tmp_path / "photos", tmp_path / "out")
    assert code == 0, errors
    assert output.count("done") == 2
    one = changed(epochs=5, flip=False, batch_size=8, fractions=(0.6, 0.225, 0.175), cache_frozen=cached)
    run(table, tmp_path / "one", one)
    assert history(tmp_path / "out")["step"].tolist() == [3, 6, 9, 12, 15]
    assert_same_result(tmp_path / "out", tmp_path / "one", rtol=1e-4, atol=1e-6)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {"cache", "last.ckpt", "best.ckpt"}
