"""What a network wants to be given: one description, for files and for pictures under optimization."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from memviz.errors import ImageError, ModelError

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputSpec:
    """How a photograph becomes the input of a network: resize, centre crop, channel order, scale, mean and std.

    A photograph with values in [0, 1] becomes `(x * scale - mean) / std`, so mean and std are in scaled units
    and in the order of `channels`. Resizing is bilinear with antialiasing, crops and sizes are rounded as in
    torchvision's `Resize` and `CenterCrop`, whose results `from_pil` equals bit by bit.

    - `size`: (height, width) of the input, in pixels.
    - `resize`: before the crop, to exactly (height, width), which squashes; to a short side, which keeps the
      aspect ratio; `None` leaves the photograph as it is, and what is smaller than `size` gets a black border.
    - `mean`, `std`: three values each, or `None`.
    - `channels`: "rgb", or "bgr" as Caffe's networks.
    - `scale`: 1.0, or 255.0 for networks that were trained on values from 0 to 255.

    Raises `ModelError` for values that describe no input.

    >>> InputSpec(size=(227, 227), resize=(256, 256)).from_pil(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 227, 227])
    """

    size: Size
    resize: Size | int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        lengths = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if len(self.size) != 2 or min(self.size) < 1:
            raise ModelError(f"size={self.size} is not an input size: give (height, width) in pixels.")
        if lengths is not None and (len(lengths) != 2 or any(r < s for r, s in zip(lengths, self.size, strict=True))):
            raise ModelError(f"resize={self.resize} leaves less than size={self.size}: the crop must fit into it.")
        if any(values is not None and len(values) != 3 for values in (self.mean, self.std)):
            raise ModelError(f"mean={self.mean}, std={self.std}: give one value for each of the 3 channels, or None.")
        if self.scale <= 0 or (self.std is not None and min(self.std) <= 0):
            raise ModelError(f"scale={self.scale}, std={self.std}: both must be above 0.")
        if self.channels not in ("rgb", "bgr"):
            raise ModelError(f'channels={self.channels!r} is not an order of channels: give "rgb" or "bgr".')

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them; `from_dict` is the way back.

        >>> InputSpec.from_dict(IMAGENET.to_dict()) == IMAGENET
        True
        """
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> InputSpec:
        """The description that `to_dict` wrote; unknown or missing fields are a `ModelError`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            valid = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ModelError(f"{dict(fields)} describes no input ({error}). Its fields are {valid}.") from error

    def from_pil(self, image: Image.Image) -> Tensor:
        """The network's input (3, H, W) float32 of an RGB photograph, as `open_image` gives it.

        Equal to torchvision's `Compose([Resize(...), CenterCrop(...), ToTensor(), Normalize(...)])`.
        Raises `ImageError` for an image that is not RGB.
        """
        if image.mode != "RGB":
            raise ImageError(f"An image of mode {image.mode} was given: read it with open_image, which gives RGB.")
        resized = self._resized(image.size)
        if resized != image.size:
            image = image.resize(resized, Image.Resampling.BILINEAR)
        left, top = self._crop(resized)
        image = image.crop((left, top, left + self.size[1], top + self.size[0]))
        # In numpy, which stays in the calling thread: torch would start a team of threads for each reader.
        pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        if self.channels == "bgr":
            pixels = pixels[::-1]
        if self.scale != 1.0:
            pixels = pixels * np.float32(self.scale)
        if self.mean is not None:
            pixels = pixels - np.array(self.mean, dtype=np.float32)[:, None, None]
        if self.std is not None:
            pixels = pixels / np.array(self.std, dtype=np.float32)[:, None, None]
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def from_tensor(self, pictures: Tensor, resize: bool = True) -> Tensor:
        """The network's input (N, 3, H, W) of RGB `pictures` (N, 3, h, w) in [0, 1], differentiably.

        The same as `from_pil`, but for its rounding to 8 bits while resizing. `resize=False` leaves
        the pictures at their own size and changes only the values, as rendering wants it.
        Raises `ImageError` for another shape.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ImageError(f"Pictures of shape {tuple(pictures.shape)} were given: valid is (N, 3, height, width).")
        if resize:
            pictures = self._resize_and_crop(pictures)
        if self.channels == "bgr":
            pictures = pictures.flip(1)
        if self.scale != 1.0:
            pictures = pictures * self.scale
        if self.mean is not None:
            pictures = pictures - pictures.new_tensor(self.mean)[:, None, None]
        if self.std is not None:
            pictures = pictures / pictures.new_tensor(self.std)[:, None, None]
        return pictures

    def photo_box(self, box: Box, photo_size: Size) -> Box:
        """Where a box of the network's input lies in the photograph of `photo_size` (width, height).

        Boxes are (left, top, right, bottom) in pixels, measured at pixel edges: the whole input is
        `(0, 0, width, height)`. What lies in a black border is outside of the photograph.

        >>> InputSpec(size=(227, 227), resize=(256, 256)).photo_box((0, 0, 227, 227), photo_size=(512, 512))
        (28.0, 28.0, 482.0, 482.0)
        """
        width, height = self._resized(photo_size)
        left, top = self._crop((width, height))
        x, y = photo_size[0] / width, photo_size[1] / height
        return ((box[0] + left) * x, (box[1] + top) * y, (box[2] + left) * x, (box[3] + top) * y)

    def _resize_and_crop(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        resized = self._resized((width, height))
        if resized != (width, height):
            pictures = functional.interpolate(
                pictures, resized[::-1], mode="bilinear", antialias=True, align_corners=False
            )
        left, top = self._crop(resized)
        right, bottom = (self.size[1] - resized[0] + left, self.size[0] - resized[1] + top)
        return functional.pad(pictures, (-left, right, -top, bottom))  # negative padding crops

    def _resized(self, photo: Size) -> Size:
        """(width, height) of a photograph of this (width, height) after resizing."""
        if self.resize is None:
            return photo
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        short, long = min(photo), max(photo)
        long = int(self.resize * long / short)
        return (self.resize, long) if photo[0] <= photo[1] else (long, self.resize)

    def _crop(self, resized: Size) -> Size:
        """(left, top) of the centre crop in a picture of this (width, height); negative in a border."""
        height, width = self.size
        return _centred(resized[0], width), _centred(resized[1], height)


def _centred(length: int, crop: int) -> int:
    # torchvision's rounding: to even where it crops, down where it pads.
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


IMAGENET = InputSpec(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The preprocessing of torchvision's ImageNet classifiers (their `ImageClassification` preset)."""
