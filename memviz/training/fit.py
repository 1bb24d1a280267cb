"""Lightning's training loop: checkpoints, history and loggers; global state is restored afterwards."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException

from memviz.errors import StoreError, TrainingError
from memviz.files import replacing
from memviz.models import Model
from memviz.models.registry import architecture
from memviz.training.config import Runtime, TrainConfig
from memviz.training.data import Photographs
from memviz.training.job import TrainingJob
from memviz.training.module import Regression
from memviz.training.store import BEST, HISTORY, LAST


def fit(
    job: TrainingJob, start: Model, photographs: Photographs, out: Path, progress: bool | None
) -> tuple[Regression, Trainer]:
    """Trains `start` in place, up to the last epoch; writes the history and the checkpoints to `out`.

    Submodules whose outputs are cached in `photographs` must have been taken out of `start`, see `without`.
    """
    frozen = () if photographs.frozen else architecture(start.name).frozen
    with _quiet():
        pretrained = tuple(job.start.sources(job.model))
        module = Regression(
            start.module, start.inputs, start.score_spec, frozen, job.config, job.initialized, pretrained
        )
        return module, _run(job, module, photographs, out, progress)


def _run(job: TrainingJob, module: Regression, photographs: Photographs, out: Path, progress: bool | None) -> Trainer:
    config, runtime = job.config, job.runtime
    precision: Any = runtime.to_dict()["precision"]
    several = runtime.devices * runtime.nodes > 1
    bar = progress is not False and sys.stderr.isatty()
    trainer = Trainer(
        accelerator=runtime.accelerator,
        devices=runtime.devices,
        num_nodes=runtime.nodes,
        # The other processes wait while the first one decodes.
        strategy=DDPStrategy(timeout=timedelta(hours=24)) if several else "auto",
        precision=precision,
        max_epochs=_epochs(out / LAST, config),
        limit_train_batches=config.steps_per_epoch,
        logger=_logger(runtime, out),
        callbacks=[
            _History(out, progress is True and not bar),
            EarlyStopping("val_spearman", mode="max", patience=config.patience, check_finite=False),
            # The best is saved before the last, so that a run that continues from the last has the best.
            *(
                _Checkpoint(
                    out,
                    filename=path.removesuffix(".ckpt"),
                    monitor=monitor,
                    mode="max",
                    save_weights_only=path == BEST,
                    save_on_train_epoch_end=True,
                    enable_version_counter=False,
                )
                for path, monitor in ((BEST, "val_spearman"), (LAST, None))
            ),
            *([TQDMProgressBar()] if bar else []),
        ],
        # Automatic requeueing would keep a checkpoint from within an epoch, and always prefer it.
        plugins=[_WholeFiles(), *([SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [])],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=bar,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
    )
    assert trainer.logger is not None
    trainer.logger.log_hyperparams({"model": job.model, **config.to_dict()})
    try:
        trainer.fit(module, datamodule=photographs, ckpt_path=out / LAST if (out / LAST).is_file() else None)
    finally:
        if isinstance(trainer.logger, WandbLogger) and trainer.is_global_zero:
            import wandb

            wandb.finish()  # otherwise the next training in this process would log into the same run
    if trainer.is_global_zero:  # not yet written if a training was killed between its last checkpoint and its end
        _save_history(module.history, out)
    return trainer


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's advice, and restores random state, logging, and the handler of Ctrl-C."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    handler = signal.getsignal(signal.SIGINT)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torchmetrics)\.")
            yield
    except SystemExit as end:
        # Lightning turns Ctrl-C and SIGTERM into SystemExit; one that the program raised itself passes.
        if isinstance(end, SIGTERMException) or isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if signal.getsignal(signal.SIGINT) is not handler:  # only the main thread may set it
            signal.signal(signal.SIGINT, handler)


def _epochs(last: Path, config: TrainConfig) -> int:
    """The maximum number of epochs; where a training had already stopped early, the number that it has done."""
    if not last.is_file():
        return config.epochs
    history = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["history"]
    values = [row["val_spearman"] for row in history]
    return len(values) if len(values) - 1 - values.index(max(values)) >= config.patience else config.epochs


def _logger(runtime: Runtime, out: Path) -> Logger:
    if runtime.logger == "tensorboard":
        return TensorBoardLogger(out, name="tensorboard")
    if runtime.logger == "wandb":
        try:
            import wandb
        except ImportError as error:
            raise TrainingError("The logger wandb is not installed: pip install 'memviz[wandb]'.") from error
        offline = not wandb.login(prompt=False, verify=False)
        return WandbLogger(out.name, out, offline=offline, project="memviz")
    return CSVLogger(out, name="logs")


class _Checkpoint(ModelCheckpoint):
    """Finds the best epoch also after its folder was moved or renamed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = str(Path(str(self.dirpath)) / f"{self.filename}.ckpt")
        best = dict(zip([here], state_dict["best_k_models"].values(), strict=False))  # none, of what is not measured
        paths = dict.fromkeys(("best_model_path", "kth_best_model_path"), here)
        super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": best})


class _WholeFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, also on another file system than that of temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with replacing(path) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch raises it when the disk is full
            reason = str(error).partition("\n")[0]
            raise StoreError(
                f"{path} cannot be written ({reason}). Make room on its disk and give the same "
                "call again: it continues from its last whole epoch."
            ) from error


class _History(Callback):
    """Writes the history after each epoch, and, without a progress bar, prints a line on it."""

    def __init__(self, out: Path, lines: bool) -> None:
        self.out, self.lines = out, lines

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: Any) -> None:
        # At the start of the next epoch: the checkpoint that holds the same rows has then been written.
        if not (trainer.is_global_zero and module.history):
            return
        _save_history(module.history, self.out)
        if self.lines:
            row = module.history[-1]
            left = int(row["seconds"] * (module.config.epochs - row["epoch"]))
            print(
                f"Epoch {row['epoch']} of at most {module.config.epochs}: training MSE {row['train_mse']:.5f}, "
                f"validation Spearman {row['val_spearman']:.3f}, at most {left // 60}:{left % 60:02d} left",
                file=sys.stderr,
                flush=True,
            )


def _save_history(history: list[dict[str, float]], out: Path) -> None:
    with replacing(out / HISTORY) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
