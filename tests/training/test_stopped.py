import importlib

import pandas as pd
import pytest

from memviz.training import TrainConfig, train

module = importlib.import_module("memviz.training.train")


def test_killed_after_the_last_epoch_of_an_early_stop(table, tmp_path, monkeypatch):
    """Nothing is left to train: the history, the best weights and the test part come from the folder."""
    config = TrainConfig(epochs=9, patience=1, learning_rate=1e-6, batch_size=8)
    whole = train("toy-retrain", table, tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish", _killed)
        with pytest.raises(SystemError):
            train("toy-retrain", table, tmp_path / "run", config)
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert len(history) < 9
    (tmp_path / "run/history.csv").unlink()  # it is written after the checkpoint
    again = train("toy-retrain", table, tmp_path / "run", config)
    assert again.fingerprint() == whole.fingerprint()
    assert again.card.metrics == whole.card.metrics
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run/history.csv"), history)
    assert (tmp_path / "run/test/report.json").is_file()


def _killed(*_):
    raise SystemError
