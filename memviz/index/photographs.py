"""The photographs of an index: their names, what is in them, and which of them are copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path

from memviz.errors import ImageError
from memviz.files import MISNAMED, utf8_name
from memviz.images import content_hash, find_images, state
from memviz.progress import Advance

# Files that a thread hashes before it takes others: handing over one by one takes longer than hashing it.
SHARE = 64


@dataclass(frozen=True)
class Photographs:
    """Files in the order in which they were given, as text: a `Path` takes five times the memory.

    Attributes:
        root: the folder in which all of them lie.
        paths: absolute.
        misnamed: the places of those whose names are not UTF-8.
    """

    root: Path
    paths: tuple[str, ...]
    misnamed: frozenset[int]

    @classmethod
    def find(cls, sources: str | Path | Iterable[str | Path]) -> Photographs:
        """The photographs in files and folders.

        Raises:
            ImageError: there is none, or the folder in which they lie has a name that is not UTF-8.
        """
        given = [sources] if isinstance(sources, str | Path) else sources
        paths = tuple(find_images([os.path.abspath(source) for source in given]))
        # What the first and the last in the order of text share, all others share.
        root = os.path.commonpath([os.path.dirname(path) for path in (min(paths), max(paths))])
        if utf8_name(root) != root:
            raise ImageError(f"The photographs lie in {utf8_name(root)}: {MISNAMED}.")
        misnamed = (place for place, path in enumerate(paths) if not path.isascii() and utf8_name(path) != path)
        return cls(Path(root), paths, frozenset(misnamed))

    @cached_property
    def _below(self) -> int:
        """Where names begin in paths."""
        return len(os.path.join(self.root, ""))

    def name(self, place: int) -> str:
        """A photograph's name: relative to `root`, with slashes; what is not UTF-8 in it is written as `\\xe9`."""
        name = self.paths[place][self._below :]
        return (utf8_name(name) if place in self.misnamed else name).replace(os.sep, "/")

    def fingerprint(self) -> str:
        """SHA-256 of the photographs' names, sizes and times of change: no file is opened."""
        digest = hashlib.sha256()
        for place, path in enumerate(self.paths):
            name = encode_basestring_ascii(self.name(place))
            try:
                size, changed = state(path)
                entry = f"[{name}, {size}, {changed}]"
            except OSError:  # a broken link, which the pass will report as unreadable
                entry = f"[{name}, null, null]"
            digest.update(entry.encode())
        return digest.hexdigest()

    def contents(self, workers: int, advance: Advance) -> list[str | None]:
        """SHA-256 of each file; None of one that cannot be read or is misnamed."""

        def content(place: int) -> str | None:
            try:
                return None if place in self.misnamed else content_hash(self.paths[place])
            except OSError:
                return None

        def contents(first: int) -> list[str | None]:
            return [content(place) for place in range(first, min(first + SHARE, len(self.paths)))]

        hashes: list[str | None] = []
        pool = ThreadPoolExecutor(workers, thread_name_prefix="memviz-hashes")
        try:
            for found in pool.map(contents, range(0, len(self.paths), SHARE)):
                hashes += found
                advance(len(found))
        finally:
            pool.shutdown(cancel_futures=True)
        return hashes


def originals(hashes: list[str | None]) -> list[int]:
    """For each photograph the first one that has the same bytes, mostly itself; one without a hash is no copy.

    >>> originals(["a", "b", None, "a", None])
    [0, 1, 2, 0, 4]
    """
    first: dict[str, int] = {}
    return [place if found is None else first.setdefault(found, place) for place, found in enumerate(hashes)]
