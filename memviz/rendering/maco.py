"""Pictures whose spectrum has the magnitude of natural photographs, and only whose phases are optimized."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Generator, Tensor

from memviz.errors import RenderError
from memviz.models import InputSpec
from memviz.rendering.parameterize import to_colours, to_planes

# Where a spectrum is kept: directions over half a turn, since a real picture has the same magnitude at opposite
# frequencies, and half octaves from 1/256 cycles a pixel to the highest frequency of a diagonal.
DIRECTIONS = 12
RADII = tuple(2.0 ** (-place / 2) for place in range(16, 0, -1))
_SHAPE = (3, DIRECTIONS, len(RADII))
# Digits of a magnitude: far below what other photographs change, and above what other machines do.
_DIGITS = 4
_TURN = 2 * math.pi

Magnitude = tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class Maco:
    """A picture as the phases of a spectrum whose magnitude is that of photographs.

    ``sigmoid(C irfft2(m exp(2 pi i p)))``, with the magnitude m fixed and the phases p, in turns, optimized. Source:
    Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization",
    NeurIPS (https://arxiv.org/abs/2306.06805). The colours C are those of `Fourier`.

    Phases of opposite frequencies are kept opposite, as a real picture has them, so that the magnitude is the one given
    whatever the phases are. All pictures then have the same mean and contrast before the sigmoid (Parseval), each by
    itself, which the authors' code (https://github.com/serre-lab/Horama) reaches by normalizing each picture. Unlike
    there, phases start anywhere, not near 0, where all waves meet in a corner, and are not normalized; the optimizer
    and the transforms are ours, not NAdam, crops and noise; and no transparency is made.

    Attributes:
        magnitude: (3, directions, radii), the mean magnitude of each decorrelated plane of colour, by orthonormal
            Fourier transform, at `DIRECTIONS` over half a turn from the horizontal, and `RADII` in cycles a pixel. A
            canvas of any size takes it at its own frequencies, linearly between logarithms; below the lowest radius it
            stays the same. It is a property of the photographs, not of a canvas, on which it repeats without a seam.

    Raises:
        RenderError: a magnitude of another shape, or whose values are not above 0.

    Example:
        >>> from PIL import Image
        >>> photographs = [Image.effect_noise((64, 64), 60).convert("RGB")]
        >>> maco = Maco.from_photographs(photographs, InputSpec(size=(64, 64)))
        >>> maco.pictures(maco.start((32, 48), torch.Generator())[None], (32, 48)).shape
        torch.Size([1, 3, 32, 48])
    """

    magnitude: Magnitude

    def __post_init__(self) -> None:
        try:
            values = np.array(self.magnitude, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            values = np.zeros(0)
        if values.shape != _SHAPE or not ((values > 0) & (values < 1e6)).all():
            raise RenderError(
                f"The magnitude of a spectrum has the shape {_SHAPE} (colours, directions, radii) and values above 0; "
                f"given was one of shape {values.shape}. Make it by Maco.from_photographs."
            )
        # Also of lists and arrays, so that it is a value that can be compared and hashed.
        object.__setattr__(self, "magnitude", tuple(tuple(map(tuple, plane)) for plane in values.tolist()))

    @classmethod
    def from_photographs(cls, photographs: Iterable[Image.Image], inputs: InputSpec) -> Maco:
        """With the mean magnitude of photographs, as a network sees them.

        Each is resized and cropped, then taken apart as `Fourier` does, so that `C irfft2` and a sigmoid are the way
        back. A Hann window about its mean keeps its edges, which are no part of what it shows, out of the spectrum
        (Welch 1967, "The use of fast Fourier transform for the estimation of power spectra").

        Args:
            photographs: RGB, as `memviz.images.open_image` and `Index.photo` give them.
            inputs: the network's preprocessing.

        Raises:
            RenderError: there is none, or they show nothing.

        Example:
            >>> index = memviz.load_index("runs/photos")  # doctest: +SKIP
            >>> maco = Maco.from_photographs(map(index.photo, index.ranked["image"]), index.inputs)  # doctest: +SKIP
        """
        plain = replace(inputs, mean=None, std=None, channels="rgb", scale=1.0, mean_image=None)
        height, width = inputs.size
        window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
        window /= np.sqrt((window**2).mean())
        total, count = np.zeros((3, height, width)), 0
        for photograph in photographs:
            planes = to_planes(plain.from_pil(photograph)[None].double())[0].numpy()
            planes = planes - planes.mean((1, 2), keepdims=True)
            total += abs(np.fft.fft2(planes * window, norm="ortho"))
            count += 1
        if not count or not total.max() > 1e-6 * count:
            raise RenderError(
                f"The {count} photographs show nothing that has a spectrum. Give some, as those of an index."
            )
        floor = 1e-6 * total.max()  # of a plane without colour
        return cls(_on_radii(np.log(np.maximum(total, floor) / count), 1.5 / min(height, width)))

    def start(self, size: tuple[int, int], generator: Generator) -> Tensor:
        """Phases (3, H, W // 2 + 1) in turns, anywhere from -.5 to .5."""
        height, width = size
        phases = torch.rand(3, height, width // 2 + 1, generator=generator, dtype=torch.float32, device="cpu")
        return phases - 0.5

    def pictures(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1]."""
        phases = _TURN * parameters
        # The first column, and the last one of an even width, hold both of two opposite frequencies.
        edges = list(range(0, phases.shape[-1], max(1, size[1] // 2)))[: 1 + (size[1] % 2 == 0)]
        both = phases[..., edges]
        phases = phases.index_copy(-1, torch.tensor(edges, device=phases.device), both - both.flip(-2).roll(1, -2))
        magnitude = torch.from_numpy(self.on_canvas(size)).to(phases.device, phases.dtype)
        waves = torch.stack((magnitude * phases.cos(), magnitude * phases.sin()), dim=-1)
        planes = torch.fft.irfft2(torch.view_as_complex(to_colours(waves)), s=size, norm="ortho")
        pictures: Tensor = planes.sigmoid()
        return pictures

    def on_canvas(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The magnitude (3, H, W // 2 + 1) of pictures of a size; 0 at the frequency 0, for a middle grey."""
        return _on_canvas(self.magnitude, size)


def _on_radii(logarithms: NDArray[np.float64], lowest: float) -> Any:
    """A spectrum (3, H, W) of logarithms at `DIRECTIONS` and `RADII`; below `lowest` as there."""
    sides = np.array(logarithms.shape[1:])[:, None, None]
    angles = np.arange(DIRECTIONS)[:, None] * (math.pi / DIRECTIONS)
    frequencies = np.stack((np.sin(angles), np.cos(angles))) * np.maximum(RADII, lowest)
    places = frequencies * sides
    sampled = [map_coordinates(plane, places, order=1, mode="grid-wrap") for plane in logarithms]
    return [[[float(f"{value:.{_DIGITS}g}") for value in row] for row in np.exp(plane)] for plane in sampled]


@lru_cache(maxsize=16)
def _on_canvas(magnitude: Magnitude, size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = size
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, across)
    octaves = np.log2(np.maximum(radius, RADII[0]))
    turn = np.arctan2(down, across) % math.pi * (DIRECTIONS / math.pi)
    places = np.stack((turn, np.interp(octaves, np.log2(RADII), np.arange(len(RADII)))))
    logarithms = np.log(magnitude)
    logarithms = np.concatenate((logarithms, logarithms[:, :1]), axis=1)  # half a turn is none
    found = np.exp([map_coordinates(plane, places, order=1, mode="nearest") for plane in logarithms])
    found[:, 0, 0] = 0
    return found
