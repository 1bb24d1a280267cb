"""A model's predictions beside people's scores: overall, by source, and by category."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.artefacts import read_record
from memviz.errors import ImageError, ModelError
from memviz.evaluation.contamination import contamination
from memviz.evaluation.metrics import CONSISTENCY, bootstrap_interval, mae, mse, spearman, spread
from memviz.files import provenance, replacing, write_json
from memviz.models import Model

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-evaluation", 1
_STATISTICS = {"mse": mse, "mae": mae, "spearman": spearman}
# Of fewer images than these, unrelated scores have a rank correlation beyond 0.6 more often than once in twenty.
FEW = 12
_ENDS = "_low", "_high"
_ZEROS = (
    "{count} images from lamem have the score 0. LaMem's next lowest is 0.2, which the paper calls the lowest, so they "
    "look like missing scores; each adds about 0.5 to the sum of squared errors."
)


@dataclass(frozen=True)
class Report:
    """How well a model predicts a table of scored images.

    Attributes:
        model, weights: the model's name and fingerprint.
        target: what the model predicts, such as "memorability"; None if unknown.
        dataset: the table's `attrs["dataset"]`.
        groups: a row for all images, each source, and each category of a source ("all" elsewhere): `images`,
            `mse`, `mae` and `spearman` with `_low` and `_high` of their bootstrap intervals, the columns of
            `Spread`, and for a source with published consistency `split_half` and `ceiling`.
        predictions: `path`, `source`, `category`, `truth` and `prediction` of each image that could be read.
        level, resamples, seed: of the bootstrap.
        warnings: reasons to doubt the numbers.
    """

    model: str
    weights: str
    target: str | None
    dataset: dict[str, Any]
    groups: pd.DataFrame
    predictions: pd.DataFrame
    level: float
    resamples: int
    seed: int
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """All measures, a row a group."""
        return self.groups.copy()

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes `frame()` as CSV, whole or not at all."""
        with replacing(path) as temporary:
            self.groups.to_csv(temporary, index=False)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the measures with where they come from; a measure that is not defined is null."""
        rows = [{str(name): _to_plain(value) for name, value in row.items()} for row in self.groups.to_dict("records")]
        content = {
            "kind": KIND,
            "format": FORMAT,
            "model": self.model,
            "weights": self.weights,
            "dataset": self.dataset,
            "groups": rows,
            "interval": {"method": "percentile bootstrap over images", "level": self.level}
            | {"resamples": self.resamples, "seed": self.seed},
            "consistency": {source: asdict(CONSISTENCY[source]) for source in self._known_sources()},
            "warnings": self.warnings,
        }
        write_json(path, content | provenance())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `report.json`, `report.csv`, `predictions.csv`, and the densities as `density.png` and `.pdf`."""
        from memviz.evaluation.plots import density, save

        folder = Path(folder)
        self.to_json(folder / "report.json")
        self.to_csv(folder / "report.csv")
        with replacing(folder / "predictions.csv") as temporary:
            self.predictions.to_csv(temporary, index=False)
        label = (self.target or "score").replace("_", " ").capitalize()
        truth, prediction = self.predictions["truth"], self.predictions["prediction"]
        save(density(truth, prediction, title=self.model, score=label), folder / "density")

    def __str__(self) -> str:
        import pandas as pd

        table = pd.DataFrame({name: self.groups[name] for name in ("source", "category", "images")})
        for name, digits in (("mse", 4), ("mae", 3), ("spearman", 3)):
            columns = self.groups[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
            table[name] = [
                "undefined" if math.isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
                for value, low, high in columns
            ]
        for name in ("ceiling", "sd_ratio", "slope"):
            table[name] = ["" if math.isnan(value) else f"{value:.3f}" for value in self.groups[name]]
        notes = [
            f"In brackets: {self.level:.0%} bootstrap intervals over images. sd_ratio and slope below 1: predictions "
            "drawn to the mean.",
            *(
                f"Ceiling of {source}: from people's split-half consistency {CONSISTENCY[source].split_half} "
                f"({CONSISTENCY[source].origin})."
                for source in self._known_sources()
            ),
            *(f"Warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join([f"{self.model}", table.to_string(index=False), *notes])

    def _known_sources(self) -> list[str]:
        return [source for source in CONSISTENCY if source in set(self.groups["source"])]


@dataclass(frozen=True)
class SavedReport:
    """What a `report.json` holds, as `Report.to_json` writes it.

    Attributes:
        model, weights, dataset, warnings: as in `Report`.
        groups: its rows, by the columns' names; None for a measure that is not defined.
        interval: method, level, resamples and seed of the bootstrap.
        consistency: published split-half consistency of people, by source.
        created, versions, platform: when, with what, and where it was made.
    """

    model: str
    weights: str
    dataset: dict[str, Any]
    groups: tuple[dict[str, float | str | None], ...]
    interval: dict[str, Any]
    consistency: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    created: str
    versions: dict[str, str]
    platform: str

    def __post_init__(self) -> None:
        needed = {"source", "category", "images", *(f"{name}{end}" for name in _STATISTICS for end in ("", *_ENDS))}
        if not self.groups or any(missing := needed - group.keys() for group in self.groups):
            raise ValueError(f"a group has no {min(missing)}" if self.groups else "it has no groups")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SavedReport:
        """Reads a `report.json`; one that is missing, damaged or of another kind or format is a `StoreError`."""
        return read_record(Path(path), cls, KIND, FORMAT)


def evaluate(
    model: Model,
    table: pd.DataFrame,
    *,
    batch_size: int = 16,
    workers: int = 2,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Scores the images of a table and compares the predictions with its scores.

    Args:
        model: with a score as output.
        table: columns `path` and `score`, and, where known, `source` and `category`.
        batch_size, workers, progress: as in `Model.score`.
        resamples, level, seed: of the bootstrap intervals.

    Raises:
        ImageError: a column is missing, a score is not a number, or no image can be read.
        ModelError: the network does not give one finite number a picture.

    Example:
        >>> evaluate(memviz.load_model("resmem"), memviz.images.lamem("lamem/"))  # doctest: +SKIP
    """
    truth = _check_table(table)
    scored = model.score(list(truth["path"]), batch_size=batch_size, workers=workers, progress=progress)
    predicted = dict(zip(map(os.path.abspath, scored["path"]), scored[model.target or "score"], strict=True))
    files = truth["path"].map(os.path.abspath)
    read = files.isin(list(predicted))
    predictions = truth[read].assign(prediction=files[read].map(predicted)).reset_index(drop=True)
    if predictions.empty:
        raise ImageError(f"None of the {len(truth)} images can be read; the first is {truth['path'].iloc[0]}.")
    if not predictions["prediction"].map(math.isfinite).all():
        raise ModelError(f"{model.name} predicts nan or infinity, so it cannot be evaluated: its weights are damaged.")
    weights = model.fingerprint()
    dataset = dict(table.attrs.get("dataset", {}))
    warnings = []
    if dataset.get("synthetic"):
        warnings.append("The data set is synthetic: no number here says anything about memorability.")
    if not read.all():
        named = ", ".join(truth["path"][~read].head(5))
        warnings.append(f"{(~read).sum()} of {len(truth)} images could not be read and are left out: {named}.")
    zeros = (predictions["source"] == "lamem") & (predictions["truth"] == 0)
    if zeros.any():
        warnings.append(_ZEROS.format(count=zeros.sum()))
    if model.target not in (None, "memorability") and predictions["source"].isin(CONSISTENCY).any():
        warnings.append(f"{model.name} predicts {model.target}, not the memorability that LaMem and MemCat give.")
    truths = predictions["truth"]
    if len(truths) < FEW:
        warnings.append(f"{len(truths)} images are few: chance alone gives them high rank correlations.")
    if truths.nunique() == 1:
        warnings.append(f"All true scores are {truths[0]:g}: a rank correlation is not defined.")
    if len(truths) > 1 and predictions["prediction"].nunique() == 1:
        warnings.append(f"All predictions are {predictions['prediction'][0]:g}: a rank correlation is not defined.")
    warnings += contamination(model, weights, predictions)
    groups = measure(predictions, resamples, level, seed)
    return Report(
        model.name, weights, model.target, dataset, groups, predictions, level, resamples, seed, tuple(warnings)
    )


def measure(predictions: pd.DataFrame, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Computes the measures of given predictions, a row a group, as in `Report.groups`.

    Of fewer than three images, or where all scores or all predictions are equal, a rank correlation is meaningless:
    it is nan.

    Args:
        predictions: columns `truth`, `prediction`, `source` and `category` ("" for none).
        resamples, level, seed: of the bootstrap intervals.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for source, category, group in _split_groups(predictions):
        truth, prediction = group["truth"].to_numpy(float), group["prediction"].to_numpy(float)
        row: dict[str, Any] = {"source": source, "category": category, "images": len(group)}
        for name, statistic in _STATISTICS.items():
            value = low = high = math.nan
            if statistic is not spearman or len(group) > 2:  # of two images it is 1 or -1, whatever the scores are
                value = statistic(truth, prediction)
                low, high = bootstrap_interval(truth, prediction, statistic, resamples, level, seed)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        row |= asdict(spread(truth, prediction))
        # Within a category people agree to another, unpublished degree.
        known = CONSISTENCY.get(source) if category == "all" else None
        row |= {"split_half": known.split_half if known else math.nan, "ceiling": known.ceiling if known else math.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def _split_groups(predictions: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    yield "all", "all", predictions
    for source, images in predictions.groupby("source"):
        yield source, "all", images
        for category, some in images[images["category"] != ""].groupby("category"):
            yield source, category, some


def _check_table(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    missing = {"path", "score"} - set(table.columns)
    if missing:
        raise ImageError(
            f"The table has no column {' and '.join(map(repr, sorted(missing)))}; its columns are "
            f"{', '.join(map(str, table.columns))}. It needs path and score; source and category are optional."
        )
    if table.empty:
        raise ImageError("The table has no rows: there is nothing to evaluate.")
    truth = pd.to_numeric(table["score"], errors="coerce").astype(float)
    if not truth.map(math.isfinite).all():
        row = table[~truth.map(math.isfinite)].iloc[0]
        raise ImageError(f"The score of {row['path']} is {row['score']!r}; give a number for each image.")
    checked = pd.DataFrame(
        {
            "path": [str(Path(path)) for path in table["path"]],
            "source": table.get("source", "csv"),
            "category": table.get("category", ""),
            "truth": truth,
        }
    )
    # Tables with and without these columns may have been put together.
    return checked.fillna({"source": "csv", "category": ""}).reset_index(drop=True)


def _to_plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
