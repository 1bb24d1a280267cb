"""One training from beginning to end: Lightning's loop, and a folder that holds all that it took and gave."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
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
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn

from memviz.errors import DivergedError, StoreError, TrainingError
from memviz.evaluation import evaluate
from memviz.files import WRITING, provenance, read_json, replacing, write_json
from memviz.images import Split
from memviz.images.scored import names
from memviz.images.split import SUBSETS
from memviz.layers import replace_modules
from memviz.models import Model, ModelCard, load_model, save_trained
from memviz.models.card import is_trained
from memviz.models.registry import ARCHITECTURES, Architecture, architecture
from memviz.training.config import Runtime, TrainConfig
from memviz.training.data import PHOTOGRAPHS, SPLIT, Photographs
from memviz.training.initialize import initialize
from memviz.training.module import Regression, without
from memviz.training.prepared import digest
from memviz.training.teacher import Teacher

FORMAT = 1
RUN, HISTORY, LAST, BEST, CACHE = "run.json", "history.csv", "last.ckpt", "best.ckpt", "cache"
# Those that keep the weights, and so what is evaluated, in 32 bits.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
START = 0.75  # what an untrained network predicts: LaMem's mean


def train(
    name: str,
    data: pd.DataFrame | Teacher,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    runtime: Runtime | None = None,
    split: Split | None = None,
    weights: str | Path | None = None,
    mean: str | Path | None = None,
    backbones: Mapping[str, str | Path] | str = "torchvision",
    cache: str | Path | None = None,
    progress: bool | None = None,
    **options: str,
) -> Model:
    """Trains a memorability model, and evaluates it on the test part.

    The folder `out` gets `model.safetensors` and `card.json`, by which `load_model(out)` finds the model, `split.json`,
    `photographs.csv` (subset, score and SHA-256 of each), `history.csv` (a row an epoch) and `test/` (the evaluation).
    A call that was interrupted, also by SIGKILL, goes on from its last whole epoch when it is given again, to the same
    result; one that was finished returns its model.

    Each photograph is seen in one crop and its score is not clipped in training, also where the best epoch is chosen;
    the test part is evaluated as `Model.score` does, which for memnet-caffe are ten crops and a clipped score.

    Args:
        name: one of `list_models()`. Of "resmem" the ResNet stays frozen, of "resmem-retrain" it does not.
        data: a table of scored photographs (`memviz.images`), or a `Teacher` whose scores are learned.
        out: the training's folder.
        config: what decides the result.
        runtime: the machine and the logger.
        split: the parts; None draws them by `config.fractions` and `config.split_seed`, and keeps near-duplicates
            between data sets in one part.
        weights: to start from, as `load_model` takes them; None starts at random. Of a trained model's folder also
            the architecture's options are taken.
        mean: a mean image, as `load_model` takes it, for models that subtract one.
        backbones: of a start at random, files of the pretrained parts by address; those that are not named are
            torchvision's, as in the paper. `{}` leaves all random, which is of use only for trying out.
        cache: a folder where decoded photographs (155 KB each at 227 px), frozen outputs (8 KB each for a ResNet) and
            a teacher's scores are kept for other trainings on the same photographs; None keeps them in `out` until the
            training is finished.
        progress: None shows it on a terminal, True also in a log, False never.
        options: of the architecture, as `head="small"` for m3m.

    Raises:
        TrainingError: settings that are not possible, a teacher of something else than the model predicts, too few
            photographs, or, as a `DivergedError`, a loss that is no longer a number.
        StoreError: `out` is a file or holds another training, or the disk is full.
        ImageError, ModelError, WeightsError: as where photographs and weights are read.

    Example:
        >>> table = memviz.images.mixed(memviz.images.lamem("lamem"), memviz.images.memcat("memcat"))  # doctest: +SKIP
        >>> model = train("memnet", table, "runs/memnet")  # doctest: +SKIP
        >>> model.card.metrics["test_spearman"]  # doctest: +SKIP
    """
    config, runtime, out = config or TrainConfig(), runtime or Runtime(), Path(out)
    start = untrained(name, config, weights, backbones, options, mean)
    run = {"config": config.to_dict(), **describe(start, data, split, runtime, weights, backbones, options)}
    finished = is_trained(out)
    # What was finished on one machine may be looked at on another.
    claim(out, {key: value for key, value in run.items() if not (finished and key == "runtime")}, "training")
    over = [out / LAST, out / BEST, *([out / CACHE] if cache is None else [])]
    if finished:
        tidy(out, over)
        return load_model(out)

    parts = without(start.module, architecture(name).frozen) if config.cache_frozen else {}
    arrays = out / CACHE if cache is None else Path(cache)
    photographs = opened(data, start, parts, out, arrays, config, runtime, split, progress)
    try:
        module, trainer = fit(start, photographs, out, config, progress)
    except DivergedError as error:
        raise DivergedError(f"{error} It needs a new folder: {out} is that of these settings.") from error
    if trainer.is_global_zero:
        best = torch.load(out / BEST, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "network."
        module.network.load_state_dict({key.removeprefix(prefix): best[key] for key in best if key.startswith(prefix)})
        replace_modules(module.network, parts)
        trained = Model(module.network.cpu().eval(), start.inputs, name, start.target, start.branches, start.score_spec)
        _finish(trained.to(_device(runtime)), start, module, photographs, data, run, out)
        tidy(out, over)
    trainer.strategy.barrier()
    return load_model(out)


def first_process() -> bool:
    """Whether this process is the one that writes; the others of a data-parallel training only compute."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


