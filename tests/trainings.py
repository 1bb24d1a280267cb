"""Trainings of toys, and what they leave, for the tests of the training room."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import torch
from toys import TOYS

import memviz
from memviz.models import registry
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, train
from memviz.training.module import Regression

CPU = Runtime(accelerator="cpu")
SETTINGS = TrainConfig(
    recipe="paper",
    initialization="he",
    epochs=3,
    batch_size=8,
    learning_rate=0.3,
    patience=10,
    fractions=(0.6, 0.2, 0.2),
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


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def pretend(monkeypatch, values):
    """The validation correlations of the epochs."""
    ended = Regression.on_train_epoch_end

    def end(self):
        self.trainer.callback_metrics["val_spearman"] = torch.tensor(values[self.current_epoch])
        ended(self)

    monkeypatch.setattr(Regression, "on_train_epoch_end", end)


def changed_toy(monkeypatch, name="toy", **changes):
    monkeypatch.setitem(registry.ARCHITECTURES, name, dataclasses.replace(TOYS[name], **changes))


SCRIPT = f"""
import os, signal, sys
sys.path.insert(0, {str(HERE)!r})
from toys import TOYS, read_csv
from memviz.models import registry
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, fit, store, train
from memviz.training.module import Regression

registry.ARCHITECTURES.update(TOYS)
folder, out = sys.argv[1:3]
settings = {dict(SETTINGS.to_dict(), epochs=5)!r}
"""


def python(code, *arguments, wait=True, env=None):
    folder = Path(arguments[1]).parent
    script = folder / f"script{len(list(folder.glob('script*')))}.py"
    script.write_text(SCRIPT + textwrap.dedent(code))
    command = [sys.executable, "-W", "error", "-W", "ignore:The branch", str(script), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent), **(env or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=folder)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors
