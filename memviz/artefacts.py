"""What every result on disk shares: a manifest, a claim on its folder, a lock, shards, and a finish in one step.

A result is made in one of two ways. One that grows (renders, a training) claims its folder and adds files to it, each
whole or absent. One that is there only when it is complete (an index, a gallery) is made in `<out>.partial`, and
published: it appears as `out` in one step. ::

    manifest = Manifest("memviz-renders", 2, model="resmem", weights=model.fingerprint(), config=config, seed=0)
    folder = claim(out, manifest)  # continue the same, refuse the other and say in which field it differs
    with locked(folder):  # for work that a second process must not do at the same time
        ...

**Shards** let several processes share the work: each writes files of its own under `shards/`, which are immutable once
they are written. One process, that holds the lock, merges them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from memviz.errors import StoreError
from memviz.files import WRITING, provenance, read_json, remove_leftovers, replacing, utf8_name, write_json

MANIFEST, SHARDS, LOCK = "manifest.json", "shards", ".lock"
# What two results must share to be the same; the rest tells when and with what one was made.
_KEY = ("kind", "format", "model", "weights", "inputs", "config", "seed")
T = TypeVar("T")
_HASH = 40  # characters from which on a value is taken for a checksum, of which the first twelve are shown


@dataclass(frozen=True)
class Manifest:
    """Where a result came from. Two results whose kind, format, model, weights, inputs, config and seed are equal are
    the same result.

    Attributes:
        kind, format: what it is, as "memviz-index", and the version of its files.
        model, weights: the model's name, and the SHA-256 of its weights; None where there is no model.
        inputs: the model's preprocessing, `InputSpec.to_dict()`.
        config: whatever else decides the result, as plain data.
        seed: of all that is random in it.
        result: what is known once it is finished, as counts; it is not compared.
        created, versions, platform: when, with what, and where it was made.
    """

    kind: str
    format: int
    model: str | None = None
    weights: str | None = None
    inputs: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    result: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    platform: str = ""

    def differences(self, other: Manifest, words: Mapping[str, str] | None = None) -> list[str]:
        """In which fields this result, which is there, is not the `other`, which is wanted: a phrase each.

        Args:
            other: what is wanted.
            words: a phrase for a dotted field whose values tell nobody anything, as a checksum.
        """
        there, wanted = (
            _flat(json.loads(json.dumps({name: getattr(each, name) for name in _KEY}))) for each in (self, other)
        )
        names = [name for name in {**wanted, **there} if there.get(name) != wanted.get(name)]
        return [
            (words or {}).get(name) or f"{name} {_shown(there, name)}, not {_shown(wanted, name)}" for name in names
        ]

    def finished(self, **result: Any) -> Manifest:
        """The manifest with what is known at the end."""
        return replace(self, result={**self.result, **result})

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`; one that was not written before also says when and with what it was made."""
        write_json(folder / MANIFEST, asdict(self) | ({} if self.created else provenance()))

    @classmethod
    def read(cls, folder: Path, kind: str, version: int) -> Manifest:
        """The manifest of a folder.

        Raises:
            StoreError: none, a damaged one, or one of another kind or format.
        """
        return read_record(folder / MANIFEST, cls, kind, version)


def read_record(path: Path, record: type[T], kind: str, version: int) -> T:
    """Reads a JSON file that says of which kind and format it is, as a type.

    Args:
        path: of the file.
        record: what it must hold, as `read_json` takes it.
        kind, version: what its `kind` and `format` must be.

    Raises:
        StoreError: the file is missing, damaged, or of another kind or format.
    """
    # Kind and format come first: the fields of another kind or format may be others.
    head = read_json(path, dict[str, Any])
    if head.get("kind") != kind:
        raise StoreError(f"{path} is a {head.get('kind')!r}, not a {kind!r}. Give another one.")
    if head.get("format") != version:
        raise StoreError(
            f"{path} has format {head.get('format')!r} of {kind}; this memviz reads format {version}. "
            "Delete it and make it again."
        )
    return read_json(path, record)