def untrained(
    name: str,
    config: TrainConfig,
    weights: str | Path | None,
    backbones: Mapping[str, str | Path] | str,
    options: Mapping[str, str],
    mean: str | Path | None = None,
) -> Model:
    """The model as it is before the first step; the arguments are those of `train`."""
    entry = architecture(name)
    if weights is not None and backbones != "torchvision":
        raise TrainingError(f"{weights} holds the pretrained parts already: leave backbones= out, or weights=.")
    backbones = _all_parts(entry, backbones)
    start = load_model(
        name,
        weights=weights,
        mean=mean,
        backbones=backbones if weights is None else None,
        seed=config.seed,
        **options,
    )
    if weights is None and config.initialization == "he":
        initialize(
            start.module,
            (START - start.score_spec.shift) / start.score_spec.scale + start.score_spec.mean,
            config.seed,
            entry.backbones if isinstance(backbones, str) else backbones,
            start.inputs.scale,
        )
    return start


def _all_parts(entry: Architecture, backbones: Mapping[str, str | Path] | str) -> dict[str, str] | str:
    """A part that is not named would stay random, and, where it is frozen, give nothing but noise."""
    if isinstance(backbones, str):
        return backbones
    return {address: str(source) for address, source in {**(entry.backbones if backbones else {}), **backbones}.items()}


def claim(out: Path, run: dict[str, Any], work: str) -> None:
    """Makes `out` the folder of this run of a "training" or a "search"; one of another run is refused.

    Each process compares, or those that are not refused would wait for the one that is; only the first writes.
    """
    run = {"kind": f"memviz-{work}", "format": FORMAT, **run}
    if file := next((path for path in (out, *out.parents) if path.is_file()), None):
        raise StoreError(f"{file} is a file, and {out} is to be a folder. Give another.")
    # Listed once: another process may be writing.
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if RUN in there:
        written = read_json(out / RUN)
        found, wanted = _flat({key: written.get(key) for key in run}), _flat(run)
        if differing := [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]:
            described = [_OTHER.get(key, f"{key} was {found.get(key)}, now {wanted.get(key)}") for key in differing]
            raise StoreError(
                f"{out} holds another {work} ({'; '.join(described)}). Give another folder, or the same settings."
            )
        tidy(out)
    elif any(not name.startswith(WRITING) for name in there):
        raise StoreError(f"{out} is not empty and holds no {work}. Give a new folder.")
    elif first_process():
        write_json(out / RUN, {**run, **provenance()})


