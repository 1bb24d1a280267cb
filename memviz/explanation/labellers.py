"""Where the words come from that units may be named with: a network's named outputs, or photographs' categories."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.special import softmax

from memviz.errors import LabelError
from memviz.explanation.responses import Responses
from memviz.images.scored import read_columns
from memviz.models import Model

Array = NDArray[np.float64]
SHOWN = 3  # names of a group of outputs that its own name tells
# The share of all outputs that a group has at most: three of 480 names do not say what the others are. Of ImageNet's
# 1,000 classes 118 are dogs. A pair is one of few.
LARGEST, PAIR = 1 / 8, 2


@dataclass(frozen=True, eq=False)
class Concepts:
    """Words, and how much each photograph shows what they mean.

    Attributes:
        names: the words.
        values: (photographs, concepts), with which a unit is correlated.
        probabilities: (photographs, concepts), in [0, 1], that a photograph shows it; None where `values` are these.
    """

    names: tuple[str, ...]
    values: Array
    probabilities: Array | None = None


class Labeller(Protocol):
    """What `memviz.explanation.label_units` takes words from.

    Attributes:
        source: what labels say of where they come from.
        settings: what decides the concepts beside model and photographs, as plain data.
        layers: of the model, whose activations on the photographs it needs.
    """

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def layers(self) -> tuple[str, ...]: ...  # noqa: D102

    def concepts(self, measured: Responses) -> Concepts:
        """The concepts of photographs, `measured.paths`; `measured.values` has what its layers gave."""
        ...


class NamedOutputs:
    """The probabilities of a network's named outputs, and of groups of them that go together on the photographs.

    An output of 1,000 is rarely shown by enough photographs to be judged: of one photograph a class, by none. So each
    merger in a tree of the outputs, by average linkage of one minus their correlation, is a concept too, up to an
    eighth of all outputs; its probability is the sum of those of its members, and its name that of the three
    likeliest. Units play no part in that. What such a concept tells is what the network itself makes of a photograph.

    Args:
        model: with names in `model.named`.
        address: of the named layer; None for the only one. Its outputs are logits.

    Raises:
        LabelError: the model has no named outputs, or several and none is chosen.
    """

    def __init__(self, model: Model, address: str | None = None) -> None:
        if address is None and len(model.named) == 1:
            (address,) = model.named
        if address is None or address not in model.named:
            known = f"It has {', '.join(model.named)}: give one of them." if model.named else ""
            raise LabelError(
                f"{model.name} has no named outputs{'' if address is None else f' {address!r}'} to label units with. "
                f"{known or 'Give categories of the photographs, or names: memviz.wrap(..., named={address: names}).'}"
            )
        self.address, self.names = address, model.named[address]

    @property
    def source(self) -> str:
        """As "outputs of resnet.fc"."""
        return f"outputs of {self.address}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The layer."""
        return {"named": self.address}

    @property
    def layers(self) -> tuple[str, ...]:
        """The named layer."""
        return (self.address,)

    def concepts(self, measured: Responses) -> Concepts:
        """The outputs, then their groups."""
        logits = measured.values[self.address].astype(np.float64)
        probabilities = softmax(logits, axis=1)
        groups = group(logits)
        total = probabilities.sum(0)
        names = [self._name(sorted(each, key=lambda member: -total[member])) for each in groups]
        return Concepts(tuple(names), np.stack([probabilities[:, each].sum(1) for each in groups], axis=1))

    def _name(self, members: Sequence[int]) -> str:
        names = [self.names[member] for member in members]
        rest = len(names) - SHOWN
        return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


class Categories:
    """The categories of photographs: a photograph shows a category or not.

    Args:
        categories: of each photograph by its path, none or several; `folder_categories` and `read_categories` give it.
        source: what labels say of where they come from.
    """

    layers: tuple[str, ...] = ()

    def __init__(self, categories: Mapping[Path, Iterable[str]], source: str = "categories") -> None:
        self.source = source
        self._of = {Path(path): tuple(dict.fromkeys(names)) for path, names in categories.items()}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The categories' checksum, wherever the photographs lie."""
        table = sorted((path.name, *names) for path, names in self._of.items())
        return {"categories": hashlib.sha256(json.dumps(table).encode()).hexdigest()}

    def concepts(self, measured: Responses) -> Concepts:
        """The categories that any photograph has.

        Raises:
            LabelError: none has one.
        """
        of = [self._of.get(path, ()) for path in measured.paths]
        names = sorted({name for each in of for name in each})
        if not names:
            raise LabelError(
                f"None of {len(of)} photographs has a category. Give a table of their paths, or photographs in folders."
            )
        return Concepts(tuple(names), np.array([[float(name in each) for name in names] for each in of]))


def group(logits: Array) -> list[list[int]]:
    """The outputs, each alone, and then each merger of outputs that go together, of an eighth of them at most.

    >>> logits = np.array([[5.0, 4, 0, 0], [4, 5, 1, 0], [0, 1, 5, 4], [0, 0, 4, 6]])
    >>> group(logits)
    [[0], [1], [2], [3], [0, 1], [2, 3]]
    """
    centred = logits - logits.mean(0)
    most = max(PAIR, round(LARGEST * logits.shape[1]))
    varying = np.flatnonzero(centred.any(0))
    members = [[place] for place in range(logits.shape[1])]
    if len(varying) < 2:
        return members
    known = [[int(place)] for place in varying]
    for one, two, _, _ in linkage(centred[:, varying].T, "average", "correlation"):
        known.append(known[int(one)] + known[int(two)])
    return members + [sorted(each) for each in known[len(varying) :] if len(each) <= most]


def folder_categories(paths: Iterable[Path], root: Path) -> dict[Path, tuple[str, ...]]:
    """The folders below `root` that a photograph lies in, as its categories.

    >>> root = Path("/photos")
    >>> folder_categories([root / "animal/bear/1.jpg", root / "2.jpg"], root)
    {PosixPath('/photos/animal/bear/1.jpg'): ('animal', 'bear'), PosixPath('/photos/2.jpg'): ()}
    """
    return {path: path.relative_to(root).parts[:-1] for path in paths}


def read_categories(
    path: str | os.PathLike[str], root: str | os.PathLike[str], column: str = "category"
) -> dict[Path, tuple[str, ...]]:
    """The categories in a CSV file with the columns `path` and `column`, as `memviz.images.read_csv` knows them.

    Args:
        path: of the file.
        root: to which the photographs' paths in it are relative.
        column: of the categories; an empty cell is none.

    Raises:
        ImageError: a file that is no such CSV.

    Example:
        >>> file = getfixture("tmp_path") / "photographs.csv"
        >>> _ = file.write_text("path,category\\na.jpg,dog\\nb.jpg,\\n")
        >>> read_categories(file, "/photos")
        {PosixPath('/photos/a.jpg'): ('dog',), PosixPath('/photos/b.jpg'): ()}
    """
    table = read_columns(Path(path), ["path", column])
    pairs = zip(table["path"], table[column], strict=True)
    return {Path(root) / photo: (name,) if name.strip() else () for photo, name in pairs}
