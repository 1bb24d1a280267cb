"""Distillation: the scores of a model stand for people's, so that any folder of photographs can be learned from.

Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", here with a score in the place of
classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from memviz.errors import TrainingError
from memviz.files import replacing
from memviz.images import list_images
from memviz.images.scored import scored
from memviz.models import Model
from memviz.progress import progress as show_progress
from memviz.training.prepared import digest, file_state

CHUNK = 64  # photographs, after which an interrupted pass goes on


@dataclass(frozen=True)
class Teacher:
    """A model whose scores of photographs are learned.

    Attributes:
        model: with a score as output, as the published ResMem.
        sources: files and folders of photographs.
    """

    model: Model
    sources: str | Path | Iterable[str | Path]

    def __post_init__(self) -> None:
        if self.model.target is None:
            raise TrainingError(f"{self.model.name} gives no score, so nothing can be learned from it.")

    @cached_property
    def paths(self) -> list[str]:
        """The absolute paths of the photographs."""
        return [os.path.abspath(path) for path in list_images(self.sources)]

    def describe(self) -> dict[str, Any]:
        """What a model card says of the teacher."""
        return {
            "model": self.model.name,
            "weights": self.model.fingerprint(),
            "target": self.model.target,
            "inputs": self.model.inputs.to_dict(),
            "score_spec": self.model.score_spec.to_dict(),
        }

    def table(self, cache: Path, workers: int = 2, progress: bool | None = None) -> pd.DataFrame:
        """The table of scored photographs; scores that `cache` has from an earlier call are not computed again.

        Files that cannot be read are left out, with a warning that names them.
        """
        path = cache / f"teacher-{digest(self.describe())[:16]}.csv"
        known: dict[str, tuple[float | None, str]] = {}
        if path.is_file():
            given = pd.read_csv(path, dtype={"state": str})
            known = dict(zip(given["path"], zip(given["score"], given["state"], strict=True), strict=True))
        states = {photograph: file_state(photograph) for photograph in self.paths}
        missing = [photograph for photograph, state in states.items() if known.get(photograph, (0, ""))[1] != state]
        with show_progress(f"Scoring with {self.model.name}", len(missing), "images", progress) as advance:
            for first in range(0, len(missing), CHUNK):
                chunk = missing[first : first + CHUNK]
                found = self.model.score(chunk, workers=workers, progress=False)
                scores = dict(zip(found["path"], found[self.model.target], strict=True))
                known |= {photograph: (scores.get(photograph), states[photograph]) for photograph in chunk}
                with replacing(path) as temporary:
                    rows = [(photograph, *known[photograph]) for photograph in known]
                    pd.DataFrame(rows, columns=["path", "score", "state"]).to_csv(temporary, index=False)
                advance(len(chunk))
        scores = pd.Series(self.paths).map(lambda photograph: known[photograph][0]).astype(float)
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