# What is compared by a hash, which tells nobody anything.
_OTHER = {
    "split": "another split",
    "data.files": "other photographs or scores",
    "data.teacher.weights": "another teacher",
    "start.fingerprint": "other starting weights",
    "start.mean_image": "another mean image",
}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level, with dotted names: what differs is then told without what is the same."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def tidy(out: Path, over: Iterable[Path] = ()) -> None:
    """Removes what is `over` in a run's folder, and what SIGKILL left there half written."""
    if not first_process():
        return
    for path in (*over, *out.glob(f"{WRITING}*"), *out.glob(f"test/{WRITING}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def describe(
    start: Model,
    data: pd.DataFrame | Teacher,
    split: Split | None,
    runtime: Runtime,
    weights: str | Path | None,
    backbones: Mapping[str, str | Path] | str,
    options: Mapping[str, str],
) -> dict[str, Any]:
    """What, beside the configuration, decides the result, as `run.json` has it; the arguments are those of `train`."""
    _check_target(start, data)
    entry = architecture(start.name)
    if isinstance(data, Teacher):
        described = {"teacher": data.describe(), "photographs": len(data.paths), "files": digest(data.paths)}
    else:
        listed = digest(list(zip(names(data), data["score"], strict=True)))
        described = {"dataset": dict(data.attrs.get("dataset", {})), "photographs": len(data), "files": listed}
    return {
        "model": start.name,
        "options": {**(start.card.options if start.card else {}), **options},
        "runtime": {"devices": runtime.devices, "nodes": runtime.nodes, "precision": _precision(runtime)},
        "data": described,
        "split": None if split is None else digest([split.train, split.validation, split.test]),
        "start": {
            "weights": "random" if weights is None else str(weights),
            "fingerprint": start.fingerprint(),
            "backbones": {} if weights is not None or not entry.backbones else _all_parts(entry, backbones),
            "mean_image": start.inputs.mean_image.sha256 if start.inputs.mean_image else None,
        },
    }


def _check_target(start: Model, data: pd.DataFrame | Teacher) -> None:
    """Refuses scores that are another model's kind; what a CSV's column means is not known."""
    if isinstance(data, Teacher):
        target, other = data.model.target, data.model.target != start.target
    else:
        target = str(data.attrs.get("dataset", {}).get("target"))
        outputs = tuple(entry.target for entry in ARCHITECTURES.values() if entry.target != start.target)
        other = any(each.startswith(outputs) for each in target.split(" + "))
    if other:
        raise TrainingError(f"{start.name} predicts {start.target}, and what it is to learn is {target}.")


def _precision(runtime: Runtime) -> str:
    """The one that "auto" stands for here."""
    kind = _device(runtime).type
    precision = runtime.precision
    if precision == "auto":
        precision = "16-mixed" if kind == "cuda" else "32-true"
    if precision not in PRECISIONS:
        raise TrainingError(f"precision={precision!r} is not possible: give auto or one of {', '.join(PRECISIONS)}.")
    return precision


def opened(
    data: pd.DataFrame | Teacher,
    start: Model,
    frozen: Mapping[str, nn.Module],
    out: Path,
    cache: Path,
    config: TrainConfig,
    runtime: Runtime,
    split: Split | None,
    progress: bool | None,
) -> Photographs:
    """The photographs for a training of `start`, with `frozen` parts whose outputs are computed once."""
    return Photographs(
        lambda: _table(data, cache, runtime, progress),
        out,
        cache,
        start.inputs,
        frozen,
        config,
        runtime,
        fixed=split,
        device=_device(runtime),
        progress=progress,
    )


def _table(data: pd.DataFrame | Teacher, cache: Path, runtime: Runtime, progress: bool | None) -> pd.DataFrame:
    return data.table(cache, runtime.workers, progress) if isinstance(data, Teacher) else data


def _device(runtime: Runtime) -> torch.device:
    """Where the frozen parts run: one device, of the kind that trains."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = {"gpu": "cuda"}.get(runtime.accelerator, runtime.accelerator)
    if kind == "auto":
        kind = next(kind for kind in there if there[kind])
    if not there.get(kind):
        raise TrainingError(f"There is no accelerator {runtime.accelerator!r} here: give auto, cpu, gpu or mps.")
    return torch.device(kind)


def fit(
    start: Model, photographs: Photographs, out: Path, config: TrainConfig, progress: bool | None
) -> tuple[Regression, Trainer]:
    """Trains `start`, in place, up to its last epoch; `out` gets the history and the checkpoints.

    What `photographs` have as outputs must be gone from `start`, see `without`.
    """
    frozen = () if photographs.frozen else architecture(start.name).frozen
    with _quiet():
        module = Regression(start.module, start.inputs, start.score_spec, frozen, config)
        return module, _fit(start.name, module, photographs, out, progress)


def _fit(name: str, module: Regression, photographs: Photographs, out: Path, progress: bool | None) -> Trainer:
    config, runtime = module.config, photographs.runtime
    precision: Any = _precision(runtime)
    several = runtime.devices * runtime.nodes > 1
    bar = progress is not False and sys.stderr.isatty()
    trainer = Trainer(
        accelerator=runtime.accelerator,
        devices=runtime.devices,
        num_nodes=runtime.nodes,
        # The others wait while the first process decodes.
        strategy=DDPStrategy(timeout=timedelta(hours=24)) if several else "auto",
        precision=precision,
        max_epochs=_epochs(out / LAST, config),
        limit_train_batches=config.steps_per_epoch,
        logger=_logger(runtime, out),
        callbacks=[
            _History(out, progress is True and not bar),
            EarlyStopping("val_spearman", mode="max", patience=config.patience, check_finite=False),
            # The best comes before the last: a run that goes on from the last then knows of it.
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
        # Slurm's own way to go on would keep a checkpoint from within an epoch, and prefer it for ever.
        plugins=[_WholeFiles(), *([SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [])],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=bar,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
    )
    assert trainer.logger is not None
    trainer.logger.log_hyperparams({"model": name, **config.to_dict()})
    try:
        trainer.fit(module, datamodule=photographs, ckpt_path=out / LAST if (out / LAST).is_file() else None)
    finally:
        if isinstance(trainer.logger, WandbLogger) and trainer.is_global_zero:
            import wandb

            wandb.finish()  # or the next training in this process would log into the same run
    if trainer.is_global_zero:  # a training that was killed between its last checkpoint and its end has not written it
        _save_history(module.history, out)
    return trainer


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without advice, and nothing left of it: random state, logging, and the handler of Ctrl-C."""
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
        # What Lightning makes of Ctrl-C and of SIGTERM; a program's own end stays what it is.
        if isinstance(end, SIGTERMException) or isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if signal.getsignal(signal.SIGINT) is not handler:  # only the main thread may set it
            signal.signal(signal.SIGINT, handler)


def _epochs(last: Path, config: TrainConfig) -> int:
    """How many epochs there are at most; those that are done, where a training that goes on had stopped early."""
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
    """Knows the best epoch also after its folder was moved or renamed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = str(Path(str(self.dirpath)) / f"{self.filename}.ckpt")
        best = dict(zip([here], state_dict["best_k_models"].values(), strict=False))  # none, of what is not measured
        paths = dict.fromkeys(("best_model_path", "kth_best_model_path"), here)
        super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": best})


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent, also on another file system than that of temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with replacing(path) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch's own, of a disk that is full
            reason = str(error).partition("\n")[0]
            raise StoreError(
                f"{path} cannot be written ({reason}). Make room on its disk and give the same "
                "call again: it goes on from its last whole epoch."
            ) from error


class _History(Callback):
    """Writes the history after each epoch, and, where there is no bar, says how far the training is."""

    def __init__(self, out: Path, lines: bool) -> None:
        self.out, self.lines = out, lines

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: Any) -> None:
        # One epoch later than it could be: after the checkpoint that holds the same rows.
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


def _finish(
    trained: Model,
    start: Model,
    module: Regression,
    photographs: Photographs,
    data: pd.DataFrame | Teacher,
    run: dict[str, Any],
    out: Path,
) -> None:
    """Evaluates the trained model, and saves it with its card."""
    divided, listed = Split.load(out / SPLIT), pd.read_csv(out / PHOTOGRAPHS)
    dataset = photographs.opened[0].attrs.get("dataset", {})
    counts: dict[str, int] = {name: int((listed["subset"] == name).sum()) for name in SUBSETS}
    best = max(module.history, key=lambda row: row["val_spearman"])
    metrics: dict[str, float | None] = {
        "val_spearman": best["val_spearman"],
        "val_mse": best["val_mse"],
        "epoch": best["epoch"],
    }
    card = ModelCard(
        architecture=run["model"],
        options=run["options"],
        data={**dataset, "photographs": sum(counts.values()), "list": PHOTOGRAPHS},
        split={"seed": divided.seed, "fractions": list(divided.fractions), **counts, "file": SPLIT},
        seed=module.config.seed,
        metrics=metrics,
        start={**run["start"], **_lineage(start)},
        distilled_from={**data.describe(), **_lineage(data.model)} if isinstance(data, Teacher) else None,
        training=run["config"],
        runtime=run["runtime"],
    )
    test = photographs.test
    if len(test) > 1:
        # By the card the report knows what to warn of.
        trained.card, trained.folder = card, out
        report = evaluate(trained, test, workers=photographs.runtime.workers, progress=photographs.progress)
        report.save(out / "test")
        whole = report.frame().iloc[0]
        measures = ("mse", "mae", *(f"spearman{end}" for end in ("", "_low", "_high")))
        metrics |= {f"test_{measure}": float(whole[measure]) for measure in measures}
    save_trained(trained, out, card)


def _lineage(model: Model) -> dict[str, Any]:
    """What the card of another model that comes from this one says of its training, by which leakage is found."""
    if model.card is None or model.folder is None:
        return {}
    made = {"data": model.card.data, "start": model.card.start, "distilled_from": model.card.distilled_from}
    return {"folder": str(model.folder.absolute()), **made}
