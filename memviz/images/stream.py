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

    `indices` (N,) int64: each picture's index in the list of paths; `pictures` (N, ...) as they were prepared, or
    (0, 3, 0, 0) where every file failed; `sizes`: (width, height) of each upright photograph in its own pixels.
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

    `prepare` turns an RGB photograph into a tensor, like `InputSpec.from_pil`, of which a batch is stacked; it runs in
    `workers` threads.
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
    if hashes is not None and len(hashes) != len(paths):
        raise ImageError(f"{len(hashes)} hashes were given for {len(paths)} files: give one for each, or None.")
    return _read_batches(paths, hashes, prepare, batch_size, workers, start)


@dataclass(frozen=True, eq=False)
class _Prepared:
    index: int
    picture: Tensor
    size: tuple[int, int]


def _read_batches(
    paths: Sequence[str | Path],
    hashes: Sequence[str | None] | None,
    prepare: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int,
    start: int,
) -> Generator[Batch, None, None]:
    def read(index: int) -> _Prepared | Failure:
        return _read_picture(index, Path(paths[index]), hashes[index] if hashes else None, prepare)

    # Not torch's DataLoader: it draws from the global random generator.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="memviz-images")
    ahead: deque[list[Future[_Prepared | Failure]]] = deque()
    try:
        for first in range(start, len(paths), batch_size):
            indices = range(first, min(first + batch_size, len(paths)))
            ahead.append([pool.submit(read, index) for index in indices])
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
