"""A cache on disk of what is computed for each photograph, by the photograph's contents; trainings may share it.

`photographs.json` has the SHA-256 of each file, with its size and modification time, by which an unchanged file is
recognized. Each kind of record has a folder: its `manifest.json` states what the values depend on besides the
photograph; `rows-0` holds the values, a row for each photograph, and `keys-0` the SHA-256 of each row's photograph.
Both files are only appended to, first the row and then its key, and a row without a key is ignored: an interrupted pass
is continued by the next. Pruning writes files with the next number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
import numpy.typing as npt

from memviz.artefacts import MANIFEST, Manifest, claim, locked
from memviz.errors import StoreError
from memviz.files import read_json, replacing, sha256, write_json
from memviz.progress import progress as show_progress

KIND, FORMAT = "memviz-records", 1
PHOTOGRAPHS, UNREADABLE = "photographs.json", "unreadable.json"
SAVE_SECONDS = 10  # the most work that is lost when a process is killed
_KEY = 65  # bytes: a SHA-256 in hexadecimal digits, and a line break

Array = npt.NDArray[Any]
# From the indices of missing photographs: batches of their rows, or of the reasons why a photograph has none.
Compute = Callable[[list[int]], Iterator[dict[int, Array | str]]]


@dataclass(frozen=True)
class RecordKind:
    """What the rows of a folder hold.

    Attributes:
        what: a word for it, such as "pixels", with which the folder's name begins.
        source: what the values depend on besides the photograph, as plain data.
        shape, dtype: of a row.
    """

    what: str
    source: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def manifest(self) -> Manifest:
        """The folder's manifest."""
        config = {"what": self.what, "source": self.source, "shape": list(self.shape), "dtype": self.dtype}
        return Manifest(KIND, FORMAT, config=config)

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.what}-{digest(self.manifest.config)[:16]}"

    @property
    def row_bytes(self) -> int:
        """Bytes of a row on disk."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a list of photographs; `records[indices]` reads those of several at once.

    Attributes:
        array: (rows, ...), memory-mapped: the records of all photographs in the cache.
        rows: (N,) int64, each photograph's row; -1 for one that cannot be read.
        unreadable: the reason by index.
    """

    array: Array
    rows: npt.NDArray[np.int64]
    unreadable: dict[int, str]

    def __getitem__(self, indices: Any) -> Array:
        found: Array = self.array[self.rows[indices]]
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the file's path: a data loader's processes would otherwise get copies of whole arrays."""
        assert isinstance(self.array, np.memmap)
        given = (str(self.array.filename), self.array.dtype.str, self.array.shape)
        return _reopened, (*given, self.rows, self.unreadable)


def _reopened(path: str, dtype: str, shape: tuple[int, ...], *others: Any) -> Records:
    return Records(np.memmap(path, dtype, "r", shape=shape), *others)


@dataclass(frozen=True)
class Identified:
    """Photographs by their contents, index by index.

    Attributes:
        paths: of the files.
        states: size, and time of the last change in nanoseconds, when they were read.
        sha256: of the files' bytes; "" where one cannot be opened.
        unreadable: the reason by index.
    """

    paths: list[str]
    states: list[tuple[int, int]]
    sha256: list[str]
    unreadable: dict[int, str]


class FeatureCache:
    """A folder of records.

    Args:
        folder: created when the first record is stored.
        workers: threads that read files.
        progress: as in `train`.
    """

    def __init__(self, folder: str | Path, workers: int = 2, progress: bool | None = None) -> None:
        self.folder, self.workers, self.progress = Path(folder), workers, progress

    def identify(self, paths: Sequence[str]) -> Identified:
        """Computes the SHA-256 of the files that are new or have changed."""
        known = self._known_files()
        states = [_state(path) for path in paths]
        names = [quote_from_bytes(os.fsencode(os.path.abspath(path))) for path in paths]
        stale = [index for index, name in enumerate(names) if known.get(name, (0, 0, ""))[:2] != states[index]]
        unreadable: dict[int, str] = {}

        def read(index: int) -> tuple[int, str]:
            try:
                return index, sha256(paths[index])
            except OSError as error:
                unreadable[index] = error.strerror or str(error)
                return index, ""

        fresh: dict[str, tuple[int, int, str]] = {}
        label = "Reading photographs"
        with (
            show_progress(label, len(stale), "images", self.progress) as advance,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            for index, checksum in pool.map(read, stale):
                fresh[names[index]] = (*states[index], checksum)
                advance(1)
        fresh = {name: entry for name, entry in fresh.items() if entry[2]}
        if fresh:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _waiting(self.folder):
                write_json(self.folder / PHOTOGRAPHS, known | self._known_files() | fresh)
        checksums = {name: entry[2] for name, entry in (known | fresh).items()}
        found = ["" if index in unreadable else checksums[name] for index, name in enumerate(names)]
        return Identified(list(paths), states, found, unreadable)

    def records(self, kind: RecordKind, photographs: Identified, compute: Compute, label: str) -> Records:
        """The records of photographs; missing ones are computed, once for all processes that wait for them.

        Raises:
            StoreError: the disk is too small.
        """
        folder, checksums = self.folder / kind.name, photographs.sha256
        keys, unreadable = _read(folder, kind)
        if set(checksums).difference(keys, unreadable, [""]):
            claim(folder, kind.manifest)
            with _waiting(folder):
                keys, unreadable = _read(folder, kind)
                there = {*keys, *unreadable, ""}
                missing = {checksum: index for index, checksum in reversed(list(enumerate(checksums)))}
                wanted = sorted(index for checksum, index in missing.items() if checksum not in there)
                if wanted:
                    _check_room(folder, len(wanted) * kind.row_bytes)
                    with show_progress(label, len(wanted), "images", self.progress) as advance:
                        _append(folder, kind, checksums, compute(wanted), advance)
                    keys, unreadable = _read(folder, kind)
        row = {key: number for number, key in enumerate(keys)}
        rows = np.array([row.get(checksum, -1) for checksum in checksums], dtype=np.int64)
        reasons = {index: unreadable[checksum] for index, checksum in enumerate(checksums) if checksum in unreadable}
        shape = (len(keys), *kind.shape)
        array = np.memmap(_rows(folder), kind.dtype, "r", shape=shape) if keys else np.empty(shape, kind.dtype)
        return Records(array, rows, photographs.unreadable | reasons)

    def kinds(self) -> list[tuple[str, int, int]]:
        """The name of each kind's folder, its number of photographs, and its size in bytes."""
        found = []
        for folder in self._folders():
            kind = _kind(folder)
            found.append((folder.name, len(_read(folder, kind)[0]), _rows(folder).stat().st_size))
        return found

    def prune(self) -> int:
        """Removes the records of photographs that were deleted or changed, and returns the number of bytes freed.

        Raises `StoreError` while a training adds records; trainings that only read are not affected.
        """
        freed = 0
        with locked(self.folder):
            known = self._known_files()
            alive = {name: entry for name, entry in known.items() if _state(unquote_to_bytes(name)) == entry[:2]}
            contents = {entry[2] for entry in alive.values()}
            for folder in self._folders():
                kind = _kind(folder)
                with locked(folder):
                    keys, unreadable = _read(folder, kind)
                    kept = [row for row, key in enumerate(keys) if key in contents]
                    before = _rows(folder).stat().st_size
                    if not kept:
                        shutil.rmtree(folder)
                    elif len(kept) < len(keys):
                        _compact(folder, kind, [keys[row] for row in kept], kept)
                        reasons = {key: reason for key, reason in unreadable.items() if key in contents}
                        write_json(folder / UNREADABLE, reasons)
                    freed += before - len(kept) * kind.row_bytes
            write_json(self.folder / PHOTOGRAPHS, alive)
        return freed

    def _known_files(self) -> dict[str, tuple[int, int, str]]:
        path = self.folder / PHOTOGRAPHS
        return read_json(path, dict[str, tuple[int, int, str]]) if path.is_file() else {}

    def _folders(self) -> list[Path]:
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [folder for folder in found if (folder / MANIFEST).is_file() and _rows(folder).is_file()]


