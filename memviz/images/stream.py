"""Reads photographs into batches of tensors, ahead of the caller, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from memviz.errors import ImageError
from memviz.files import utf8_name
from memviz.images.decode import open_image

PREFETCH = 2  # batches read while the caller works on one


@dataclass(frozen=True)
class Failure:
    """A file that could not be read: its index in the list of paths, and the reason."""

    index: int
    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures of the next `batch_size` files, and failures for those that could not be read.

    `indices` (N,) int64: each picture's index in the list of paths; `pictures` (N, 3, H, W), or (0, 3, 0, 0)
    where every file failed; `sizes`: (width, height) of each upright photograph in its own pixels.
    """

    indices: Tensor
    pictures: Tensor
    sizes: list[tuple[int, int]]
    failures: list[Failure]


def stream(
    paths: Sequence[str | Path],
    prepare: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int = 2,
    start: int = 0,
    hashes: Sequence[str | None] | None = None,
) -> Generator[Batch, None, None]:
    """Yields the pictures of `paths[start:]` in order, `batch_size` files a batch, two batches ahead.

    `prepare` turns an RGB photograph into a tensor (3, H, W), like `InputSpec.from_pil`, or (crops, 3, H, W), as
    `InputSpec.crops_from_pil`, which then adds an axis to the batch; it runs in `workers` threads.
    A file that cannot be read, or for which `prepare` raises `ImageError` or `MemoryError`, is in the batch's
    `failures`; any other exception of `prepare` is raised here. The threads end with the iteration, also when it
    ends by an exception or Ctrl-C, or by `close()`.

    `hashes` are the SHA-256 that the files must have, for each of `paths` one, or None where it is not known: a file
    that was changed is then a failure.

    Raises `ImageError` for a `batch_size` or `workers` below 1 or a negative `start`.

    >>> from PIL import Image
    >>> path = getfixture("tmp_path") / "a.png"
    >>> Image.new("RGB", (5, 4)).save(path)
    >>> [batch] = stream([path, "missing.png"], lambda image: torch.zeros(3, 2, 2), batch_size=8)
    >>> batch.indices.tolist(), batch.sizes, batch.failures[0].reason
    ([0], [(5, 4)], 'No such file or directory')
    """
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 1), ("start", start, 0)):
        if value < least:
            raise ImageError(f"{name}={value} is not possible: give {least} or more.")
    known = hashes or [None] * len(paths)
    files = [(Path(path), sha256) for path, sha256 in zip(paths, known, strict=True)]
    return _read_batches(files, prepare, batch_size, workers, start)


@dataclass(frozen=True, eq=False)
class _Prepared:
    index: int
    picture: Tensor
    size: tuple[int, int]


def _read_batches(
    files: list[tuple[Path, str | None]],
    prepare: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int,
    start: int,
) -> Generator[Batch, None, None]:
    # Not torch's DataLoader: it draws from the global random generator.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="memviz-images")
    ahead: deque[list[Future[_Prepared | Failure]]] = deque()
    try:
        for first in range(start, len(files), batch_size):
            indices = range(first, min(first + batch_size, len(files)))
            ahead.append([pool.submit(_read_picture, index, *files[index], prepare) for index in indices])
            if len(ahead) > PREFETCH:
                yield _make_batch(ahead.popleft())
        while ahead:
            yield _make_batch(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _read_picture(
    index: int, path: Path, sha256: str | None, prepare: Callable[[Image.Image], Tensor]
) -> _Prepared | Failure:
    try:
        image = open_image(path, sha256)
        return _Prepared(index, prepare(image), image.size)
    except ImageError as error:
        return Failure(index, path, str(error).removeprefix(f"{utf8_name(path)}: "))
    except MemoryError:
        return Failure(index, path, "too large for the memory that is free")


def _make_batch(futures: list[Future[_Prepared | Failure]]) -> Batch:
    results = [future.result() for future in futures]
    prepared = [result for result in results if isinstance(result, _Prepared)]
    return Batch(
        indices=torch.tensor([result.index for result in prepared], dtype=torch.int64, device="cpu"),
        pictures=torch.stack([result.picture for result in prepared]) if prepared else torch.empty(0, 3, 0, 0),
        sizes=[result.size for result in prepared],
        failures=[result for result in results if isinstance(result, Failure)],
    )
