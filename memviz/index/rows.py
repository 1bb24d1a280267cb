"""The rows of `images.parquet`: what a finished pass found of each file, unreadable ones and copies included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memviz.files import MISNAMED
from memviz.index.photographs import Photographs
from memviz.index.scan import ScanState

# Rows that are made at a time: as lists, those of a million photographs would take a gigabyte.
PART = 65_536


@dataclass(frozen=True, eq=False)
class Rows:
    """The files of an index.

    Attributes:
        photographs: all files.
        hashes: of each its SHA-256, None where it could not be read.
        first: of each the place of the first file with the same bytes.
        scanned: the places of those that were scanned, in the order of the numbers that `state` gives them.
        state: of the finished pass.
    """

    photographs: Photographs
    hashes: Sequence[str | None]
    first: NDArray[np.int64]
    scanned: NDArray[np.int64]
    state: ScanState

    def numbers(self) -> NDArray[np.int64]:
        """Of each file the number by which `state` knows its bytes; -1 where its name kept it out of the pass."""
        numbers = np.full(len(self.first), -1)
        numbers[self.scanned] = np.arange(len(self.scanned))
        return numbers[self.first]

    def unreadable(self) -> list[int]:
        """The places of files that could not be read."""
        failed = [-1, *self.state.errors]
        return np.flatnonzero(np.isin(self.numbers(), failed)).tolist()

    def copies(self, unreadable: Sequence[int]) -> int:
        """How many of the readable files have the same bytes as an earlier one."""
        copied = self.first != np.arange(len(self.first))
        return int(copied.sum() - copied[list(unreadable)].sum())

    def named(self, unreadable: Sequence[int]) -> str:
        """The first five unreadable photographs and why, and how many more there are."""
        numbers = self.numbers()
        few = (f"{self.photographs.name(place)} ({self._error(int(numbers[place]))})" for place in unreadable[:5])
        return "; ".join(few) + (f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else "")

    def parts(self) -> Iterator[dict[str, Any]]:
        """The columns of `images.parquet`, of some thousand rows at a time; None where there is nothing."""
        numbers, found = self.numbers(), self.state.rows(len(self.scanned))
        for start in range(0, len(self.first), PART):
            places = range(start, min(start + PART, len(self.first)))
            here = numbers[start : places.stop]
            errors = [self._error(number) for number in here.tolist()]
            columns: dict[str, Any] = {
                "image": np.array(places),
                "path": [self.photographs.name(each) for each in places],
            }
            for name, values in found.items():
                pairs = zip(values[here].tolist(), errors, strict=True)
                columns[name] = [None if error or value != value else value for value, error in pairs]
            originals = zip(places, self.first[start : places.stop].tolist(), errors, strict=True)
            yield columns | {
                "error": errors,
                "sha256": self.hashes[start : places.stop],
                "copy_of": [
                    None if error or place == first else self.photographs.name(first)
                    for place, first, error in originals
                ],
            }

    def _error(self, number: int) -> str | None:
        return MISNAMED if number < 0 else self.state.errors.get(number)
