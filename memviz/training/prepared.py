"""What training reads of each photograph, computed once and kept in memory-mapped files.

That is the network's input, as 8-bit pixels after resizing and cropping, and the outputs of the parts that are not
trained, for the photograph and, where training flips, for its mirror image. Reading them back takes no decoding and no
pass through those parts.

On disk, in a folder that several trainings may share: an array `<what>-<key>.npy` and beside it `<what>-<key>.json`,
whose key is a hash of everything that the array depends on. What is not complete is called `.partial`, and continued.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor, nn

from memviz.errors import ImageError, StoreError, TrainingError
from memviz.files import read_json, sha256, write_json
from memviz.images import stream
from memviz.images.scored import check_readable, names
from memviz.layers import private_copy
from memviz.models import InputSpec
from memviz.models.weights import fingerprint
from memviz.progress import progress as show_progress

KIND, FORMAT = "memviz-prepared", 1
SAVE_EVERY = 50  # batches, after which an interrupted pass goes on

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """The arrays of a table's photographs, row by row.

    Attributes:
        pixels: (N, 3, H, W) uint8, red, green, blue.
        frozen: by address, the part's outputs (N, 1 or 2, ...) float32: of the photograph, and of its mirror image.
        sha256: of each file's bytes.
        unreadable: the reason by row; the arrays hold nothing in these rows.
    """

    pixels: Array
    frozen: dict[str, Array]
    sha256: list[str]
    unreadable: dict[int, str]

    def __reduce__(self) -> tuple[Any, ...]:
        """By the files' paths: processes that read ahead would else get copies of whole arrays."""
        paths = {address: _path(outputs) for address, outputs in self.frozen.items()}
        return _reopened, (_path(self.pixels), paths, self.sha256, self.unreadable)


def _path(array: Array) -> str:
    assert isinstance(array, np.memmap)
    return str(array.filename)


def _reopened(pixels: str, frozen: dict[str, str], *others: Any) -> Prepared:
    outputs = {address: np.load(path, mmap_mode="r") for address, path in frozen.items()}
    return Prepared(np.load(pixels, mmap_mode="r"), outputs, *others)


def pixel_spec(inputs: InputSpec) -> InputSpec:
    """The same resizing and cropping without any change of values: what is kept as 8 bits.

    >>> pixel_spec(InputSpec(size=(8, 8), scale=255.0, mean=(1.0, 2.0, 3.0))).scale
    1.0
    """
    return replace(inputs, mean=None, std=None, channels="rgb", scale=1.0, mean_image=None)


def network_input(inputs: InputSpec, pixels: Tensor) -> Tensor:
    """The network's inputs (N, 3, H, W) of 8-bit pixels of that shape, as `InputSpec.from_pil` gives them."""
    return inputs.from_tensor(pixels.float() / 255, resize=False)


