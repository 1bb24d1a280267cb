import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import undisturbed
from trainings import assert_same_result, changed, files, pretend, python, run

import memviz
from memviz.training import TrainConfig, store
from memviz.training.module import Regression

finishing = sys.modules["memviz.training.train"]


@pytest.mark.parametrize("values", [[0.5, 0.4, 0.3, 0.9, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5]])
def test_killed_between_training_and_saving(table, tmp_path, monkeypatch, values):
    """Whether it stopped early or after the last epoch, it is not trained further, and every file is written."""
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
    """Killed in the third epoch; the repeated call continues, to the same result."""
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
    """The best epoch from before the move still counts."""
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


@pytest.mark.parametrize(("recipe", "start"), [("lars", "he"), ("adamw", "normalized")])
def test_every_recipe_continues_to_the_same_result(table, tmp_path, monkeypatch, recipe, start):
    config = TrainConfig(
        recipe=recipe, initialization=start, epochs=4, batch_size=8, patience=10, fractions=(0.6, 0.2, 0.2)
    )
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


def test_in_a_thread(table, tmp_path):
    """A thread may not set signal handlers."""
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
