"""What a photograph shows, as numbers: the classes that a network names, and the photographs' categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memviz.errors import ModelError
from memviz.explanation.perceptual import Features
from memviz.explanation.responses import responses
from memviz.models import Model

FEW = 10  # photographs of a category, below which it is none


def conceptual_features(
    model: Model, paths: Sequence[Path], *, workers: int = 2, progress: bool | None = None
) -> Features:
    """The classes that a network names in photographs, and the folders in which these lie, where there are several.

    - *classes*: of each layer of `Model.named`, the outputs, averaged over positions where there are any, less their
      mean over the classes. Of outputs that go into a softmax that is the centred logarithm of the probabilities
      (Aitchison 1982), and what all classes have in common, which says nothing of what is shown, is gone.
    - *categories*: 1 in the folder of the photograph, 0 in others; folders of fewer than 10 photographs are none.

    Args:
        model: whose names are taken, if it has any.
        paths: of photographs that can be read.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        ModelError: neither names nor categories.
    """
    check_concepts(model, paths)
    parts, names, groups = [], list[str](), list[str]()
    if model.named:
        found = responses(
            model, paths, dict.fromkeys(model.named), statistic="mean", workers=workers, progress=progress
        )
        for address, values in found.values.items():
            outputs = values.astype(np.float64)
            parts.append(outputs - outputs.mean(1, keepdims=True))
            names += model.named[address]
            groups += [address] * outputs.shape[1]
    if kept := find_categories(paths):
        parts.append(np.array([[path.parent.name == name for name in kept] for path in paths], np.float64))
        names += kept
        groups += ["category"] * len(kept)
    return Features(np.hstack(parts), tuple(names), tuple(groups))


def find_categories(paths: Sequence[Path]) -> list[str]:
    """The names of the folders in which enough photographs lie, where these are several; else none.

    >>> find_categories([Path(folder, str(number)) for folder in ("cats", "dogs") for number in range(10)])
    ['cats', 'dogs']
    """
    counts = Counter(path.parent.name for path in paths)
    kept = sorted(folder for folder, count in counts.items() if count >= FEW)
    return kept if len(kept) > 1 else []


def check_concepts(model: Model, paths: Sequence[Path]) -> None:
    """Refuses, before anything is measured, a network and photographs that have nothing conceptual to tell.

    Raises:
        ModelError: neither names nor categories.
    """
    if not model.named and not find_categories(paths):
        raise ModelError(
            f"{model.name} names no classes, and the photographs lie in one folder, so there is nothing conceptual to "
            "compare with. Give a network that names its outputs, --concepts, or concepts=memviz.wrap(..., named=...)."
        )