def read_result(
    folder: str | os.PathLike[str], kind: str, version: int, name: str, record: type[T], noun: str, command: str
) -> T:
    """A finished result of a model, from its one file, which is written last.

    Args:
        folder: of the artefact.
        kind, version: of its manifest.
        name: of the file.
        record: a dataclass with the `weights` that the manifest has.
        noun, command: what it is called, and the command that makes it.

    Raises:
        StoreError: there is none, it is damaged, not finished, or of other weights than its manifest.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder, kind, version)
    if not (folder / name).is_file():
        raise StoreError(f"The {noun} in {folder} is not finished. Run `memviz {command}` again.")
    found = read_json(folder / name, record)
    if found.weights != manifest.weights:  # type: ignore[attr-defined]
        raise StoreError(f"{folder / name} is of other weights than {folder / MANIFEST}. Make it again.")
    return found


def claim(folder: Path, manifest: Manifest, words: Mapping[str, str] | None = None) -> Manifest:
    """Makes `folder` that of a result, or finds that it is; returns the manifest that it has.

    Files that killed processes left half written are removed.

    Args:
        folder: made where it is missing.
        manifest: what is wanted.
        words: as `Manifest.differences` takes them.

    Raises:
        StoreError: the folder is that of another result (the message says in which fields), holds other files, or
            is a file or below one.
    """
    check_folder(folder)
    if (folder / MANIFEST).is_file():
        there = Manifest.read(folder, manifest.kind, manifest.format)
        if differences := there.differences(manifest, words):
            raise StoreError(
                f"{folder} holds another result: {'; '.join(differences)}. Give another folder, or the same settings."
            )
        remove_leftovers(folder)
        return there
    if folder.is_dir():
        remove_leftovers(folder)
        strange = sorted(name for name in os.listdir(folder) if name != LOCK and not name.startswith(WRITING))
        # Another process may have claimed it since, whose manifest is its first file.
        if strange and not (folder / MANIFEST).is_file():
            raise StoreError(f"{folder} is no {manifest.kind}: it holds {', '.join(strange[:3])}. Give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    # Of two processes that claim at the same moment one writes and the other compares.
    with locked(folder, wait=True):
        if not (folder / MANIFEST).is_file():
            manifest.write(folder)
            return Manifest.read(folder, manifest.kind, manifest.format)
    return claim(folder, manifest, words)


def check_folder(folder: Path) -> None:
    """Refuses a path that cannot be a result's folder: it, or what it lies in, is a file, or its name is not UTF-8."""
    if utf8_name(folder) != str(folder):
        raise StoreError(f"The name of the folder {utf8_name(folder)} is not UTF-8. Give another folder.")
    for path in (folder, *folder.absolute().parents):
        if os.path.lexists(path):
            if not path.is_dir():
                raise StoreError(f"{path} is a file, and cannot hold a folder's files. Give another folder.")
            return


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other processes, and threads, from the same work in a folder.

    The lock is advisory: it binds those who ask for it. It ends with the process, also by SIGKILL. Some cluster file
    systems know no locks; there the block runs without one.

    Args:
        folder: that exists, and gets a file `.lock`.
        wait: for the other one to finish, instead of refusing.

    Raises:
        StoreError: another process holds the lock.
    """
    with _hold(folder / LOCK, wait) as held:
        if not held:
            raise StoreError(
                f"Another process is writing {folder}. Wait until it is done and give the same command again, or "
                "choose another folder."
            )
        yield


@contextmanager
def leased(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process has a share of the work for itself, until the block ends or the process does.

    Another that asks for the same share meanwhile gets False, and may take another one. Where the file system knows no
    locks, everyone gets True: work may then be done twice, and none is lost.

    Args:
        folder: of the result.
        name: of the share.
    """
    path = folder / f"{LOCK}-{name}"
    with _hold(path, wait=False) as held:
        try:
            yield held
        finally:
            if held:  # still: who asks next makes a new file, and finds the share done
                path.unlink(missing_ok=True)


@contextmanager
def _hold(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the block has the lock of a file, or runs where no locks are known, and not another process."""
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except NotImplementedError:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def add_shard(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Adds an immutable shard to a result; one that is there already is not written again.

    Args:
        folder: of the result.
        name: of the shard's file; the same work must give the same name.
        write: gets a temporary path and writes the shard there.
    """
    path = folder / SHARDS / name
    if not path.exists():
        with replacing(path) as temporary:
            write(temporary)
    return path


def shards(folder: Path) -> list[Path]:
    """The shards of a result, by name. One that is gone when it is opened was merged meanwhile: read what is merged
    after the shards."""
    place = folder / SHARDS
    found = place.iterdir() if place.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(WRITING))


def partial_folder(out: Path) -> Path:
    """Where a result is made that is there only when it is complete."""
    return out.with_name(f"{out.name}.partial")


def publish(out: Path) -> None:
    """Puts `<out>.partial` in the place of `out`, in one step where `out` is not there yet.

    Where it is, the old one is `<out>.previous` for a moment: a process that is killed there leaves that for `heal`.
    """
    partial, previous = partial_folder(out), previous_folder(out)
    if out.is_dir():
        os.replace(out, previous)
    try:
        os.replace(partial, out)
    except BaseException:
        if previous.is_dir() and not out.exists():
            os.replace(previous, out)
        raise
    # Only now, so that the lock holds until the end.
    (out / LOCK).unlink(missing_ok=True)
    if previous.is_dir():
        with suppress(OSError):
            remove(previous)


def heal(out: Path) -> None:
    """Ends what a process that was killed while it published left: `out` is then there again, and nothing beside it."""
    previous = previous_folder(out)
    if not previous.is_dir():
        return
    if not os.listdir(previous):
        previous.rmdir()
    elif (previous / MANIFEST).is_file():  # any other folder is not ours
        if out.exists():
            remove(previous)
        else:
            os.replace(previous, out)


def clear(folder: Path) -> None:
    """Removes what is in a result's folder, but not its lock; the manifest last, so that what a process leaves that is
    killed here is still known as a result."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == MANIFEST):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def remove(folder: Path) -> None:
    """Removes a result, as `clear` does, with its folder."""
    clear(folder)
    shutil.rmtree(folder)


def previous_folder(out: Path) -> Path:
    """Where the old result is for the moment in which a new one takes its place."""
    return out.with_name(f"{out.name}.previous")


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a manifest names, which must lie in the manifest's folder.

    Raises:
        StoreError: a name that is absolute, empty, or leads out of the folder, also by a link.
    """
    path = folder / name
    if not name or "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
        raise StoreError(f"{folder} names a file {name!r}, which does not lie in it. The folder is damaged.")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise StoreError(f"{folder} names a file {name!r}, which is a link out of it. The folder is damaged.")
    return path


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level, with dotted names, so that what differs is named without what is the same."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if isinstance(value, str) and len(value) >= _HASH:
        return f"{value[:12]}..."
    if isinstance(value, list) and len(value) > 6:
        return f"a list of {len(value)}"
    return repr(value)
