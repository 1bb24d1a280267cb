"""From photographs to an index: what is wanted, what is there already, and the pass between."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from memviz.artefacts import LOCK, MANIFEST, Manifest, check_folder, claim, heal, locked, partial_folder, publish
from memviz.errors import ImageError, LayerError, StoreError
from memviz.index.photographs import Photographs, originals
from memviz.index.query import Index, load_index
from memviz.index.rows import Rows
from memviz.index.scan import ScanState
from memviz.index.scanner import GIVE_EVERY_SECONDS, Scan
from memviz.index.store import FILES, FORMAT, KIND, IndexConfig, IndexResult, positive, write_tables
from memviz.layers import Layer
from memviz.models import Model
from memviz.progress import progress as show_progress
from memviz.work import work

_STATE = "state.pt"
_WORDS = {"config.photographs": "photographs were added, removed or changed since"}


def build_index(
    model: Model,
    sources: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    layers: str | Iterable[str | Layer] | None = None,
    k: int = 16,
    batch_size: int = 16,
    progress: bool | None = None,
    workers: int = 2,
) -> Index:
    """Finds, in one pass, the photographs that excite each unit of the watched layers most and least.

    A unit's activation on a photograph is its peak, as `memviz.layers.unit` defines it: over the positions whose
    receptive field lies inside the picture, where the layer has such; its place is the first in row order. The ranking
    is exact, and equal activations are ranked in the order of the photographs. Of files with the same bytes the first
    is ranked, and `Index.images` names the others. Interrupted in whatever way, the same call continues from
    `<out>.partial`; `out` appears only when the index is complete, and from then on the same call returns it at once.

    Args:
        model: the network; it stays as it is.
        sources: files and folders; folders are searched with their subfolders.
        out: the index's folder.
        layers: addresses, ordinals or `Layer`s; None watches all convolutions and residual blocks.
        k: photographs kept at each side of each unit.
        batch_size: photographs in one forward pass.
        progress: None shows it on a terminal, True also in a log, False never.
        workers: threads that decode.

    Returns:
        The index. Unreadable files are named in its `images`, and a warning names the first.

    Raises:
        LayerError: a layer that the model does not have.
        ImageError: no photograph was found, or none could be read.
        ModelError: an activation is not finite, or a model with a `target` does not give one number a picture.
        StoreError: `out` or `<out>.partial` is of other weights, photographs or settings, or of something else, or
            another process is making this index.

    Example:
        >>> import memviz
        >>> model = memviz.load_model("resmem")  # doctest: +SKIP
        >>> index = memviz.build_index(model, "photos/", out="runs/photos")  # doctest: +SKIP
    """
    k = positive(k, "k", "photographs")
    out = Path(os.path.abspath(out))
    watched = _watched(model, layers)
    photographs = Photographs.find(sources)
    config = IndexConfig(tuple(watched), k, photographs.fingerprint(), model.target, model.score_spec.to_dict())
    manifest = model.manifest(KIND, FORMAT, asdict(config))
    heal(out)
    partial = partial_folder(out)
    if _is_there(out, manifest):
        _remove_leftover(partial, manifest)
        return load_index(out, photographs.root)
    manifest = claim(partial, manifest, _WORDS)
    with locked(partial):
        if _is_there(out, manifest):  # another process has finished it meanwhile
            shutil.rmtree(partial)
            return load_index(out, photographs.root)
        if not manifest.result:  # else it was killed between its last file and its publication
            result = _make(model, config, photographs, partial, batch_size, workers, progress)
            manifest.finished(**asdict(result)).write(partial)
        for path in partial.iterdir():
            if path.name not in (*FILES, LOCK):  # the lock holds until the index is there
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        publish(out)
    return load_index(out, photographs.root)


def _watched(model: Model, layers: str | Iterable[str | Layer] | None) -> list[Layer]:
    if layers is None:
        wanted = {layer.address for layer in model.layers.watched()}
    else:
        given = [layers] if isinstance(layers, str) else list(layers)
        wanted = {model.layers[each if isinstance(each, str) else each.address].address for each in given}
    if not wanted:
        reason = "none were given" if layers is not None else f"{model.name} has no convolution"
        raise LayerError(f"There is no layer to watch: {reason}. Give addresses of model.layers.")
    return [layer for layer in model.layers if layer.address in wanted]


def _is_there(out: Path, manifest: Manifest) -> bool:
    """Whether `out` is the index that is wanted; a `StoreError` if it is something else."""
    check_folder(out)
    if not out.is_dir() or not os.listdir(out):
        return False
    if not (out / MANIFEST).is_file():
        raise StoreError(f"{out} exists and is not an index. Choose another folder for the index.")
    claim(out, manifest, _WORDS)
    return True


def _remove_leftover(partial: Path, manifest: Manifest) -> None:
    """Removes the beginning of an index that is finished, unless another process works on it."""
    if (partial / MANIFEST).is_file():
        with suppress(StoreError):
            if not Manifest.read(partial, KIND, FORMAT).differences(manifest):
                with locked(partial):
                    shutil.rmtree(partial)


def _make(
    model: Model,
    config: IndexConfig,
    photographs: Photographs,
    partial: Path,
    batch_size: int,
    workers: int,
    progress: bool | None,
) -> IndexResult:
    """Scans what the state in `partial` does not know yet, and writes the tables there."""
    with show_progress("Reading", len(photographs.paths), "files", progress) as advance:
        hashes = photographs.contents(workers, advance)
    first = originals(hashes)
    scanned = [place for place, one in enumerate(first) if place == one and place not in photographs.misnamed]
    files = {photographs.paths[place]: hashes[place] for place in scanned}
    state = _scan(model, Scan(config.layers, config.k, files, batch_size, workers), partial / _STATE, progress)
    rows = Rows(photographs, hashes, np.array(first), np.array(scanned), state)
    unreadable = rows.unreadable()
    if len(unreadable) == len(first):
        shutil.rmtree(partial)
        raise ImageError(f"None of the {len(first)} photographs can be read: {rows.named(unreadable)}.")
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(first)} photographs cannot be read and were left out of the index: "
            f"{rows.named(unreadable)}.",
            stacklevel=3,
        )
    write_tables(partial, rows.parts(), config.layers, state.ranking, scanned)
    copies = rows.copies(unreadable)
    return IndexResult(len(first) - len(unreadable) - copies, len(unreadable), copies, str(photographs.root))


def _scan(model: Model, scan: Scan, saved: Path, progress: bool | None) -> ScanState:
    """The state of all photographs: what is saved of it, and what is missing. However it ends, all that is known is
    saved."""
    state = ScanState.load(saved) if saved.exists() else scan.nothing()
    kept, last = state.done, time.monotonic()
    with show_progress("Indexing", len(scan.files) - state.done, "images", progress) as advance:
        try:
            with closing(work(model, scan, scan.shards(state), advance)) as found:
                for each in found:
                    state.merge(each)
                    if time.monotonic() - last >= GIVE_EVERY_SECONDS:
                        state.save(saved)
                        kept, last = state.done, time.monotonic()
        finally:
            if state.done > kept:
                state.save(saved)
    return state