def _append(
    folder: Path, kind: RecordKind, checksums: list[str], batches: Iterator[dict[int, Array | str]], advance: Any
) -> None:
    keys, unreadable = _read(folder, kind)
    pending: list[str] = []
    with _rows(folder).open("ab") as rows, _keys(folder).open("ab") as names:
        if os.fstat(rows.fileno()).st_size < os.fstat(names.fileno()).st_size // _KEY * kind.row_bytes:
            warnings.warn(f"{_rows(folder)} was cut off: what is missing is computed again.", stacklevel=2)
        rows.truncate(len(keys) * kind.row_bytes)
        names.truncate(len(keys) * _KEY)

        def save() -> None:
            rows.flush()
            os.fsync(rows.fileno())
            names.write("".join(f"{key}\n" for key in pending).encode())
            names.flush()
            pending.clear()
            if unreadable:
                write_json(folder / UNREADABLE, unreadable)

        try:
            saved = time.monotonic()
            for batch in batches:
                for index, value in batch.items():
                    if isinstance(value, str):
                        unreadable[checksums[index]] = value
                    else:
                        rows.write(np.ascontiguousarray(value, kind.dtype).reshape(kind.shape).tobytes())
                        pending.append(checksums[index])
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
                advance(len(batch))
        finally:
            save()


