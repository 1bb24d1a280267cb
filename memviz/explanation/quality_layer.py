"""Is a layer's pictures' word to be trusted? What `memviz quality` says of one layer, from what was measured of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from memviz.explanation import effect
from memviz.explanation.effect import LEVEL, Estimate
from memviz.explanation.forced_choice import Places, Tasks, accuracy, evidence, score, set_tasks, shuffled
from memviz.explanation.path_similarity import normalized, path_similarity
from memviz.explanation.quality_result import KINDS, Choice, LayerQuality, PathSimilarity
from memviz.layers.unit import LIVE
from memviz.rendering import against_photographs

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What decides tasks and scores, as `memviz.explanation.quality.QualityConfig` explains it."""

    explanations: int
    tasks: int
    quantile: float
    temperature: float
    seed: int


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured for a layer.

    Attributes:
        address: of the layer.
        branch: in which it lies.
        table: a row a unit, as `SavedRenders.records` tell of its best picture: unit, state, peak.
        best: by unit, the largest activation that a photograph of the whole index reaches.
        activations: (photographs, channels) of the layer.
        cosines: (photographs, photographs and pictures).
        positive, negative: of each unit, places of its pictures among the columns of `cosines`.
        path: by address, from shallow to deep, the activations of the photographs, and those of the pictures in the
            order of the columns of `cosines`.
    """

    address: str
    branch: str
    table: pd.DataFrame
    best: dict[int, float]
    activations: NDArray[np.float32]
    cosines: NDArray[np.float32]
    positive: dict[int, Places]
    negative: dict[int, Places]
    path: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def judge(measured: Measured, settings: Settings) -> tuple[LayerQuality, pd.DataFrame]:
    """What there is to say of a layer, and a row a unit.

    A unit's tasks depend on the seed and the unit alone. Photographs and pictures explain the same units, in the same
    tasks: those that photographs tell apart, and that have a picture.
    """
    table = against_photographs(measured.table, measured.best)
    table["live"] = table["best_photograph"] > LIVE
    live = table[table["live"]]
    wins = int(live["succeeds"].sum())
    layer = zlib.crc32(measured.address.encode())
    tasks: dict[int, Tasks] = {}
    for unit in table["unit"]:
        random = np.random.default_rng([settings.seed, layer, unit])
        found = set_tasks(
            measured.activations[:, unit], settings.explanations, settings.tasks, settings.quantile, random
        )
        if found is not None and len(measured.positive[unit]):
            tasks[unit] = found
    table["asked"] = table["unit"].isin(list(tasks))
    random = np.random.default_rng([settings.seed, layer])
    choices = []
    for kind in KINDS if tasks else ():
        columns, choice = _choose(kind, tasks, measured, settings, random)
        table = table.join(columns, on="unit")
        choices.append(choice)
    path, columns = _paths(measured, tasks, random)
    table = table.join(columns, on="unit")
    difference = None
    if tasks:
        less = (table["accuracy_renders"] - table["accuracy_alike"]).dropna().to_numpy()
        difference = over_units(less, random)
    return (
        LayerQuality(
            measured.address,
            measured.branch,
            len(table),
            len(live),
            wins,
            _share(wins, len(live)),
            None if live["ratio"].isna().all() else float(live["ratio"].median()),
            len(tasks),
            tuple(choices),
            difference,
            path,
        ),
        table.assign(address=measured.address),
    )


def _choose(
    kind: str, tasks: dict[int, Tasks], measured: Measured, settings: Settings, random: np.random.Generator
) -> tuple[pd.DataFrame, Choice]:
    """The forced choice of all units by one kind of explanations."""
    import pandas as pd

    explanations = [_explanations(kind, unit, own, measured) for unit, own in tasks.items()]
    found = [evidence(measured.cosines, own, *given) for own, given in zip(tasks.values(), explanations, strict=True)]
    solved = np.array([accuracy(each) for each in found])
    scores = np.array([score(each, settings.temperature) for each in found])
    others = shuffled(measured.cosines, list(tasks.values()), explanations, random)
    columns = pd.DataFrame(
        {f"accuracy_{kind}": solved, f"score_{kind}": scores, f"shuffled_{kind}": others}, index=list(tasks)
    )
    several = ~np.isnan(others)
    return columns, Choice(
        kind,
        max(len(positive) for positive, _ in explanations),
        max(len(negative) for _, negative in explanations),
        over_units(solved, random),
        over_units(scores, random),
        over_units(others[several], random) if several.any() else None,
        over_units((solved - others)[several], random) if several.any() else None,
    )


def _explanations(kind: str, unit: int, tasks: Tasks, measured: Measured) -> tuple[Places, Places]:
    pictures = measured.positive[unit], measured.negative[unit]
    if kind == "renders":
        return pictures
    if kind == "alike":
        return tasks.most[: len(pictures[0])], tasks.least[: len(pictures[1])]
    return tasks.most, tasks.least


def _paths(
    measured: Measured, tasks: dict[int, Tasks], random: np.random.Generator
) -> tuple[tuple[PathSimilarity, ...], pd.DataFrame]:
    """The path similarity at each layer up to this one; of this one, also a row a unit."""
    import pandas as pd

    columns = pd.DataFrame({"path": np.full(len(tasks), np.nan)}, index=list(tasks))
    rows = []
    for address, (photographs, pictures) in measured.path.items() if len(tasks) > 1 else ():
        own = [pictures[measured.positive[unit] - len(photographs)] for unit in tasks]
        found = path_similarity(photographs, own, np.stack([each.most for each in tasks.values()]))
        parts = np.stack([found.synthetic, found.same, found.other])
        columns["path"] = normalized(*parts)
        parts = parts[:, ~np.isnan(parts).any(0)]
        if parts.size:
            synthetic, same, other = parts.mean(1).tolist()
            rows.append(PathSimilarity(address, synthetic, same, other, _way(parts, random)))
    return tuple(rows), columns


def _way(parts: Values, random: np.random.Generator) -> Estimate | None:
    """The normalized similarity of the means over units; None where own and other photographs are not told apart."""
    resampled = parts @ _resamples(parts.shape[1], random).T
    if np.quantile(resampled[1, 1:] - resampled[2, 1:], (1 - LEVEL) / 2) <= 0:
        return None
    return _estimate(normalized(*resampled))


def over_units(values: Values, random: np.random.Generator) -> Estimate:
    """The mean over units, and its percentile bootstrap interval."""
    return _estimate(_resamples(len(values), random) @ values)


def _resamples(units: int, random: np.random.Generator) -> Values:
    """The weights of each unit in each resample, (1 + resamples, units); in the first, all count alike."""
    counts = random.multinomial(units, np.full(units, 1 / units), effect.RESAMPLES)
    found: Values = np.vstack([np.ones(units), counts]) / units
    return found


def _estimate(values: Values) -> Estimate:
    low, high = np.nanquantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def _share(wins: int, units: int) -> Estimate | None:
    """A share with Wilson's interval (1927), which has a width also where all units win."""
    if not units:
        return None
    interval: Any = binomtest(wins, units).proportion_ci(LEVEL, "wilson")
    return Estimate(wins / units, float(interval.low), float(interval.high))
