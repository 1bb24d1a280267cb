"""Photographs in tar archives, such as WebDataset's shards, read where they are.

Such a photograph has a path as if its archive were a folder, `shards/000.tar/00042.jpg`, by which whatever reads
photographs finds it, now or later: the archive's headers say at which byte it begins. The standard library's `tarfile`
is enough for that; `webdataset` reads shards from end to end, and could not give one photograph again.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping
from errno import ENOENT
from functools import lru_cache
from typing import NamedTuple

from memviz.errors import ImageError
from memviz.files import sha256
from memviz.images.formats import extensions

SUFFIX = ".tar"
_SUFFIX = re.compile(rf"{re.escape(SUFFIX)}(?=/)", re.IGNORECASE)
# Archives whose lists are kept: some 200 bytes a photograph.
_KEPT = 16


class Member(NamedTuple):
    """A photograph in an archive: its first byte there, its length, and when the archive was changed."""

    archive: str
    start: int
    size: int
    changed: int


def list_archive(archive: str) -> Iterator[str]:
    """The paths of the photographs in an archive, in its order; hidden ones are left out, as in a folder.

    Raises `ImageError` for an archive that is compressed, truncated or damaged, has a name twice, or one that leads out
    of it, and for one without photographs.
    """
    about = os.stat(archive)
    found = _members(archive, about.st_size, about.st_mtime_ns)
    if not found:
        raise ImageError(f"{archive} holds no pictures: none of its files ends in {' '.join(sorted(extensions()))}.")
    return (f"{archive}/{name}" for name in found)


def member(path: str) -> Member | None:
    """Where the photograph of such a path lies, or None if there is no archive, or no such photograph in it.

    Raises `ImageError` as `list_archive` does.
    """
    path = path.replace(os.sep, "/")
    for suffix in _SUFFIX.finditer(path):
        if os.path.isfile(archive := path[: suffix.end()]):
            about = os.stat(archive)
            place = _members(archive, about.st_size, about.st_mtime_ns).get(path[suffix.end() + 1 :])
            return place and Member(archive, *place, about.st_mtime_ns)
    return None


def read_member(place: Member) -> bytes:
    """The bytes of a photograph in an archive."""
    with open(place.archive, "rb", buffering=0) as file:
        file.seek(place.start)
        return file.read(place.size)


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of a photograph, in an archive or not; an `OSError` if there is none.

    Other than regular files have none: opening a pipe would block.
    """
    if os.path.isfile(path):
        return sha256(path)
    if (place := member(os.fspath(path))) is None:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), os.fspath(path))
    return hashlib.sha256(read_member(place)).hexdigest()


def state(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds of a photograph, in an archive or not; an `OSError` if none."""
    try:
        about = os.stat(path)
    except OSError as error:
        if (place := member(os.fspath(path))) is None:
            raise error from None
        return place.size, place.changed
    return about.st_size, about.st_mtime_ns


@lru_cache(maxsize=_KEPT)
def _members(archive: str, size: int, changed: int) -> Mapping[str, tuple[int, int]]:
    """Start and length of each photograph of an archive that has this size and time of change."""
    found: dict[str, tuple[int, int]] = {}
    pictures = extensions()
    try:
        with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (entry := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep some thousand bytes of each
                name = posixpath.normpath(entry.name)
                hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
                if (
                    not entry.isreg()
                    or entry.issparse()
                    or hidden
                    or posixpath.splitext(name)[1].lower() not in pictures
                ):
                    continue
                if name.startswith("/") or ".." in name.split("/"):
                    raise ImageError(f"{archive} holds {name!r}, a name that leads out of it: pack it anew.")
                if name in found:
                    raise ImageError(f"{archive} holds {name!r} twice: pack it anew.")
                found[name] = entry.offset_data, entry.size
            # tarfile also stops, without a word, at a header that is damaged or cut off.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"it breaks off at byte {tar.offset:,} of {size:,}")
    except tarfile.TarError as error:
        raise ImageError(
            f"{archive} is no tar archive that can be read in place, or is truncated or damaged ({error}): copy it "
            "anew, or unpack it if it is compressed."
        ) from error
    return found
