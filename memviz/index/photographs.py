"""The photographs of an index: their names, what is in them, and which of them are copies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from memviz.errors import ImageError
from memviz.files import MISNAMED, sha256, utf8_name
from memviz.images import list_images
from memviz.progress import Advance


@dataclass(frozen=True)
class Photographs:
    """Files in the order in which they were given.

    Attributes:
        root: the folder in which all of them lie.
        paths: absolute.
        names: relative to `root`, with slashes; what is not UTF-8 in one is written as `\\xe9`.
        misnamed: the places of those.
    """

    root: Path
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    misnamed: frozenset[int]

    @classmethod
    def find(cls, sources: str | Path | Iterable[str | Path]) -> Photographs:
        """The photographs in files and folders.

        Raises:
            ImageError: there is none, or the folder in which they lie has a name that is not UTF-8.
        """
        paths = tuple(Path(os.path.abspath(path)) for path in list_images(sources))
        root = Path(os.path.commonpath([path.parent for path in paths]))
        if utf8_name(root) != str(root):
            raise ImageError(f"The photographs lie in {utf8_name(root)}: {MISNAMED}.")
        names = [path.relative_to(root).as_posix() for path in paths]
        shown = tuple(map(utf8_name, names))
        misnamed = frozenset(place for place, name in enumerate(names) if name != shown[place])
        return cls(root, paths, shown, misnamed)

    def fingerprint(self) -> str:
        """SHA-256 of the photographs' names, sizes and times of change: no file is opened."""
        digest = hashlib.sha256()
        for path, name in zip(self.paths, self.names, strict=True):
            try:
                about = path.stat()
                entry = [name, about.st_size, about.st_mtime_ns]
            except OSError:  # a broken link, which the pass will report as unreadable
                entry = [name, None, None]
            digest.update(json.dumps(entry).encode())
        return digest.hexdigest()

    def contents(self, workers: int, advance: Advance) -> list[str | None]:
        """SHA-256 of each file; None of one that cannot be read or is misnamed."""

        def content(place: int) -> str | None:
            try:
                return None if place in self.misnamed or not self.paths[place].is_file() else sha256(self.paths[place])
            except OSError:
                return None

        hashes = []
        pool = ThreadPoolExecutor(workers, thread_name_prefix="memviz-hashes")
        try:
            for found in pool.map(content, range(len(self.paths))):
                hashes.append(found)
                advance()
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
