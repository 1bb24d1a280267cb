"""Random transforms of each picture, which keep it from exploiting single pixels and the network's borders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from memviz.errors import RenderError

# In pixels; of Lucid's `standard_transforms` (optvis/transform.py), two jitters of 8 and 4 px about an enlargement.
PLACED_JITTER = 8.0


@dataclass(frozen=True)
class RandomTransforms:
    """Jitter, rotation and scale, drawn for each picture and step, applied in one resampling.

    The picture goes on beyond its edges as if repeated, which is also how it is measured. Transformation robustness is
    from Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017; rotation and scale are near Lucid's
    `standard_transforms`.

    Attributes:
        jitter: largest shift in each axis, in pixels. None is half the picture, so that every part of it comes to lie
            everywhere before the network, and none has the zero padding always beside it; where the objective asks for
            a place, as a neuron's does, None is Lucid's 8.
        rotate: largest angle, in degrees.
        scale: largest relative change of size; 0.1 draws factors from 0.9 to 1.1.
    """

    jitter: float | None = None
    rotate: float = 10.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= (self.jitter or 0) <= 4096 and 0 <= self.rotate <= 360 and 0 <= self.scale < 1):
            raise RenderError(
                f"{self}: jitter must be from 0 to 4096 pixels, rotate from 0 to 360 degrees, scale at least 0 and "
                "below 1."
            )

    def draw(self, steps: int, size: tuple[int, int], generator: Generator, anywhere: bool = True) -> Tensor:
        """Affine maps (steps, 2, 3) of one picture, from output to input, in the units of `grid_sample`.

        Args:
            steps: how many.
            size: (height, width) of the picture.
            generator: on the CPU.
            anywhere: whether the objective asks for no place.
        """
        height, width = size
        shift_x, shift_y, turn, zoom = (
            torch.rand(4, steps, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1
        )
        jitter = PLACED_JITTER if self.jitter is None and not anywhere else self.jitter
        across, down = (1.0 if jitter is None else 2 * jitter / side for side in (width, height))
        angle, factor = torch.deg2rad(turn * self.rotate), 1 + zoom * self.scale
        cosine, sine = angle.cos() / factor, angle.sin() / factor
        # Coordinates run from -1 to 1 in both axes, so a turn of an oblong picture needs the ratio of its sides.
        rows = (
            torch.stack((cosine, -sine * height / width, shift_x * across), dim=1),
            torch.stack((sine * width / height, cosine, shift_y * down), dim=1),
        )
        return torch.stack(rows, dim=1)

    def apply(self, pictures: Tensor, maps: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) through affine maps (N, 2, 3), periodically beyond their edges."""
        height, width = pictures.shape[2:]
        x = torch.arange(1 - width, width, 2, dtype=maps.dtype, device=maps.device)[:, None] / width
        y = torch.arange(1 - height, height, 2, dtype=maps.dtype, device=maps.device)[:, None] / height
        # What F.affine_grid computes by a matrix product for every position, as a sum of a row and a column; from edges
        # at -1 and 1 to sides of the picture from the centre of its first pixel.
        sides = maps.new_tensor([width, height])
        across, down, shift = (maps[:, None, None, :, axis] / 2 for axis in range(3))
        grid = across * x + (down * y[:, None] + shift + (0.5 - 0.5 / sides))
        # Back into the picture, which one more row and column make periodic; `remainder` takes several times as long.
        grid = grid.sub_(grid.floor()).mul_(2 * sides / (sides + 1)).add_(1 / (sides + 1) - 1)
        pictures = F.pad(pictures, (0, 1, 0, 1), mode="circular")
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
