"""Distillation: a model's scores replace people's, so that any folder of photographs can be used for training.

Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", here with a score instead of
classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from memviz.errors import TrainingError
from memviz.files import MISNAMED, utf8_name
from memviz.images import list_images
from memviz.images.scored import scored
from memviz.models import Model
from memviz.models.model import warn_unreadable
from memviz.training.cache import Array, FeatureCache, RecordKind

CHUNK = 64  # photographs; an interrupted pass loses no more


@dataclass(frozen=True)
class Teacher:
    """A model whose scores of photographs are learned.

    Attributes:
        model: with a score as output, such as the published ResMem.
        sources: files and folders of photographs.
    """

    model: Model
    sources: str | Path | Iterable[str | Path]

    def __post_init__(self) -> None:
        if self.model.target is None:
            raise TrainingError(f"{self.model.name} gives no score, so nothing can be learned from it.")

    @cached_property
    def paths(self) -> list[str]:
        """The absolute paths of the photographs. Names that are not UTF-8 are left out, with a warning."""
        paths = [os.path.abspath(path) for path in list_images(self.sources)]
        # Here, since the cache knows photographs by their contents, which are not what is wrong.
        misnamed = {path: MISNAMED for path in paths if utf8_name(path) != path}
        warn_unreadable(misnamed)
        return [path for path in paths if path not in misnamed]

    def describe(self) -> dict[str, Any]:
        """What a model card records of the teacher."""
        return {
            "model": self.model.name,
            "weights": self.model.fingerprint(),
            "target": self.model.target,
            "inputs": self.model.inputs.to_dict(),
            "score_spec": self.model.score_spec.to_dict(),
        }

    def table(self, cache: FeatureCache) -> pd.DataFrame:
        """The table of scored photographs; scores that are in `cache` are not computed again.

        Files that cannot be read are left out, with a warning that names them.
        """

        def computed(missing: list[int]) -> Iterator[dict[int, Array | str]]:
            for first in range(0, len(missing), CHUNK):
                chunk = missing[first : first + CHUNK]
                found = self.model.score([self.paths[index] for index in chunk], workers=cache.workers, progress=False)
                values = dict(zip(found["path"], found[self.model.target].to_numpy(), strict=True))
                values |= found.attrs["unreadable"]
                yield {index: values[self.paths[index]] for index in chunk}

        kind = RecordKind("scores", self.describe(), (), "<f4")
        photographs = cache.identify(self.paths)
        known = cache.records(kind, photographs, computed, f"Scoring with {self.model.name}")
        scores = pd.Series([math.nan if row < 0 else float(known.array[row]) for row in known.rows], dtype=float)
        if not scores.notna().any():
            raise TrainingError(f"None of the {len(self.paths)} photographs can be read; the first is {self.paths[0]}.")
        paths = pd.Series(self.paths)[scores.notna()].reset_index(drop=True)
        root = Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
        return scored(
            root,
            "",
            files=paths.map(lambda path: Path(path).relative_to(root).as_posix()),
            scores=scores.dropna().clip(0, 1).reset_index(drop=True),
            sources=root.name or "photographs",
            categories="",
            dataset={
                "name": root.name,
                "target": f"{self.model.target} as {self.model.name} predicts it",
                "citation": "",
            },
        )
