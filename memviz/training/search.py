"""The search for learning rate and momentum, as for the paper's figures 7 and 9."""

from __future__ import annotations

import logging
import math
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from optuna import Study, create_study
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from memviz.artefacts import Manifest, claim
from memviz.errors import DivergedError, TrainingError
from memviz.evaluation.plots import learning_curves, save
from memviz.files import remove_leftovers, replacing
from memviz.models import Model
from memviz.models.registry import architecture
from memviz.training.config import Selection
from memviz.training.data import Photographs
from memviz.training.fit import fit
from memviz.training.job import TrainingJob
from memviz.training.module import without
from memviz.training.store import BEST, HISTORY, LAST, claimed, remove

STUDY, TRIALS, FIGURE = "study.db", "trials.csv", "search"
# Optuna ignores failed trials; from pruned ones it learns to avoid their settings.
STATES: Mapping[TrialState, str] = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "failed"}
SPREAD = 8
TIE = 0.002  # rank correlations that differ by no more count as equal


def search(
    job: TrainingJob,
    out: str | Path,
    trials: int = 20,
    learning_rate: tuple[float, float] = (1e-5, 1e-1),
    momentum: tuple[float, float] = (0.5, 0.99),
    progress: bool | None = None,
) -> pd.DataFrame:
    """Trains a model with several learning rates and momenta, to find those of the best validation Spearman.

    The first eight are spread evenly over both ranges (a Latin hypercube, McKay et al. 1979); each of the others is
    drawn where those before it did well, by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011,
    "Algorithms for Hyper-Parameter Optimization"). All start with the same weights and learn from the same photographs,
    and the test subset is not looked at.

    The folder `out` gets `trials.csv`, `search.png` and `.pdf` (the validation rank correlation along each trial),
    `split.json` and `photographs.csv`, `trials/NUMBER/history.csv`, and `study.db`, Optuna's own. The same call
    continues where an earlier one ended, also by SIGKILL: within the trial, from its last complete epoch, to the same
    result. With more `trials` it adds to them. One process at a time may work in the folder.

    Args:
        job: as for `train`, on one device. Its learning rate and momentum do not count; its seed is also that of the
            draws. Without a cache, one is kept in `out/cache`, also afterwards, for the training with what was found.
        out: the search's folder.
        trials: how many there are in the end.
        learning_rate: the lowest and the highest; drawn on a logarithmic scale.
        momentum: the lowest and the highest.
        progress: as in `train`.

    Returns:
        A row a trial: number, state ("finished", or "failed" where it diverged), learning_rate, momentum, val_spearman
        and val_mse (of its best epoch), epochs, folder (in `out`).

    Raises:
        StoreError: `out` holds a search with other settings, or one that is running.
        TrainingError, ImageError, ModelError, WeightsError: as in `train`. A trial that diverges ends only itself.

    Example:
        >>> job = TrainingJob("memnet", memviz.images.lamem("lamem"), TrainConfig(epochs=5))  # doctest: +SKIP
        >>> found = best(search(job, "runs/search", trials=12)).iloc[0]  # doctest: +SKIP
        >>> job = job.with_config(epochs=20, **found[["learning_rate", "momentum"]])  # doctest: +SKIP
        >>> model = train(job, "runs/memnet")  # doctest: +SKIP
    """
    out, ranges = Path(out), {"learning_rate": learning_rate, "momentum": momentum}
    _check(job, ranges, trials)
    manifest = job.manifest(job.untrained(), "memviz-search")
    fixed = {key: value for key, value in manifest.config.items() if key not in ranges}
    manifest = replace(manifest, config={**fixed, "ranges": {key: list(ends) for key, ends in ranges.items()}})
    with claimed(out, manifest, begun=[TRIALS, f"trials/*/{LAST}"], provisional=[STUDY, "trials"]):
        return _search(job, out, trials, ranges, progress)


