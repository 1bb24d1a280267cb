"""The folder of a training or a search: the names of its files, its manifest and its lock."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from memviz.artefacts import MANIFEST, Manifest, check_folder, claim, locked

HISTORY, LAST, BEST, CACHE = "history.csv", "last.ckpt", "best.ckpt", "cache"
SPLIT, PHOTOGRAPHS, NEAR_DUPLICATES = "split.json", "photographs.csv", "near_duplicates.csv"
# Words for entries that are checksums, of which an error message would say nothing.
_WORDS: Mapping[str, str] = {
    "weights": "other starting weights",
    "inputs.mean_image.float32": "another mean image",
    "config.split": "another split",
    "config.data.files": "other photographs or scores",
    "config.data.teacher.weights": "another teacher",
}


def first_process() -> bool:
    """Whether this is the process that writes; the others of a data-parallel training only compute."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


@contextmanager
def claimed(out: Path, manifest: Manifest, begun: Iterable[str], provisional: Iterable[str] = ()) -> Iterator[None]:
    """Claims `out` for a run, or checks that it is claimed for it, and locks it during the block.

    A run that has not begun, for example because photographs were missing, is replaced by one with other settings,
    since nothing is lost. Each process of a data-parallel training checks, since those that are not refused would wait
    for the one that is; only the first writes, and holds the lock.

    Args:
        out: the folder.
        manifest: of the run.
        begun: patterns of files; a run has begun if one of them exists.
        provisional: names of files, besides the split, that a run that has not begun may have left.

    Raises:
        StoreError: `out` holds another run, or other files, or is a file; or another process runs in it.
    """
    check_folder(out)
    there, has_begun = (out / MANIFEST).is_file(), any(any(out.glob(pattern)) for pattern in begun)
    if not first_process():
        if there and has_begun:
            claim(out, manifest, _WORDS)
        yield
        return
    if there and not has_begun:
        with locked(out):
            if Manifest.read(out, manifest.kind, manifest.format).differences(manifest):
                remove(out / name for name in (SPLIT, PHOTOGRAPHS, NEAR_DUPLICATES, *provisional))
                manifest.write(out)
    claim(out, manifest, _WORDS)
    with locked(out):
        yield


def confirm(out: Path, manifest: Manifest) -> None:
    """Refuses a finished run with another manifest; the machine may differ."""
    if (out / MANIFEST).is_file():
        there = Manifest.read(out, manifest.kind, manifest.format)
        manifest = replace(manifest, config={**manifest.config, "runtime": there.config.get("runtime")})
    claim(out, manifest, _WORDS)


def remove(paths: Iterable[Path]) -> None:
    """Removes files and folders; missing ones are ignored."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
