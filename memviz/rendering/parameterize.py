"""A batch of pictures as parameters to optimize.

A parameterization is a frozen value: it draws starting parameters from a generator and turns
parameters into pictures (N, 3, H, W) in [0, 1], differentiably.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from memviz.errors import RenderError

# Square root of the covariance of ImageNet's colours, scaled to a largest column norm of 1, as in Lucid
# (https://github.com/tensorflow/lucid, optvis/param/color.py, `color_correlation_svd_sqrt`).
_COLOUR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], device="cpu")
_COLOUR = _COLOUR / _COLOUR.norm(dim=0).max()
_DARKEST = 1 / 1024  # rounds to 0 of 255


class Parameterization(Protocol):
    """How parameters become pictures."""

    def start(self, size: tuple[int, int], generator: Generator) -> Tensor:
        """Starting parameters of one picture of size (height, width), on the CPU."""
        ...

    def pictures(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] of stacked parameters (N, ...)."""
        ...


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # which nan is not
        raise RenderError(f"{name} must be a number from {least:g} to {most:g}; given was {value:g}.")


def to_colours(planes: Tensor) -> Tensor:
    """Mixes three decorrelated planes (N, 3, ...) into red, green and blue."""
    mixed = torch.matmul(_COLOUR.to(planes.device, planes.dtype), planes.flatten(2))
    return mixed.view_as(planes)


def to_planes(pictures: Tensor) -> Tensor:
    """The decorrelated planes (N, 3, H, W) of which `to_colours` and a sigmoid make pictures (N, 3, H, W) in [0, 1]."""
    values = _logit(pictures)
    inverse = torch.linalg.inv(_COLOUR.to(values.dtype)).to(values.device)
    mixed = torch.matmul(inverse, values.flatten(2))
    return mixed.view_as(values)


def _logit(pictures: Tensor) -> Tensor:
    return pictures.clamp(_DARKEST, 1 - _DARKEST).logit()


@dataclass(frozen=True)
class Fourier:
    """A picture as the Fourier coefficients of three decorrelated colour planes.

    ``sigmoid(C irfft2(z / max(f, 1 / max(H, W)) ** decay) / 4)``: dividing by the frequency f makes all
    frequencies equally easy to reach, as they are in natural pictures. Source: Olah, Mordvintsev and
    Schubert, "Feature Visualization", Distill 2017, and its code Lucid, from which the constants are.

    Attributes:
        sd: standard deviation of the starting coefficients.
        decay: power of the frequency.
        decorrelated: whether the planes are mixed by the colour covariance C of ImageNet.

    Example:
        >>> z = Fourier().start((32, 32), torch.Generator().manual_seed(0))
        >>> Fourier().pictures(z[None], (32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """

    sd: float = 0.01
    decay: float = 1.0
    decorrelated: bool = True

    def __post_init__(self) -> None:
        _check("sd", self.sd, 0, 100)
        _check("decay", self.decay, -10, 10)

    def start(self, size: tuple[int, int], generator: Generator) -> Tensor:
        """Coefficients (3, H, W // 2 + 1, 2), real and imaginary."""
        height, width = size
        return self.sd * torch.randn(
            3, height, width // 2 + 1, 2, generator=generator, dtype=torch.float32, device="cpu"
        )

    def pictures(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1]."""
        # Mixing the colours is linear, so it may come before the inverse transform, on half the values.
        coefficients = parameters * self._weight(size, parameters)
        if self.decorrelated:
            coefficients = to_colours(coefficients)
        planes = torch.fft.irfft2(torch.view_as_complex(coefficients), s=size, norm="ortho")
        pictures: Tensor = planes.sigmoid()
        return pictures

    def parameters(self, pictures: Tensor) -> Tensor:
        """The coefficients (N, 3, H, W // 2 + 1, 2) of pictures (N, 3, H, W) in [0, 1], which `pictures` gives back.

        Black and white, which a sigmoid does not reach, become as near to that as 8 bits cannot tell.

        >>> photograph = torch.rand(1, 3, 5, 7)
        >>> bool((Fourier().pictures(Fourier().parameters(photograph), (5, 7)) - photograph).abs().max() < 1e-3)
        True
        """
        planes = to_planes(pictures) if self.decorrelated else _logit(pictures)
        coefficients = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho"))
        return coefficients / self._weight((pictures.shape[2], pictures.shape[3]), pictures)

    def _weight(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """By what each coefficient is multiplied, (H, W // 2 + 1, 1)."""
        height, width = size
        vertical = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)[:, None]
        horizontal = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
        frequency = torch.hypot(vertical, horizontal).clamp(min=1 / max(height, width))
        weight: Tensor = 0.25 / frequency if self.decay == 1 else 0.25 / frequency**self.decay
        return weight[..., None]


@dataclass(frozen=True)
class Pixel:
    """A picture as its pixels, through a sigmoid.

    Attributes:
        sd: standard deviation of the starting values.
        decorrelated: whether the planes are mixed by the colour covariance of ImageNet.
    """

    sd: float = 0.01
    decorrelated: bool = True

    def __post_init__(self) -> None:
        _check("sd", self.sd, 0, 100)

    def start(self, size: tuple[int, int], generator: Generator) -> Tensor:
        """Values (3, H, W)."""
        return self.sd * torch.randn(3, *size, generator=generator, dtype=torch.float32, device="cpu")

    def pictures(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1]."""
        return (to_colours(parameters) if self.decorrelated else parameters).sigmoid()