def _search(
    job: TrainingJob, out: Path, trials: int, ranges: Mapping[str, tuple[float, float]], progress: bool | None
) -> pd.DataFrame:
    photographs: Photographs | None = None
    with _study(out) as study:
        for trial in study.get_trials(deepcopy=False, states=tuple(STATES)):
            _remove_checkpoints(_folder(out, trial.number))
        while len(finished := _table(study, out)) < trials:
            start = job.untrained()
            frozen = without(start.module, architecture(job.model).frozen) if job.config.cache_frozen else {}
            if photographs is None:
                photographs = Photographs(job, start.inputs, frozen, out, progress)
                photographs.prepare_data()
                photographs.setup("fit")
            number, drawn = _next(study, ranges, job.config.seed)
            if progress or (progress is None and sys.stderr.isatty()):
                _announce(finished, trials, drawn)
            _train(study, number, job.with_config(**drawn), start, photographs, out, progress)
            with replacing(out / TRIALS) as temporary:
                _table(study, out).to_csv(temporary, index=False)
    _draw(finished, out, job.model)
    return finished


def best(found: pd.DataFrame, selection: Selection = "mse") -> pd.DataFrame:
    """The finished trials of a search, the best first.

    Args:
        found: what `search` returned.
        selection: as in `TrainConfig`: "mse" puts the trials whose Spearman is within 0.002 of the highest in the
            order of their errors, "paper" does not.

    >>> values = {"val_spearman": [0.1, None, 0.3, 0.299], "val_mse": [0.01, None, 0.03, 0.02]}
    >>> table = pd.DataFrame({"number": [0, 1, 2, 3], "state": "finished", **values})
    >>> best(table)["number"].tolist(), best(table, "paper")["number"].tolist()
    ([3, 2, 0], [2, 3, 0])
    """
    ranked = found.dropna(subset="val_spearman").sort_values("val_spearman", ascending=False, kind="stable")
    tied = ranked["val_spearman"] >= ranked["val_spearman"].max() - TIE
    if selection == "paper":
        return ranked
    return pd.concat([ranked[tied].sort_values("val_mse", kind="stable"), ranked[~tied]])


def _check(job: TrainingJob, ranges: Mapping[str, tuple[float, float]], trials: int) -> None:
    for key, ends in ranges.items():
        if len(ends) != 2 or ends[0] > ends[1]:
            raise TrainingError(f"{key} must be the lowest and the highest value; given was {ends!r}.")
        for end in ends:
            job.with_config(**{key: end})  # which refuses what is not possible
    if trials < 1:
        raise TrainingError(f"trials must be 1 or more; given was {trials}.")
    if job.runtime.devices * job.runtime.nodes > 1:
        raise TrainingError(
            f"A search trains on one device; given were {job.runtime.nodes} x {job.runtime.devices}. Search on one, "
            "and train with what it finds on several."
        )


@contextmanager
def _study(out: Path) -> Iterator[Study]:
    """Optuna's study in `out`, silent, and closed afterwards."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    path = (out / STUDY).resolve()
    try:
        # Made by ourselves, since an URL may not have all the signs that a path may.
        storage = RDBStorage(
            f"sqlite:///{STUDY}",
            engine_kwargs={"creator": lambda: sqlite3.connect(path, timeout=60, check_same_thread=False)},
        )
        try:
            yield create_study(storage=storage, study_name="memviz", direction="maximize", load_if_exists=True)
        finally:
            storage.remove_session()
            storage.engine.dispose()
    finally:
        logger.setLevel(level)


def _next(study: Study, ranges: Mapping[str, tuple[float, float]], seed: int) -> tuple[int, dict[str, float]]:
    """The number and the settings of the interrupted trial, or else of a new one."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.params.keys() == ranges.keys():
            return trial.number, dict(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)  # killed while it was drawn
    done = len(study.get_trials(deepcopy=False, states=tuple(STATES)))
    if done < SPREAD and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(_spread(ranges, seed)[done])
    # A new sampler for each trial, so that a resumed search draws the same settings.
    own = int(np.random.SeedSequence([seed % 2**64, done]).generate_state(1)[0])
    study.sampler = TPESampler(seed=own, n_startup_trials=SPREAD)
    space: dict[str, BaseDistribution] = {
        key: FloatDistribution(*ends, log=key == "learning_rate") for key, ends in ranges.items()
    }
    asked = study.ask(space)
    return asked.number, dict(asked.params)


