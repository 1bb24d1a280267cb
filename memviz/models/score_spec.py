"""How a network's outputs become the score that is reported: one description for each model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from memviz.errors import ModelError
from memviz.models.fields import read_fields

# Added to a probability before its logarithm: a sigmoid in 32 bits is 1 from about 17 on.
_LEAST = 1e-6


@dataclass(frozen=True)
class ScoreSpec:
    """How the outputs for the crops of a picture become its score: `clip((average - mean) * scale + shift)`.

    By default the score is the average itself, and of one crop its output. `clip`: (lowest, highest), or None.

    Raises `ModelError` for values that describe no score.

    >>> import torch
    >>> ScoreSpec(mean=0.5, scale=2.0, clip=(0.0, 1.0))(torch.tensor([[0.5, 0.7], [0.2, 0.4]]))
    tensor([0.2000, 0.0000])
    """

    mean: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.mean, self.scale, self.shift, *(self.clip or ())))):
            raise ModelError(f"{self}: give finite numbers.")
        if self.scale == 0:
            raise ModelError("scale=0 gives every picture the same score: give another number.")
        if self.clip is not None and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise ModelError(f"clip={self.clip} is no range: give (lowest, highest), or None.")

    def __call__(self, outputs: Tensor) -> Tensor:
        """The scores (N,) of the outputs (N, crops)."""
        scores = self.unclipped(outputs.mean(1))
        return scores if self.clip is None else scores.clamp(*self.clip)

    def unclipped(self, outputs: Tensor) -> Tensor:
        """The score of each output, of any shape, before it is clipped: beyond the limits it still has a gradient."""
        return (outputs - self.mean) * self.scale + self.shift

    def inverse(self, score: float) -> float:
        """The output that gives a score.

        >>> ScoreSpec(mean=0.5, scale=2.0).inverse(0.5)
        0.75
        """
        return (score - self.shift) / self.scale + self.mean

    @staticmethod
    def logit(outputs: Tensor) -> Tensor:
        """The inverse of a final sigmoid, `log(p / (1 - p))`, finite and with a gradient also at 0 and 1.

        >>> import torch
        >>> ScoreSpec.logit(torch.tensor([0.5, 1.0]))
        tensor([ 0.0000, 13.8155])
        """
        return (outputs + _LEAST).log() - (1 - outputs + _LEAST).log()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them; `from_dict` is the way back."""
        return dataclasses.asdict(self) | {"clip": None if self.clip is None else list(self.clip)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ScoreSpec:
        """The description that `to_dict` wrote; a field that is unknown or of another type is a `ModelError`."""
        return read_fields(fields, cls, "no score")


IDENTITY = ScoreSpec()
"""The output is the score."""
