"""Files that are whole or absent, and the manifest that says where they came from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from memviz.errors import StoreError

# How names begin of files that are not whole; SIGKILL leaves them. Then come the host and the process.
WRITING = ".writing-"
# Of a path that differs from its `utf8_name`.
MISNAMED = "its name is not UTF-8: rename it"
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
# Whether a process of another host still runs is not known here.
_ABANDONED_SECONDS = 24 * 3600
T = TypeVar("T")


@contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it takes the place of `path` in one step.

    After an exception, a full disk, Ctrl-C or SIGKILL, `path` is what it was before; where it is `durable`, also if the
    machine itself fails. Waiting for the disk takes some milliseconds a file.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/notes.txt") as temporary:
    ...         _ = temporary.write_text("whole or absent")
    ...     Path(f"{folder}/notes.txt").read_text()
    'whole or absent'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since writers choose the format by it.
    prefix = f"{WRITING}{_HOST}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner reads; give what open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuses a path that cannot become a file, before the work whose result it is to hold is done.

    Raises:
        StoreError: it is a folder, or what it lies in is a file.
    """
    target = Path(path)
    if target.is_dir():
        raise StoreError(f"{target} is a folder, not a file. Give a file's name.")
    if not (nearest := next(each for each in target.absolute().parents if os.path.lexists(each))).is_dir():
        raise StoreError(f"{nearest} is a file, and cannot hold {target.name}. Give another path.")


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, read piece by piece."""
    digest = hashlib.sha256()
    # Not `hashlib.file_digest`, whose buffer takes longer to make than a photograph to hash.
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(2**16):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes `content` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Removes the half-written files that processes left that were killed, from a folder and the folders in it."""
    for path in [*folder.glob(f"{WRITING}*"), *folder.glob(f"*/{WRITING}*")]:
        with suppress(OSError):  # another process removed it, or nothing can be written here
            if _abandoned(path):
                path.unlink()


def _abandoned(path: Path) -> bool:
    host, _, process = path.name.removeprefix(WRITING).partition("-")
    number = process.partition("-")[0]
    if host != _HOST or not number.isdigit():
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        return False
    return False


@overload
def read_json(path: str | os.PathLike[str]) -> Any: ...
@overload
def read_json(path: str | os.PathLike[str], kind: type[T]) -> T: ...
def read_json(path: str | os.PathLike[str], kind: Any = Any) -> Any:
    """Reads a JSON file as a type: a dataclass, `dict[str, int]`, ...; whatever does not fit is a `StoreError`.

    Args:
        path: of the file.
        kind: what it must hold, as `msgspec` knows types; unknown fields of a dataclass are ignored.

    Raises:
        StoreError: the file is missing, cannot be read, or holds something else; the message names the file.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(f"{folder}/counts.json", {"images": 3})
        ...     read_json(f"{folder}/counts.json", dict[str, int])
        {'images': 3}
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        # A dataclass's own check of its values arrives here as a ValidationError, with its message.
        raise StoreError(f"{path} is damaged ({error}). Delete it and run the command again.") from error


def utf8_name(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed, and written into JSON and CSV: bytes that are not UTF-8 as `\\xe9`.

    >>> utf8_name(os.fsdecode(b"caf\\xe9.png"))
    'caf\\\\xe9.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def provenance() -> dict[str, Any]:
    """When, with which versions, and on what kind of machine an artefact was made."""
    packages = ("memviz", "torch", "torchvision", "numpy", "pillow")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "platform": f"{sys.platform}-{platform.machine()}",
    }