def _spread(ranges: Mapping[str, tuple[float, float]], seed: int) -> list[dict[str, float]]:
    """Settings of a Latin hypercube: each range is divided into as many intervals, with one setting in each."""
    random = np.random.default_rng(seed % 2**64)
    points: list[dict[str, float]] = [{} for _ in range(SPREAD)]
    for key, (low, high) in ranges.items():
        shares = (random.permutation(SPREAD) + random.random(SPREAD)) / SPREAD
        for point, share in zip(points, shares.tolist(), strict=True):
            point[key] = low * (high / low) ** share if key == "learning_rate" else low + (high - low) * share
    return points


def _announce(found: pd.DataFrame, trials: int, drawn: dict[str, float]) -> None:
    leading = best(found)
    so_far = (
        f"; best so far {leading['val_spearman'].iloc[0]:.3f} with {_label(leading.iloc[0])}" if len(leading) else ""
    )
    print(f"Trial {len(found) + 1} of {trials}: {_label(drawn)}{so_far}", file=sys.stderr, flush=True)


def _train(
    study: Study,
    number: int,
    job: TrainingJob,
    start: Model,
    photographs: Photographs,
    out: Path,
    progress: bool | None,
) -> None:
    """Trains with the settings of a trial, and reports its best validation Spearman to Optuna."""
    folder = _folder(out, number)
    claim(folder, Manifest("memviz-trial", 1, job.model, config=job.config.to_dict(), seed=job.config.seed))
    try:
        module, _ = fit(job, start, photographs, folder, progress)
    except DivergedError:
        values = []
    else:
        values = [row["val_spearman"] for row in module.history if math.isfinite(row["val_spearman"])]
    if values:
        study.tell(number, max(values))
    else:
        study.tell(number, state=TrialState.PRUNED)
    _remove_checkpoints(folder)


def _remove_checkpoints(folder: Path) -> None:
    """Of a finished trial, only small files are kept."""
    remove([folder / LAST, folder / BEST])
    if folder.is_dir():
        remove_leftovers(folder)


def _folder(out: Path, number: int) -> Path:
    return out / "trials" / f"{number:03d}"


def _table(study: Study, out: Path) -> pd.DataFrame:
    rows = [_row(trial, out) for trial in study.get_trials(deepcopy=False, states=tuple(STATES))]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


_COLUMNS = {
    "number": int,
    "state": str,
    "learning_rate": float,
    "momentum": float,
    "val_spearman": float,
    "val_mse": float,
    "epochs": int,
    "folder": str,
}


def _row(trial: FrozenTrial, out: Path) -> dict[str, object]:
    folder = _folder(out, trial.number)
    path = folder / HISTORY
    history = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    # If all correlations are undefined there is no best epoch.
    best_epoch = None if trial.value is None else history.loc[history["val_spearman"].idxmax()]
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        **trial.params,
        "val_spearman": trial.value,
        "val_mse": None if best_epoch is None else best_epoch["val_mse"],
        "epochs": len(history),
        "folder": folder.relative_to(out).as_posix(),
    }


def _label(trial: Mapping[str, float] | pd.Series) -> str:
    return f"η = {trial['learning_rate']:.3g}, γ = {trial['momentum']:.3g}"


def _draw(found: pd.DataFrame, out: Path, name: str) -> None:
    """Draws the figure of the trials that did not fail, if any, from the lowest learning rate to the highest."""
    logs, rates = {}, {}
    for _, trial in found[found["state"] == "finished"].sort_values("learning_rate").iterrows():
        label = _label(trial) if _label(trial) not in logs else f"{_label(trial)} ({trial['number']})"
        logs[label], rates[label] = out / trial["folder"] / HISTORY, trial["learning_rate"]
    if logs:
        save(learning_curves(logs, title=name, shades=("Learning rate η", rates)), out / FIGURE)
