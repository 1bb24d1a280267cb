"""A mean image, which is subtracted from a photograph pixel by pixel, as for Caffe's networks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from memviz.errors import ModelError
from memviz.models.caffe import Array, read_mean


class MeanImage:
    """The mean (height, width, 3) of the photographs that a network was trained on, in its own order and scale.

    Made from an array, or from a file that `memviz.models.caffe.read_mean` reads. Two with the same
    values are equal. Raises `ModelError` for another shape.

    >>> MeanImage(np.full((256, 256, 3), 117))
    MeanImage(256x256 px, mean 117.0, 117.0, 117.0)
    """

    def __init__(self, source: str | Path | npt.ArrayLike) -> None:
        self.pixels: Array = (
            read_mean(source) if isinstance(source, str | Path) else np.array(source, dtype=np.float32, order="C")
        )
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ModelError(f"A mean image of shape {self.pixels.shape} was given: valid is (height, width, 3).")
        if not np.isfinite(self.pixels).all():
            raise ModelError("A mean image was given some of whose values are no finite numbers.")
        self.pixels.flags.writeable = False

    def __repr__(self) -> str:
        height, width, _ = self.pixels.shape
        means = ", ".join(f"{mean:.1f}" for mean in self.pixels.mean((0, 1), dtype=np.float64))
        return f"MeanImage({height}x{width} px, mean {means})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeanImage) and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        return hash(self.pixels.tobytes())

    @property
    def sha256(self) -> str:
        """SHA-256 of the values, as `to_dict` writes them."""
        return hashlib.sha256(self._to_bytes()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The shape, and the values as base64 of little-endian floats: an index stays usable without the file."""
        values = base64.b64encode(self._to_bytes()).decode()
        return {"shape": list(self.pixels.shape), "float32": values}

    def _to_bytes(self) -> bytes:
        return self.pixels.astype("<f4").tobytes()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MeanImage:
        """The mean image that `to_dict` wrote; anything else is a `ModelError`."""
        try:
            shape = msgspec.convert(fields["shape"], tuple[int, int, int])
            values = np.frombuffer(base64.b64decode(fields["float32"], validate=True), "<f4")
            return cls(values.reshape(shape))
        except (LookupError, TypeError, ValueError) as error:  # msgspec's is a ValueError
            raise ModelError(f"This describes no mean image ({error}): give what MeanImage.to_dict wrote.") from error
