"""The folder of a training or a search: the names of its files, whose it is, and who may write there."""

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
# What is compared by a checksum, which tells nobody anything.
_WORDS: Mapping[str, str] = {
    "weights": "other starting weights",
    "inputs.mean_image.float32": "another mean image",
    "config.split": "another split",
    "config.data.files": "other photographs or scores",
    "config.data.teacher.weights": "another teacher",
}


def first_process() -> bool:
    """Whether this process is the one that writes; the others of a data-parallel training only compute."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


@contextmanager
def claimed(out: Path, manifest: Manifest, begun: Iterable[str], provisional: Iterable[str] = ()) -> Iterator[None]:
    """Makes `out` the folder of a run, or finds that it is, and keeps other runs out of it for the block.

    A run that has not begun gives way to one with other settings, since nothing is lost: as where photographs were
    missing. Each process of a data-parallel training compares, or those that are not refused would wait for the one
    that is; only the first writes, and holds the lock.

    Args:
        out: the folder.
        manifest: of the run.
        begun: patterns of files, of which a run that has begun has one.
        provisional: names of what a run that has not begun may have left, beside the split.

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
    """Refuses a finished run that is another; what was finished on one machine may be looked at on another."""
    if (out / MANIFEST).is_file():
        there = Manifest.read(out, manifest.kind, manifest.format)
        manifest = replace(manifest, config={**manifest.config, "runtime": there.config.get("runtime")})
    claim(out, manifest, _WORDS)


def remove(paths: Iterable[Path]) -> None:
    """Removes files and folders; those that are not there are none of its business."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
