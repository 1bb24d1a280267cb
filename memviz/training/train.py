"""One training from beginning to end."""

from __future__ import annotations

from pathlib import Path

import torch

from memviz.artefacts import Manifest
from memviz.errors import DivergedError
from memviz.layers import replace_modules
from memviz.models import Model, load_model
from memviz.models.card import is_trained
from memviz.models.registry import architecture
from memviz.training.data import Photographs
from memviz.training.finish import finish
from memviz.training.fit import fit
from memviz.training.job import TrainingJob
from memviz.training.module import without
from memviz.training.store import BEST, CACHE, LAST, claimed, confirm, first_process, remove


def train(job: TrainingJob, out: str | Path, progress: bool | None = None) -> Model:
    """Trains a memorability model, and evaluates it on the test subset.

    Writes `model.safetensors` and `card.json`, from which `load_model(out)` loads the model, `split.json`,
    `photographs.csv` (subset, score and SHA-256 of each), `history.csv` (a row an epoch) and `test/` (the evaluation).
    An interrupted call, also by SIGKILL, continues from its last complete epoch when it is repeated, to the same
    result; a finished one returns its model. One training at a time may run in a folder.

    In training and validation each photograph is seen in one crop and its score is not clipped; the test subset is
    evaluated by `Model.score`, which for memnet-caffe takes ten crops and clips the score.

    Args:
        job: the model, the data and the settings.
        out: the training's folder.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        TrainingError: impossible settings, a teacher of another quantity than the model predicts, too few photographs,
            or, as a `DivergedError`, a loss that is no longer finite.
        StoreError: `out` is a file, holds another training, or one that is running; photographs were replaced since
            it began; or the disk is full.
        ImageError, ModelError, WeightsError: as where photographs and weights are read.

    Example:
        >>> table = memviz.images.lamem("lamem")  # doctest: +SKIP
        >>> model = train(TrainingJob("memnet", table), "runs/memnet")  # doctest: +SKIP
        >>> model.card.metrics["test_spearman"]  # doctest: +SKIP
    """
    out = Path(out)
    start = job.untrained()
    manifest = job.manifest(start)
    left = [out / LAST, out / BEST, *([out / CACHE] if job.runtime.cache is None else [])]
    if is_trained(out):
        if first_process():
            confirm(out, manifest)
            remove(left)
        return load_model(out)
    with claimed(out, manifest, begun=[LAST]):
        _train(job, start, manifest, out, progress)
        if first_process():
            remove(left)
    return load_model(out)


def _train(job: TrainingJob, start: Model, manifest: Manifest, out: Path, progress: bool | None) -> None:
    frozen = without(start.module, architecture(job.model).frozen) if job.config.cache_frozen else {}
    photographs = Photographs(job, start.inputs, frozen, out, progress)
    try:
        module, trainer = fit(job, start, photographs, out, progress)
    except DivergedError as error:
        raise DivergedError(f"{error} It needs a new folder: {out} is that of these settings.") from error
    if trainer.is_global_zero:
        best = torch.load(out / BEST, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "network."
        module.network.load_state_dict({key.removeprefix(prefix): best[key] for key in best if key.startswith(prefix)})
        replace_modules(module.network, frozen)
        trained = Model(
            module.network.cpu().eval(), start.inputs, start.name, start.target, start.branches, start.score_spec
        )
        finish(job, manifest, start, trained, module, photographs, out)
    trainer.strategy.barrier()
