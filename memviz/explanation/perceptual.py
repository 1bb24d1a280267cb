"""What a picture is like before anything is recognized: oriented energy at several scales, colour, contrast, edges."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import fft
from skimage.color import rgb2lab
from skimage.feature import canny
from skimage.filters import gabor_kernel
from skimage.transform import resize

from memviz.errors import ImageError
from memviz.images import stream
from memviz.models import InputSpec
from memviz.progress import progress as show_progress

SIDE = 128  # pixels, to which luminance is reduced: four for each cycle of the highest frequency
# Orientations, and cycles a picture: those of the Gabor pyramid of Kay et al. 2008, "Identifying natural images from
# human brain activity" (Nature 452), whose lowest two, of 1 and 2 cycles, are left to the cells' mean luminance.
ORIENTATIONS, CYCLES = 8, (4, 8, 16, 32)
BANDWIDTH = 1.0  # octaves, as theirs
CELLS = 2  # rows and columns in which means are taken
# Added to amplitudes before the logarithm, which has no value at 0: a thousandth of L*'s range. Our choice.
FLOOR = 0.1
EXTREMES = (1, 99)  # percentiles, which unlike extremes do not depend on single pixels


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers that describe photographs.

    Attributes:
        values: (photographs, features) float64.
        names: of the features.
        groups: of what kind each is, as "energy"; each group counts alike (`memviz.explanation.partition`).
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    groups: tuple[str, ...]


def perceptual_features(
    paths: Sequence[Path], inputs: InputSpec, *, workers: int = 2, progress: bool | None = None
) -> Features:
    """Perceptual features of photographs, of the picture that a network sees of them, before normalization.

    - *energy*: log(`FLOOR` + |luminance * Gabor|), the square root of the energy of a quadrature pair (Adelson and
      Bergen 1985), for each orientation and spatial frequency: its mean in each of 2 x 2 cells, and its largest over
      the picture, since a unit's peak is a largest value too. Luminance is L* of CIE Lab, on 128 x 128 px.
    - *colour*: of L*, a* (green to red) and b* (blue to yellow): the mean in each cell, and two percentiles.
    - *contrast*: the standard deviation of L* (RMS contrast, Peli 1990), a* and b* in each cell.
    - *edges*: the share of each cell's pixels that are edges (Canny 1986, scikit-image's thresholds, sigma 1 px).

    Args:
        paths: photographs.
        inputs: of the network.
        workers: threads.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        ImageError: a photograph that cannot be read.

    Example:
        >>> path = getfixture("tmp_path") / "grey.png"
        >>> Image.new("RGB", (64, 64), (119, 119, 119)).save(path)
        >>> found = perceptual_features([path], InputSpec(size=(64, 64)))
        >>> found.values.shape, round(found.values[0, found.names.index("mean L* 0,0")])
        ((1, 194), 50)
    """
    plain = replace(inputs, mean=None, std=None, mean_image=None, channels="rgb", scale=1.0)

    def prepare(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(describe(plain.from_pil(image).numpy().transpose(1, 2, 0)))

    rows = []
    batches = stream(paths, prepare, 16, workers=workers)
    with closing(batches), show_progress("Measuring pictures", len(paths), "photographs", progress) as advance:
        for batch in batches:
            for failure in batch.failures:
                raise ImageError(f"{failure.path}: {failure.reason}.")
            rows.append(batch.pictures.numpy())
            advance(len(batch.indices))
    names, groups = zip(*NAMES, strict=True)
    return Features(np.concatenate(rows), names, groups)


def describe(picture: NDArray[np.float32]) -> NDArray[np.float64]:
    """The perceptual features of a picture (H, W, 3), RGB in [0, 1], in the order of `perceptual_features`."""
    lab = rgb2lab(picture)
    luminance = resize(lab[..., 0], (SIDE, SIDE), anti_aliasing=True)  # type: ignore[no-untyped-call]
    energy = np.log(FLOOR + gabor_amplitudes(luminance))
    edges = canny(luminance / 100).astype(np.float64)  # type: ignore[no-untyped-call]
    numbers = [
        _cells(energy).ravel(),
        energy.max((1, 2)),
        _cells(lab.transpose(2, 0, 1)).ravel(),
        np.percentile(lab, EXTREMES, axis=(0, 1)).T.ravel(),
        np.sqrt(np.maximum(_cells(lab.transpose(2, 0, 1) ** 2) - _cells(lab.transpose(2, 0, 1)) ** 2, 0)).ravel(),
        _cells(edges[None]).ravel(),
    ]
    return np.concatenate(numbers).astype(np.float64)


def gabor_amplitudes(luminance: NDArray[Any]) -> NDArray[np.float32]:
    """The amplitude of each Gabor filter at each pixel, (frequencies x orientations, 128, 128), of 128 x 128 px.

    The picture is continued by its mirror image; its mean, which filters of finite length do not quite cancel, is
    taken off before.
    """
    margin = SIDE // 2
    padded = np.pad(luminance - luminance.mean(), margin, mode="symmetric").astype(np.float32)
    filtered = fft.ifft2(fft.fft2(padded)[None] * _filters())
    inside = slice(margin, margin + SIDE)
    amplitudes: NDArray[np.float32] = np.abs(filtered[:, inside, inside])
    return amplitudes


@cache
def _filters() -> NDArray[np.complex64]:
    """The transfer functions of the Gabor filters, for pictures of twice `SIDE`."""
    found = []
    for cycles in CYCLES:
        for number in range(ORIENTATIONS):
            angle = np.pi * number / ORIENTATIONS
            kernel = gabor_kernel(cycles / SIDE, angle, BANDWIDTH)  # type: ignore[no-untyped-call]
            whole = np.zeros((2 * SIDE, 2 * SIDE), np.complex64)
            height, width = kernel.shape
            whole[:height, :width] = kernel
            found.append(fft.fft2(np.roll(whole, (-(height // 2), -(width // 2)), axis=(0, 1))))
    return np.stack(found)


def _cells(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Means (maps, cells, cells) of maps (maps, H, W)."""
    rows = np.array_split(maps.astype(np.float64), CELLS, axis=1)
    cells = [[cell.mean((1, 2)) for cell in np.array_split(row, CELLS, axis=2)] for row in rows]
    return np.array(cells).transpose(2, 0, 1)


def _list_names() -> list[tuple[str, str]]:
    cells = [f"{row},{column}" for row in range(CELLS) for column in range(CELLS)]
    filters = [
        f"energy {cycles} cycles, {180 * number / ORIENTATIONS:g} degrees"
        for cycles in CYCLES
        for number in range(ORIENTATIONS)
    ]
    names = [(f"{each}, {cell}", "energy") for each in filters for cell in cells]
    names += [(f"{each}, largest", "energy") for each in filters]
    names += [(f"mean {channel} {cell}", "colour") for channel in ("L*", "a*", "b*") for cell in cells]
    names += [(f"percentile {rank} {channel}", "colour") for channel in ("L*", "a*", "b*") for rank in EXTREMES]
    names += [(f"contrast {channel} {cell}", "contrast") for channel in ("L*", "a*", "b*") for cell in cells]
    return names + [(f"edges {cell}", "edges") for cell in cells]


NAMES = _list_names()  # of the features, each with its group
