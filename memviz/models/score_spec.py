"""From what a network puts out to the score that is reported: one description for each model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from memviz.errors import ModelError


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
        """Refuses what cannot be meant."""
        if self.scale == 0:
            raise ModelError("scale=0 gives every picture the same score: give another number.")
        if self.clip is not None and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise ModelError(f"clip={self.clip} is no range: give (lowest, highest), or None.")

    def __call__(self, outputs: Tensor) -> Tensor:
        """The scores (N,) of the outputs (N, crops)."""
        scores = (outputs.mean(1) - self.mean) * self.scale + self.shift
        return scores if self.clip is None else scores.clamp(*self.clip)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them; `from_dict` is the way back."""
        return dataclasses.asdict(self) | {"clip": None if self.clip is None else list(self.clip)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ScoreSpec:
        """The description that `to_dict` wrote; unknown fields are a `ModelError`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            valid = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ModelError(f"{dict(fields)} describes no score ({error}). Its fields are {valid}.") from error


IDENTITY = ScoreSpec()
"""The output is the score."""
