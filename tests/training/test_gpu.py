"""On an NVIDIA GPU, where batches are read ahead by other processes into pinned memory."""

import pandas as pd
import pytest
import torch

from memviz.training import Runtime, TrainConfig, TrainingJob, train
from memviz.training.module import Regression

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # since Python 3.12
]
SETTINGS = {
    "recipe": "paper",
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 0.3,
    "patience": 10,
    "fractions": (0.6, 0.2, 0.2),
}
stepped = Regression.training_step


def assert_nearly(one, other, tolerance):
    """The same errors in each epoch; not the rank correlations, since close predictions may change places."""
    columns = ["epoch", "step", "train_mse", "val_mse"]
    found, wanted = (pd.read_csv(model.folder / "history.csv")[columns] for model in (one, other))
    pd.testing.assert_frame_equal(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("precision", "used"), [("auto", "16-mixed"), ("32-true", "32-true")])
def test_nearly_the_result_of_the_cpu(table, tmp_path, monkeypatch, precision, used, cached):
    """With flips, which are drawn on the CPU."""
    seen = []

    def step(self, batch, number):
        loader = self.trainer.train_dataloader
        where = {batch.pixels.device.type, batch.scores.device.type, *(x.device.type for x in batch.frozen.values())}
        seen.append((self.trainer.precision, where, loader.pin_memory, loader.num_workers))
        return stepped(self, batch, number)

    config = TrainConfig(**SETTINGS, cache_frozen=cached)
    here = train(TrainingJob("toy", table, config, runtime=Runtime("cpu")), tmp_path / "cpu")
    monkeypatch.setattr(Regression, "training_step", step)
    there = train(TrainingJob("toy", table, config, runtime=Runtime(precision=precision)), tmp_path / "gpu")
    assert seen == [(used, {"cuda"}, True, 2)] * 12
    assert_nearly(there, here, 0.001)
    frozen, weights = here.module.resnet.state_dict(), there.module.state_dict()
    assert all(torch.equal(weights[f"resnet.{name}"], value) for name, value in frozen.items())
    assert {value.dtype for value in there.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["toy", "toy-retrain"])
def test_it_continues(table, tmp_path, monkeypatch, name):
    config, count = TrainConfig(**SETTINGS), []
    job = TrainingJob(name, table, config)
    whole = train(job, tmp_path / "whole")

    def step(self, batch, number):
        count.append(number)
        if len(count) == 8:  # in the third epoch
            raise MemoryError
        return stepped(self, batch, number)

    monkeypatch.setattr(Regression, "training_step", step)
    with pytest.raises(MemoryError):
        train(job, tmp_path / "out")
    again = train(job, tmp_path / "out")
    assert len(count) == 8 + 6
    assert_nearly(again, whole, 0.0001)
