"""Lists the picture files that files and folders stand for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from memviz.errors import ImageError
from memviz.images.decode import formats

# Listed although not every build of Pillow reads them, so that they are reported and not silently missed.
ALWAYS_LISTED = frozenset({".avif", ".heic", ".heif"})


def list_images(sources: str | Path | Iterable[str | Path]) -> list[Path]:
    """The picture files in `sources`, in the order of the sources, each once.

    A folder contributes the files below it that have a picture's extension, sorted by path; hidden files and
    folders are left out, linked folders are followed. A file that is given itself is listed whatever its extension.

    Raises `ImageError` for a source that does not exist, a folder that holds no picture or cannot be
    read, and for no sources at all.

    >>> folder = getfixture("tmp_path")
    >>> for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
    ...     (folder / name).touch()
    >>> [path.name for path in list_images(folder)]
    ['a.png', 'b.JPG']
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    if not given:
        raise ImageError("No pictures were given: name at least one file or folder.")
    found: dict[str, Path] = {}
    for source in map(Path, given):
        for path in _find_below(source) if source.is_dir() else [_check_exists(source)]:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _check_exists(path: Path) -> Path:
    if not path.exists():
        raise ImageError(f"{path} does not exist: give a picture file or a folder of them.")
    return path


def _find_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    extensions = _listed_extensions()
    seen: set[str] = set()  # real paths: a link to a folder above would loop
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(root, name) for name in files if not name.startswith("."))
        found += (path for path in paths if path.suffix.lower() in extensions)
    if not found:
        raise ImageError(f"{folder} holds no pictures: none of its files ends in {' '.join(sorted(extensions))}.")
    return sorted(found)


def _listed_extensions() -> frozenset[str]:
    readable = formats()  # which also makes Pillow know its extensions
    return ALWAYS_LISTED.union(extension for extension, name in Image.EXTENSION.items() if name in readable)


def _raise_unreadable(error: OSError) -> None:
    raise ImageError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error
