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

from memviz.errors import StoreError, TrainingError
from memviz.files import read_json, replacing, write_json
from memviz.images import list_images
from memviz.images.scored import scored
from memviz.models import Model
from memviz.progress import progress as show_progress

SCORES, MANIFEST = "teacher.csv", "teacher.json"
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
        if self.model.output is None:
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
            "output": self.model.output,
            "inputs": self.model.inputs.to_dict(),
            "outputs": self.model.outputs.to_dict(),
        }

    def table(self, folder: Path, workers: int = 2, progress: bool | None = None) -> pd.DataFrame:
        """The table of scored photographs; scores that `folder` has from an earlier call are not computed again.

        Files that cannot be read are left out, with a warning that names them.

        Raises `StoreError` if `folder` has the scores of another teacher.
        """
        manifest = self.describe()
        known: dict[str, float | None] = {}
        if (folder / MANIFEST).is_file():
            if read_json(folder / MANIFEST) != manifest:
                raise StoreError(f"{folder / SCORES} holds the scores of another teacher. Give another folder.")
            if (folder / SCORES).is_file():
                given = pd.read_csv(folder / SCORES)
                known = dict(zip(given["path"], given["score"], strict=True))
        else:
            write_json(folder / MANIFEST, manifest)
        missing = [path for path in self.paths if path not in known]
        with show_progress(f"Scoring with {self.model.name}", len(missing), "images", progress) as advance:
            for first in range(0, len(missing), CHUNK):
                chunk = missing[first : first + CHUNK]
                found = self.model.score(chunk, workers=workers, progress=False)
                known |= dict.fromkeys(chunk) | dict(zip(found["path"], found[self.model.output], strict=True))
                with replacing(folder / SCORES) as temporary:
                    pd.DataFrame({"path": list(known), "score": list(known.values())}).to_csv(temporary, index=False)
                advance(len(chunk))
        scores = pd.Series(self.paths).map(known).astype(float)
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
                "target": f"{self.model.output} as {self.model.name} predicts it",
                "citation": "",
            },
        )