def _compact(folder: Path, kind: RecordKind, keys: list[str], rows: list[int]) -> None:
    """Writes these rows to files with the next number; a process that has the old files open can still read them."""
    number, old = _number(folder), (_rows(folder), _keys(folder))
    array = np.memmap(old[0], kind.dtype, "r", shape=(max(rows) + 1, *kind.shape))
    with replacing(folder / f"rows-{number + 1}") as temporary, temporary.open("wb") as file:
        for row in rows:
            file.write(array[row].tobytes())
    with replacing(folder / f"keys-{number + 1}") as temporary:
        temporary.write_text("".join(f"{key}\n" for key in keys))
    for path in old:
        path.unlink()


def _read(folder: Path, kind: RecordKind) -> tuple[list[str], dict[str, str]]:
    """The keys of complete rows, in the rows' order, and the reasons why other photographs have none."""
    reasons, names, rows = folder / UNREADABLE, _keys(folder), _rows(folder)
    if not (names.is_file() and rows.is_file()):
        return [], read_json(reasons, dict[str, str]) if reasons.is_file() else {}
    content = names.read_bytes()
    whole = min(len(content) // _KEY, rows.stat().st_size // kind.row_bytes)
    keys = [content[start : start + _KEY - 1].decode("ascii", "replace") for start in range(0, whole * _KEY, _KEY)]
    return keys, read_json(reasons, dict[str, str]) if reasons.is_file() else {}


def _kind(folder: Path) -> RecordKind:
    config = Manifest.read(folder, KIND, FORMAT).config
    return RecordKind(config["what"], config["source"], tuple(config["shape"]), config["dtype"])


def _number(folder: Path) -> int:
    numbers = [int(path.name[5:]) for path in folder.glob("keys-*") if path.name[5:].isdigit()]
    return max(numbers, default=0)


def _rows(folder: Path) -> Path:
    return folder / f"rows-{_number(folder)}"


def _keys(folder: Path) -> Path:
    return folder / f"keys-{_number(folder)}"


@contextmanager
def _waiting(folder: Path) -> Iterator[None]:
    """Waits, with a warning, until no other training that shares the cache computes the same records."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except StoreError:
            warnings.warn(f"Waiting for another training, which adds to {folder}.", stacklevel=3)
            stack.enter_context(locked(folder, wait=True))
        yield


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder} has {free / 1e9:.1f} GB left, and what training reads takes {needed / 1e9:.1f} GB. Give a "
            "folder on another disk as the cache."
        )


def _state(path: str | bytes) -> tuple[int, int]:
    """Size and modification time, by which an unchanged file is recognized."""
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns


def digest(content: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
