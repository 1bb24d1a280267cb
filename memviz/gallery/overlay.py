"""A map over its photograph, in diverging colours through which the photograph is still seen."""

from __future__ import annotations

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

COLOURS = "RdBu_r"  # of matplotlib, after ColorBrewer: red and blue are told apart with colour-blindness
FULL = (
    99.5  # the percentile of absolute values at which colours are full, so that a single pixel does not pale the rest
)
_OPAQUE, _PALE = 0.75, 0.35  # of full colours; of the grey photograph below
# Of a map of single pixels, outlines would cover the picture: they are drawn where they take less than this share.
_OUTLINES = 0.08

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def overlay(picture: Image.Image, found: Map, regions: tuple[Mask, ...] = ()) -> Image.Image:
    """The photograph in pale grey, over it a map (H, W) in colours, and the outlines of regions (H, W).

    Red raises the score and blue lowers it; the stronger, the more opaque.

    >>> picture = Image.new("RGB", (20, 10), (120, 120, 120))
    >>> drawn = overlay(picture, np.array([[1.0, -1.0]], dtype=np.float32))
    >>> left, right = drawn.getpixel((0, 5)), drawn.getpixel((19, 5))
    >>> left[0] > left[2], right[0] < right[2]
    (True, True)
    """
    values = np.asarray(Image.fromarray(found).resize(picture.size, Image.Resampling.BILINEAR))
    limit = float(np.percentile(np.abs(found), FULL)) or float(np.abs(found).max()) or 1.0
    scaled = np.clip(values / limit, -1, 1)
    colours = matplotlib.colormaps[COLOURS]((scaled + 1) / 2)[..., :3]
    grey = np.asarray(picture.convert("L"), dtype=np.float64)[..., None] / 255
    below = grey * (1 - _PALE) + _PALE
    opacity = _OPAQUE * np.abs(scaled)[..., None] ** 0.7
    drawn = colours * opacity + below * (1 - opacity)
    for region in regions:
        line = _outline(region, picture.size)
        if line.mean() < _OUTLINES:
            drawn[line] = 0.1
    return Image.fromarray((drawn * 255).round().astype(np.uint8))


def _outline(region: Mask, size: tuple[int, int]) -> Mask:
    """The pixels of a region's edge in a picture of this (width, height)."""
    large = np.asarray(Image.fromarray(region).resize(size, Image.Resampling.NEAREST))
    line: Mask = find_boundaries(large, mode="inner")  # type: ignore[no-untyped-call]
    return line


def gradient(count: int = 11) -> list[str]:
    """The colours from the strongest lowering to the strongest raising, as they lie on white, in hexadecimal.

    >>> gradient(3)
    ['#446488', '#ffffff', '#8d4057']
    """
    scaled = np.linspace(-1, 1, count)
    opacity = _OPAQUE * np.abs(scaled)[:, None] ** 0.7
    colours = matplotlib.colormaps[COLOURS]((scaled + 1) / 2)[:, :3] * opacity + (1 - opacity)
    return [matplotlib.colors.to_hex(colour) for colour in colours]
