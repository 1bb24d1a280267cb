import re

import numpy as np
import pytest
import torch
from helpers import undisturbed
from trainings import assert_same_result, changed, files, history, pretend, python, run

from memviz.errors import StoreError, TrainingError
from memviz.training import Runtime, fit
from memviz.training.module import Regression


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


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize(("step", "scale", "advice"), [(0, 1.0, r"0\.3\."), (2, 5.0, r"0\.3, or branch_\w+ than 5\.")])
def test_divergence(table, tmp_path, monkeypatch, epoch, step, scale, advice):
    """In the first or a later epoch, and, where only the last step goes wrong, found by the validation."""

    def explode(self, batch, number, original=Regression.training_step):
        loss = original(self, batch, number)
        return loss * float("nan") if (self.current_epoch, number) == (epoch, step) else loss

    monkeypatch.setattr(Regression, "training_step", explode)
    config = changed(epochs=epoch + 1, branch_gradient_scale=scale)
    with (
        undisturbed(),
        pytest.raises(TrainingError, match=rf"epoch \d.*learning_rate than {advice} It needs a new folder"),
    ):
        run(table, tmp_path / "out", config)
    with undisturbed(), pytest.raises(TrainingError, match="diverged"):
        run(table, tmp_path / "out", config)


def test_mixed_precision(table, tmp_path):
    """In bfloat16, which is what the CPU has: steps of 0.004 at 0.7, and weights and validation in 32 bits."""
    run(table, tmp_path / "whole")
    model = run(table, tmp_path / "mixed", runtime=Runtime("cpu", precision="bf16-mixed"))
    assert {value.dtype for value in model.module.parameters()} == {torch.float32}
    whole, mixed = history(tmp_path / "whole"), history(tmp_path / "mixed")
    for measure in ("train_mse", "val_mse"):
        np.testing.assert_allclose(mixed[measure], whole[measure], rtol=0, atol=0.001)
        assert (mixed[measure] != whole[measure]).all()


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
    """The result equals that of one with batches of twice the size: each takes every other photograph of one order.

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
