"""Sample photographs: those that the packages scikit-image and scikit-learn contain."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memviz.errors import ImageError
from memviz.files import replacing
from memviz.images.decode import open_image

# Name, package, file in it, number of crops. Left out: drawings, masks, text, and the second eye of a stereo pair.
PHOTOS = (
    ("astronaut", "skimage", "data/astronaut.png", 8),
    ("brick", "skimage", "data/brick.png", 3),
    ("camera", "skimage", "data/camera.png", 8),
    ("cell", "skimage", "data/cell.png", 0),
    ("chelsea", "skimage", "data/chelsea.png", 8),
    ("china", "sklearn", "datasets/images/china.jpg", 8),
    ("coffee", "skimage", "data/coffee.png", 8),
    ("coins", "skimage", "data/coins.png", 8),
    ("flower", "sklearn", "datasets/images/flower.jpg", 8),
    ("grass", "skimage", "data/grass.png", 3),
    ("gravel", "skimage", "data/gravel.png", 3),
    ("hubble", "skimage", "data/hubble_deep_field.jpg", 8),
    ("ihc", "skimage", "data/ihc.png", 8),
    ("moon", "skimage", "data/moon.png", 4),
    ("motorcycle", "skimage", "data/motorcycle_left.png", 8),
    ("retina", "skimage", "data/retina.jpg", 8),
    ("rocket", "skimage", "data/rocket.jpg", 8),
)
QUALITY = 92
CROP_SIDES = (0.6, 0.4)  # of the photograph's short side
HARD_EDGE = 32  # upper limit of a pixel difference in grey levels, or a few outlines would outweigh texture
_NONE = "The installed scikit-image and scikit-learn carry no sample photographs: reinstall them."
SHOWN = 0.25  # weight of detail that an earlier crop shows already


def sample_photos(out: str | Path) -> list[Path]:
    """Writes some 120 colour and grey photographs, whole and in crops, as JPEG files into the folder `out`.

    They come with the installed scikit-image and scikit-learn; nothing is downloaded.
    Crops are squares where the photograph has most detail. Existing files are kept.
    Returns all files, sorted by name: `astronaut.jpg`, `astronaut_crop1.jpg`, ...

    Raises `ImageError` if neither package contains any of them.
    """
    folder = Path(out)
    written: list[Path] = []
    for name, package, inside, crops in PHOTOS:
        source = _find_package(package) / inside
        names = [f"{name}.jpg"] + [f"{name}_crop{number}.jpg" for number in range(1, crops + 1)]
        targets = [folder / each for each in names]
        if not all(target.exists() for target in targets):
            if not source.exists():
                continue  # not in every version of the packages
            photo = open_image(source)
            boxes = [(0, 0, *photo.size), *_choose_boxes(photo, crops)]
            for target, box in zip(targets, boxes, strict=True):
                if not target.exists():
                    with replacing(target) as temporary:
                        photo.crop(box).save(temporary, quality=QUALITY)
        written += targets
    if not written:
        raise ImageError(_NONE)
    return sorted(written)


def package_photos() -> dict[str, Path]:
    """The photographs that the installed scikit-image and scikit-learn carry, where they lie, by name.

    Raises `ImageError` if there is none.
    """
    paths = {name: _find_package(package) / inside for name, package, inside, _ in PHOTOS}
    found = {name: path for name, path in paths.items() if path.exists()}
    if not found:
        raise ImageError(_NONE)
    return found


def _find_package(package: str) -> Path:
    # Found, not imported: scikit-image's loaders may download, and both take seconds to import.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImageError(f"The sample photographs need the package {package}, which is not installed.")
    return Path(spec.origin).parent


def _choose_boxes(photo: Image.Image, count: int) -> list[tuple[int, int, int, int]]:
    """Squares of the two sizes in turn, each where most detail is that no earlier one shows."""
    gray = np.asarray(photo.convert("L"), dtype=np.int64)
    steps = np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(gray, axis=1))[:-1]
    fresh = {fraction: np.minimum(steps, HARD_EDGE) * 1.0 for fraction in CROP_SIDES}
    boxes: list[tuple[int, int, int, int]] = []
    for number in range(count):
        fraction = CROP_SIDES[number % len(CROP_SIDES)]
        side = int(min(photo.size) * fraction)
        left, top = _find_richest(fresh[fraction], side)
        boxes.append((left, top, left + side, top + side))
        fresh[fraction][top : top + side, left : left + side] *= SHOWN
    return boxes


def _find_richest(detail: NDArray[np.float64], side: int) -> tuple[int, int]:
    step = max(side // 8, 1)
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    high, wide = (length - side for length in detail.shape)
    ys, xs = np.arange(0, high + 1, step)[:, None], np.arange(0, wide + 1, step)
    inside = total[ys + side, xs + side] - total[ys, xs + side] - total[ys + side, xs] + total[ys, xs]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(xs[column]), int(ys[row, 0])
