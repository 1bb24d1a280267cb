"""Random transforms of each picture, which keep it from exploiting single pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from memviz.errors import RenderError


@dataclass(frozen=True)
class RandomTransforms:
    """Jitter, rotation and scale, drawn for each picture and step, applied in one resampling.

    Transformation robustness is from Olah, Mordvintsev and Schubert, "Feature Visualization",
    Distill 2017; the ranges are near Lucid's `standard_transforms`.

    Attributes:
        jitter: largest shift in each axis, in pixels.
        rotate: largest angle, in degrees.
        scale: largest relative change of size; 0.1 draws factors from 0.9 to 1.1.
    """

    jitter: float = 8.0
    rotate: float = 10.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.jitter <= 4096 and 0 <= self.rotate <= 360 and 0 <= self.scale < 1):
            raise RenderError(
                f"{self}: jitter must be from 0 to 4096 pixels, rotate from 0 to 360 degrees, scale at least 0 and "
                "below 1."
            )

    def draw(self, steps: int, size: tuple[int, int], generator: Generator) -> Tensor:
        """Affine maps (steps, 2, 3) of one picture, from output to input, in the units of `grid_sample`."""
        height, width = size
        shift_x, shift_y, turn, zoom = (
            torch.rand(4, steps, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1
        )
        angle, factor = torch.deg2rad(turn * self.rotate), 1 + zoom * self.scale
        cosine, sine = angle.cos() / factor, angle.sin() / factor
        # Coordinates run from -1 to 1 in both axes, so a turn of an oblong picture needs the ratio of its sides.
        rows = (
            torch.stack((cosine, -sine * height / width, shift_x * self.jitter * 2 / width), dim=1),
            torch.stack((sine * width / height, cosine, shift_y * self.jitter * 2 / height), dim=1),
        )
        return torch.stack(rows, dim=1)

    def apply(self, pictures: Tensor, maps: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) through affine maps (N, 2, 3); what comes from outside is mirrored."""
        height, width = pictures.shape[2:]
        x = torch.arange(1 - width, width, 2, dtype=maps.dtype, device=maps.device)[:, None] / width
        y = torch.arange(1 - height, height, 2, dtype=maps.dtype, device=maps.device)[:, None] / height
        # What F.affine_grid computes by a matrix product for every position, as a sum of a row and a column.
        across, down, shift = (maps[:, None, None, :, axis] for axis in range(3))
        grid = across * x + (down * y[:, None] + shift)
        # Mirrored here once, at the edges -1 and 1, and not by grid_sample for each pass and channel.
        grid = torch.add(-grid, grid.clamp(-1, 1), alpha=2)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
