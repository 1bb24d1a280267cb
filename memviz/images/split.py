"""Divides photographs into training, validation and test subsets; the split is seeded and recorded."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from memviz.artefacts import read_record
from memviz.errors import ImageError
from memviz.files import provenance, sha256, write_json
from memviz.images.scored import check_readable, first_of, names

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
KIND, FORMAT = "memviz-split", 1

Stratum = tuple[str, str]  # source and category


@dataclass(frozen=True)
class Split:
    """The photographs of each subset as sorted `source/file`, with the seed and the fractions that were used.

    For a data set's own split the seed is that split's number, see `lamem_split`. A photograph that is in two subsets
    is an `ImageError`.
    """

    seed: int
    fractions: tuple[float, float, float]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        times = Counter([*self.train, *self.validation, *self.test])
        if twice := sorted(name for name, count in times.items() if count > 1):
            raise ImageError(f"Photographs are in two subsets of the split, or twice in one. {first_of(twice)}.")

    def subset(self, table: pd.DataFrame, subset: Subset) -> pd.DataFrame:
        """The rows of `table` that are in a subset, in the table's order.

        The table may lack whole sources, for example LaMem where only MemCat is tested. Raises `ImageError` if it has
        photographs that the split does not list, lacks some of a source that it has, or for an unknown subset.
        """
        if subset not in SUBSETS:
            raise ImageError(f"A split has no subset {subset!r}: give one of {', '.join(SUBSETS)}.")
        given, sources = names(table), set(table["source"])
        known = set(self.train).union(self.validation, self.test)
        if strange := sorted(set(given) - known):
            raise ImageError(f"The split does not say to which subset photographs belong. {first_of(strange)}.")
        if missing := sorted(name for name in known.difference(given) if name.partition("/")[0] in sources):
            raise ImageError(f"The split lists photographs that the data set does not have. {first_of(missing)}.")
        chosen = table[given.isin(set(getattr(self, subset)))].reset_index(drop=True)
        chosen.attrs = table.attrs
        return chosen

    def save(self, path: str | Path) -> None:
        """Writes the split as JSON, with the date and the versions that made it."""
        write_json(path, {"kind": KIND, "format": FORMAT, **asdict(self), **provenance()})

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Reads a saved split; one that is missing, damaged or of another kind is a `StoreError`."""
        return read_record(Path(path), cls, KIND, FORMAT)


def split(
    table: pd.DataFrame,
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    near_duplicates: pd.DataFrame | None = None,
) -> Split:
    """Draws a split of a table, stratified by source and category.

    Files with identical bytes stay in one subset, and so do `near_duplicates`, pairs in the columns `path_a` and
    `path_b`; such groups go to the subset with most room left, so mostly to training. Counts follow the largest
    remainder method, and deviate from it only where a group does not fit.

    The same seed and photographs give the same split on every machine, for any order of the rows and any folder:
    photographs are drawn in the order of the SHA-256 of the seed and `source/file`.

    Raises `ImageError` for fractions that are not three that make 1, and for files that are missing.

    >>> rows = [(str(getfixture("tmp_path") / f"{number}.jpg"), f"{number}.jpg") for number in range(10)]
    >>> table = pd.DataFrame(rows, columns=["path", "file"]).assign(score=0.5, source="mine", category="")
    >>> for number, path in enumerate(table["path"]):
    ...     _ = Path(path).write_text(str(number))
    >>> drawn = split(table, seed=1)
    >>> len(drawn.train), len(drawn.validation), len(drawn.test)
    (8, 1, 1)
    """
    shares = [Fraction(share).limit_denominator(10**6) for share in fractions]
    if len(shares) != len(SUBSETS) or sum(shares) != 1 or min(shares) < 0:
        raise ImageError(f"fractions={tuple(fractions)} is not possible: give three that make 1, as (0.8, 0.1, 0.1).")
    check_readable(table)
    strata = dict(zip(names(table), zip(table["source"], table["category"], strict=True), strict=True))
    left = _count_shares(Counter(strata.values()), shares)

    def rank(name: str) -> str:
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    subsets: dict[Subset, list[str]] = {subset: [] for subset in SUBSETS}
    groups = [sorted(group, key=rank) for group in _group_duplicates(table, near_duplicates)]
    # Large groups first, while there is room for them.
    for group in sorted(groups, key=lambda group: (-len(group), rank(group[0]))):
        needed = Counter(strata[name] for name in group)
        room = {subset: min(left[stratum][subset] - count for stratum, count in needed.items()) for subset in SUBSETS}
        chosen = max(SUBSETS, key=lambda subset: room[subset])
        subsets[chosen] += group
        for stratum, count in needed.items():
            left[stratum][chosen] -= count
    first, second, third = fractions
    train, validation, test = (tuple(sorted(subsets[subset])) for subset in SUBSETS)
    return Split(seed, (first, second, third), train, validation, test)


def _count_shares(sizes: Counter[Stratum], shares: list[Fraction]) -> dict[Stratum, dict[Subset, int]]:
    """How many photographs of each stratum each subset gets, by the largest remainder method.

    Rounding errors are carried over from stratum to stratum; otherwise many small strata would all round in favour of
    the same subset.
    """
    counts = {}
    owed = dict.fromkeys(SUBSETS, Fraction(0))
    for stratum in sorted(sizes):
        exact = {subset: sizes[stratum] * share for subset, share in zip(SUBSETS, shares, strict=True)}
        whole = {subset: int(count) for subset, count in exact.items()}
        odd = {subset: exact[subset] - whole[subset] for subset in SUBSETS}
        ranked = sorted(
            (subset for subset in SUBSETS if odd[subset]), key=lambda subset: odd[subset] + owed[subset], reverse=True
        )
        for subset in ranked[: sizes[stratum] - sum(whole.values())]:
            whole[subset] += 1
        owed = {subset: owed[subset] + exact[subset] - whole[subset] for subset in SUBSETS}
        counts[stratum] = whole
    return counts


def _group_duplicates(table: pd.DataFrame, near_duplicates: pd.DataFrame | None) -> Iterable[list[str]]:
    """Groups of photographs that must stay in one subset."""
    name_of = dict(zip(table["path"], names(table), strict=True))
    leader = {name: name for name in name_of.values()}

    def lead(name: str) -> str:
        while leader[name] != name:
            name = leader[name] = leader[leader[name]]
        return name

    pairs = list(_find_identical(table["path"]))
    if near_duplicates is not None:
        pairs += zip(near_duplicates["path_a"], near_duplicates["path_b"], strict=True)
    for one, other in pairs:
        if one in name_of and other in name_of:
            leader[lead(name_of[other])] = lead(name_of[one])
    groups = defaultdict(list)
    for name in leader:
        groups[lead(name)].append(name)
    return groups.values()


def _find_identical(paths: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Pairs of files with the same bytes; only files of the same length are read."""
    by_length = defaultdict(list)
    for path in paths:
        by_length[os.path.getsize(path)].append(path)
    for alike in by_length.values():
        seen: dict[str, str] = {}
        for path in alike if len(alike) > 1 else []:
            yield seen.setdefault(sha256(path), path), path
