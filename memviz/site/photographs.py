"""The photographs on the site: small copies of whole ones, and of each unit what it saw, in one file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from memviz.gallery.pictures import jpeg
from memviz.index import IndexedLayer
from memviz.index.crops import Box, crop, seen_box
from memviz.site.files import exists, write

FOLDER, STRIP, FACE = "photographs", "saw.jpg", "face.jpg"
SIDE, COUNT = 96, 9  # of a crop, in pixels; of crops at each end
WHOLE = 160  # px, the longer side of a whole photograph
_QUALITY = 76  # of JPEG: most of what a unit's page weighs is photographs
WORKERS = 2  # threads, most of whose time Pillow runs without Python's lock
_TOGETHER = 512  # units whose strips are in memory at once, 255 MB


def photograph_file(image: int) -> str:
    """Where the small copy of a photograph lies, below the site's folder."""
    return f"{FOLDER}/{image:07d}.jpg"


def write_photographs(
    layer: IndexedLayer, places: dict[int, Path], faces: Collection[int], site: Path, advance: Callable[[int], None]
) -> None:
    """Writes what units saw of their highest and lowest photographs, and small copies of these photographs.

    Each photograph is opened once for many units, since that takes longer than cutting a crop out of it. What is there
    is not written again.

    Args:
        layer: of an index.
        places: by channel, the folder of its page.
        faces: channels that have no picture: what they saw of their best photograph gets a file of its own, for where
            units are shown small, since a strip weighs ten times as much.
        site: the site's folder.
        advance: counts finished units.

    Raises:
        StoreError: a photograph is gone, cannot be read any more, or is another one now.
    """
    missing = [
        channel
        for channel, folder in places.items()
        if not (exists(folder / STRIP) and (channel not in faces or exists(folder / FACE)))
    ]
    advance(len(places) - len(missing))
    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(missing), _TOGETHER):
            channels = missing[start : start + _TOGETHER]
            strips = _strips(layer, channels, site, pool)
            folders, faced = ([places[each] for each in channels], [each in faces for each in channels])
            for _ in pool.map(_finish, strips, folders, faced):
                advance(1)


def _strips(
    layer: IndexedLayer, channels: list[int], site: Path, pool: ThreadPoolExecutor
) -> Iterator[NDArray[np.uint8]]:
    """Of each unit, its highest photographs in one row and its lowest in another."""
    kept = min(COUNT, layer.images.shape[2])
    strips = np.zeros((len(channels), 2 * SIDE, kept * SIDE, 3), np.uint8)
    shown: dict[int, list[tuple[int, int, int]]] = {}
    for place, channel in enumerate(channels):
        for side, rank in np.ndindex(2, kept):
            shown.setdefault(int(layer.images[channel, side, rank]), []).append((place, side, rank))

    def show(image: int) -> None:
        photo, inputs = layer.index.photo(image), layer.index.inputs
        if not exists(whole := site / photograph_file(image)):
            small = photo.copy()
            small.thumbnail((WHOLE, WHOLE), Image.Resampling.LANCZOS, reducing_gap=2)
            _save(small, whole)
        cut: dict[Box, NDArray[np.uint8]] = {}  # units that see the whole picture share one crop
        for place, side, rank in shown[image]:
            where = channels[place], side, rank
            box = seen_box(layer.layer, int(layer.y[where]), int(layer.x[where]), inputs.size)
            if box not in cut:
                cut[box] = np.asarray(ImageOps.pad(crop(photo, box, inputs, SIDE), (SIDE, SIDE)))
            strips[place, side * SIDE : (side + 1) * SIDE, rank * SIDE : (rank + 1) * SIDE] = cut[box]

    for _ in pool.map(show, sorted(shown)):
        pass
    yield from strips


def _finish(strip: NDArray[np.uint8], folder: Path, faced: bool) -> None:
    _save(Image.fromarray(strip), folder / STRIP)
    if faced:
        _save(Image.fromarray(strip[:SIDE, :SIDE]), folder / FACE)


def _save(image: Image.Image, path: Path) -> None:
    write(path, jpeg(image, _QUALITY))
