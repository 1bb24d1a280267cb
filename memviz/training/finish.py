"""The end of a training: evaluates the test subset, and saves the model with its card."""

from __future__ import annotations

from pathlib import Path
from platform import machine
from typing import Any

import pandas as pd
import torch

from memviz.artefacts import Manifest
from memviz.evaluation import evaluate
from memviz.files import utf8_name
from memviz.images import Split
from memviz.images.split import SUBSETS
from memviz.layers.unit import lies_in
from memviz.layers.weights import check_weights, judgement
from memviz.models import Model, ModelCard, save_trained
from memviz.training.data import Photographs
from memviz.training.job import TrainingJob
from memviz.training.module import Regression
from memviz.training.movement import movement, warn_still
from memviz.training.store import PHOTOGRAPHS, SPLIT
from memviz.training.teacher import Teacher


def finish(
    job: TrainingJob,
    manifest: Manifest,
    start: Model,
    trained: Model,
    module: Regression,
    photographs: Photographs,
    out: Path,
) -> None:
    """Evaluates the trained model on the test subset, and saves it with its card.

    Args:
        job, manifest: the training that was asked for.
        start: the model it started from, whose own history goes into the card.
        trained: with the weights of the best epoch.
        module: the finished training.
        photographs: the photographs of the training.
        out: the training's folder.
    """
    trained = trained.to(job.runtime.device)
    divided, listed = Split.load(out / SPLIT), pd.read_csv(out / PHOTOGRAPHS)
    counts: dict[str, int] = {name: int((listed["subset"] == name).sum()) for name in SUBSETS}
    best = max(module.history, key=lambda row: row["val_spearman"])
    metrics: dict[str, float | None] = {name: best[name] for name in ("val_spearman", "val_mse", "epoch")}
    dataset = photographs.opened[0].attrs.get("dataset", {})
    given = {name: manifest.config[name] for name in ("options", "backbones", "runtime", "start")}
    begun = {"weights": given["start"], "fingerprint": manifest.weights, "backbones": given["backbones"]}
    if job.initialized:
        begun["score"] = float(photographs.subsets["train"].scores.mean())
    card = ModelCard(
        architecture=start.name,
        options=given["options"],
        data={**dataset, "photographs": sum(counts.values()), "list": PHOTOGRAPHS},
        split={"seed": divided.seed, "fractions": list(divided.fractions), **counts, "file": SPLIT},
        seed=job.config.seed,
        metrics=metrics,
        start={**begun, **_lineage(start)},
        distilled_from={**job.data.describe(), **_lineage(job.data.model)} if isinstance(job.data, Teacher) else None,
        training=job.config.to_dict(),
        runtime={**given["runtime"], "device": _name(job.runtime.device)},
        movement=movement(trained.module, module.begun),
        learned=_judge(trained),
    )
    if job.initialized:
        pretrained = tuple(given["backbones"])
        warn_still(card.movement, [branch for branch in trained.branches if branch not in pretrained], stacklevel=5)
    test = photographs.test
    if len(test) > 1:
        # The report's warnings depend on the card.
        trained.card, trained.folder = card, out
        report = evaluate(trained, test, workers=job.runtime.workers, progress=photographs.progress)
        report.save(out / "test")
        whole = report.frame().iloc[0]
        measures = ("mse", "mae", *(f"spearman{end}" for end in ("", "_low", "_high")))
        metrics |= {f"test_{measure}": float(whole[measure]) for measure in measures}
    save_trained(trained, out, card)


def _judge(model: Model) -> dict[str, str]:
    """Whether each branch of a network, and what is in none, has learned by its weights, in words."""
    layers = check_weights(model.module)
    inside = {branch: [each for each in layers if lies_in(each.address, branch)] for branch in model.branches}
    rest = [each for each in layers if not any(lies_in(each.address, branch) for branch in model.branches)]
    parts = inside | {"besides" if inside else "network": rest}
    return {part: judgement(own) for part, own in parts.items() if own}


def _name(device: torch.device) -> str:
    """The name of the device that computed.

    >>> _name(torch.device("cpu")).startswith("CPU (")
    True
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type.upper()} ({machine()})"


def _lineage(model: Model) -> dict[str, Any]:
    """What a descendant's card records of this model's training, so that leaked test photographs can be found."""
    if model.card is None or model.folder is None:
        return {}
    made = {"data": model.card.data, "start": model.card.start, "distilled_from": model.card.distilled_from}
    return {"folder": utf8_name(model.folder.absolute()), **made}