def prepare(
    table: pd.DataFrame,
    inputs: InputSpec,
    frozen: dict[str, nn.Module],
    folder: Path,
    *,
    device: torch.device,
    mirrored: bool = True,
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> Prepared:
    """Computes what is not yet in `folder`, and opens all of it.

    Args:
        table: of scored photographs.
        inputs: the network's preprocessing.
        frozen: by address, the parts that are not trained; each maps inputs (N, 3, H, W) to one tensor.
        folder: where the arrays are kept.
        device: where the frozen parts run.
        mirrored: also compute their outputs for the mirror images.
        batch_size, workers, progress: as in `Model.score`.

    Raises:
        ImageError: files are missing, or none can be read.
        StoreError: the disk is too small for the arrays.
    """
    check_readable(table)
    files = [(name, file_state(path)) for name, path in zip(names(table), table["path"], strict=True)]
    source = {"inputs": pixel_spec(inputs).to_dict(), "files": digest(files)}
    shape = (len(table), 3, *inputs.size)
    folder.mkdir(parents=True, exist_ok=True)

    def decoded(start: int) -> Iterator[tuple[int, dict[int, Array], dict[int, Any]]]:
        paths = list(table["path"])
        for batch in stream(paths, _pixels(inputs), batch_size, workers=workers, start=start):
            rows = dict(zip(batch.indices.tolist(), batch.pictures.numpy(), strict=True))
            facts: dict[int, Any] = {row: sha256(paths[row]) for row in rows}
            facts |= {failure.index: {"unreadable": failure.reason} for failure in batch.failures}
            yield len(facts), rows, facts

    pixels, facts = _array(folder, "pixels", source, shape, np.dtype(np.uint8), decoded, "Decoding", progress)
    unreadable = {row: fact["unreadable"] for row, fact in enumerate(facts) if isinstance(fact, dict)}
    if len(unreadable) == len(table):
        raise ImageError(f"None of the {len(table)} photographs can be read: {table['path'].iloc[0]}: {unreadable[0]}.")

    outputs = {}
    for address, part in frozen.items():
        network = private_copy(part).to(device)
        with torch.inference_mode():
            example = _output(network, torch.zeros(1, 3, *inputs.size, device=device), address)

        def computed(
            start: int, network: nn.Module = network
        ) -> Iterator[tuple[int, dict[int, Array], dict[int, Any]]]:
            for first in range(start, len(table), batch_size):
                rows = range(first, min(first + batch_size, len(table)))
                pictures = network_input(inputs, torch.from_numpy(np.array(pixels[rows.start : rows.stop])).to(device))
                pictures = pictures.contiguous(memory_format=torch.channels_last)
                with torch.inference_mode():
                    seen = [network(pictures), *([network(pictures.flip(-1))] if mirrored else [])]
                results = torch.stack(seen, dim=1).cpu().numpy()
                yield len(rows), dict(zip(rows, results, strict=True)), dict.fromkeys(rows)

        key = {**source, "inputs": inputs.to_dict(), "address": address, "weights": fingerprint(part)}
        size = (len(table), 1 + mirrored, *example.shape[1:])
        label = f"Running {address} once"
        outputs[address], _ = _array(folder, address, key, size, np.dtype(np.float32), computed, label, progress)
    return Prepared(pixels, outputs, [fact if isinstance(fact, str) else "" for fact in facts], unreadable)


def _output(network: nn.Module, pictures: Tensor, address: str) -> Tensor:
    out = network(pictures)
    if not isinstance(out, Tensor):
        raise TrainingError(
            f"{address} gives a {type(out).__name__}; only a part that gives one tensor can stay frozen."
        )
    return out


def _pixels(inputs: InputSpec) -> Callable[[Image.Image], Tensor]:
    spec = pixel_spec(inputs)
    # from_pil divides the resized photograph's 8-bit values by 255: rounding gives them back exactly.
    return lambda image: torch.from_numpy(np.rint(spec.from_pil(image).numpy() * 255).astype(np.uint8))


Produce = Callable[[int], Iterator[tuple[int, dict[int, Array], dict[int, Any]]]]


def _array(
    folder: Path,
    what: str,
    source: dict[str, Any],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    produce: Produce,
    label: str,
    progress: bool | None,
) -> tuple[Array, list[Any]]:
    """The array and a fact for each row, from disk or from what `produce(start)` yields: (count, arrays, facts)."""
    source = {**source, "kind": KIND, "format": FORMAT}
    key = digest({**source, "shape": list(shape)})[:16]
    path, facts_path = folder / f"{what}-{key}.npy", folder / f"{what}-{key}.json"

    def complete() -> bool:
        return path.is_file() and facts_path.is_file()

    if not complete():
        lock = folder / f"{what}-{key}.lock"
        with _alone(lock):
            if not complete():
                _make(path, facts_path, source, shape, dtype, produce, label, progress)
        # Whoever waits for a lock that is gone finds the array; before it is complete that would not be safe.
        with suppress(OSError):  # as on Windows, where another has it open
            lock.unlink()
    return _opened(path, shape), _facts(facts_path, shape[0], shape[0])


def _make(
    path: Path,
    facts_path: Path,
    source: dict[str, Any],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    produce: Produce,
    label: str,
    progress: bool | None,
) -> None:
    partial, state = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.partial.json")
    facts = _facts(state, 0, shape[0]) if partial.is_file() and state.is_file() else []
    if facts:
        _opened(partial, shape)  # open_memmap would fill up a file that was cut off
    else:
        _check_room(path.parent, math.prod(shape) * dtype.itemsize)
    array = np.lib.format.open_memmap(partial, "r+" if facts else "w+", dtype, tuple(shape))
    if hasattr(os, "posix_fallocate"):  # or a disk that gets full would end the process without a word
        with partial.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(partial))

    def save() -> None:
        array.flush()
        write_json(state, {"facts": facts})

    with show_progress(label, shape[0] - len(facts), "images", progress) as advance:
        try:
            for number, (count, rows, new) in enumerate(produce(len(facts)), start=1):
                for row, value in rows.items():
                    array[row] = value
                facts += [new[row] for row in sorted(new)]
                if number % SAVE_EVERY == 0:
                    save()
                advance(count)
        finally:
            save()
    write_json(facts_path, {**source, "facts": facts})
    os.replace(partial, path)
    state.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other training that shares the cache computes the same, and says so."""
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warnings.warn(f"Waiting for another training, which makes {path.with_suffix('.npy')}.", stacklevel=3)
            lock.acquire()
    except (NotImplementedError, OSError):  # some cluster file systems know no locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _opened(path: Path, shape: Sequence[int]) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and run the command again.") from error
    if array.shape != tuple(shape):
        raise StoreError(f"{path} is {array.shape} and should be {tuple(shape)}. Delete it and run the command again.")
    return array


def _facts(path: Path, least: int, most: int) -> list[Any]:
    content = read_json(path)
    facts = content.get("facts") if isinstance(content, dict) else None
    if not (isinstance(facts, list) and least <= len(facts) <= most):
        raise StoreError(f"{path} is damaged: it has no list of photographs. Delete it and run the command again.")
    return facts


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder} has {free / 1e9:.1f} GB left, and what training reads takes {needed / 1e9:.1f} GB. Give a "
            "folder on another disk as the cache."
        )


def file_state(path: str) -> str:
    """Size and time of the last change, by which a file is known to be the one that was read before."""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns}"


def digest(content: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
