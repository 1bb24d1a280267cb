"""A network's preprocessing: one description, for files and for pictures under optimization."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from memviz.errors import ImageError, ModelError, shown
from memviz.models.caffe import Array
from memviz.models.fields import read_fields
from memviz.models.mean_image import MeanImage

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Triple = tuple[float, float, float]

# A picture of 1 x 20,000 pixels, resized to a short side of 256, would take gigabytes: where a resized photograph would
# have more pixels than this, only its crops are resized.
MAX_RESIZED = 2**25
# Largest side of an input in pixels: a larger value in a file is a mistake, or an attempt to exhaust the memory.
MAX_SIDE = 4096


@dataclass(frozen=True)
class InputSpec:
    """How a photograph becomes the input of a network: resize, centre crop, channel order, scale, mean and std.

    A photograph with values in [0, 1] becomes `(x * scale - mean) / std`, so mean and std are in scaled units
    and in the order of `channels`. Resizing is bilinear with antialiasing, crops and sizes are rounded as in
    torchvision's `Resize` and `CenterCrop`; `from_pil` gives the same values bit by bit.

    - `size`: (height, width) of the input, in pixels.
    - `resize`: before the crop, to exactly (height, width), which squashes; to a short side, which keeps the
      aspect ratio; `None` leaves the photograph as it is, and what is smaller than `size` gets a black border.
    - `mean`, `std`: three values each, or `None`.
    - `channels`: "rgb", or "bgr" as Caffe's networks.
    - `scale`: 1.0, or 255.0 for networks that were trained on values from 0 to 255.
    - `mean_image`: instead of `mean`, an image of the size `resize`, subtracted before the crop.
    - `crops`: "centre", or "ten" as in Caffe's MATLAB demo: the centre, the four corners, and their mirror
      images, over which a score is averaged. There the centre is rounded up, to the right and below.

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
    mean_image: MeanImage | None = None
    crops: Literal["centre", "ten"] = "centre"

    def __post_init__(self) -> None:
        lengths = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        for name, sides in (("size", self.size), ("resize", lengths)):
            if sides is not None and (len(sides) != 2 or not all(1 <= side <= MAX_SIDE for side in sides)):
                raise ModelError(
                    f"{name}={shown(sides)} is no size: give (height, width) in pixels, 1 to {MAX_SIDE} each."
                )
        if lengths is not None and any(r < s for r, s in zip(lengths, self.size, strict=True)):
            raise ModelError(f"resize={self.resize} leaves less than size={self.size}: the crop must fit into it.")
        if any(values is not None and len(values) != 3 for values in (self.mean, self.std)):
            raise ModelError(f"mean={self.mean}, std={self.std}: give one value for each of the 3 channels, or None.")
        if not all(map(math.isfinite, (self.scale, *(self.mean or ()), *(self.std or ())))):
            raise ModelError(f"scale={self.scale}, mean={self.mean}, std={self.std}: give finite numbers.")
        if self.scale <= 0 or (self.std is not None and min(self.std) <= 0):
            raise ModelError(f"scale={self.scale}, std={self.std}: both must be above 0.")
        if self.channels not in ("rgb", "bgr"):
            raise ModelError(f'channels={self.channels!r} is not an order of channels: give "rgb" or "bgr".')
        if self.crops not in ("centre", "ten"):
            raise ModelError(f'crops={self.crops!r} are no crops: give "centre" or "ten".')
        if self.crops == "ten" and self.resize is None:
            raise ModelError('crops="ten" needs photographs that are never smaller than the input: give resize=.')
        if self.mean_image is not None and (self.mean is not None or self.mean_image.pixels.shape[:2] != self.resize):
            raise ModelError(
                f"mean_image={self.mean_image} goes with resize=(height, width) to its own size and with mean=None; "
                f"given were resize={self.resize}, mean={self.mean}."
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them; `from_dict` is the way back.

        >>> InputSpec.from_dict(IMAGENET.to_dict()) == IMAGENET
        True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # Left out at their defaults, as in most manifests.
        if self.mean_image is None:
            del fields["mean_image"]
        else:
            fields["mean_image"] = self.mean_image.to_dict()
        if self.crops == "centre":
            del fields["crops"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> InputSpec:
        """The description that `to_dict` wrote; unknown, missing or wrongly typed fields are a `ModelError`."""
        return read_fields(fields, cls, "no input", {MeanImage: MeanImage.from_dict})

    def from_pil(self, image: Image.Image) -> Tensor:
        """The network's input (3, H, W) float32 of an RGB photograph, as `open_image` gives it.

        Equal to torchvision's `Compose([Resize(...), CenterCrop(...), ToTensor(), Normalize(...)])`.
        Raises `ImageError` for an image that is not RGB.
        """
        corner = self.centre_corner(self._size_after_resize(image.size))
        return torch.from_numpy(self._to_array(self._cut_crops(image, [corner])[0], corner))

    def crops_from_pil(self, image: Image.Image) -> Tensor:
        """All crops (crops, 3, H, W) of an RGB photograph; the first is that of `from_pil`."""
        if self.crops == "centre":
            return self.from_pil(image)[None]
        corners = self._crop_corners(self._size_after_resize(image.size))
        crops = list(map(self._to_array, self._cut_crops(image, corners), corners))
        return torch.from_numpy(np.stack([*crops, *(crop[:, :, ::-1] for crop in crops)]))

    def pixels_from_pil(self, image: Image.Image) -> Tensor:
        """The crops of an RGB photograph as 8-bit pixels (1 or 5, H, W, 3), of which `from_pixels` makes inputs.

        A fourth of the bytes of inputs, in the order in which a network wants them: a batch is normalized at once, and
        on its device.
        """
        corners = self._crop_corners(self._size_after_resize(image.size))[: 1 if self.crops == "centre" else None]
        return torch.from_numpy(np.stack([np.asarray(crop) for crop in self._cut_crops(image, corners)]))

    def from_pixels(self, pixels: Tensor, crop: int = 0) -> Tensor:
        """A crop (N, 3, H, W) float32 of each of N photographs, by its place in `crops_from_pil`, bit by bit the same.

        Args:
            pixels: (N, 1 or 5, H, W, 3) uint8, of `pixels_from_pil`.
            crop: 0, the centre, to 9; from 5 on they are mirror images.

        Example:
            >>> spec, photograph = InputSpec(size=(2, 2), scale=255.0), Image.new("RGB", (2, 2), (10, 20, 30))
            >>> spec.from_pixels(spec.pixels_from_pil(photograph)[None])[0, :, 0, 0]
            tensor([10., 20., 30.])
        """
        mirrored, place = divmod(crop, pixels.shape[1])
        found = pixels[:, place].permute(0, 3, 1, 2).float()
        # By a tensor: on a GPU, torch multiplies by the rounded reciprocal of a number instead.
        found /= found.new_tensor(255)
        # Where a crop lies matters to a mean image alone, which goes with one size of resized photographs.
        found = self._normalize(found, self._crop_corners(self._size_after_resize(self.size))[place])
        return found.flip(-1) if mirrored else found

    def from_tensor(self, pictures: Tensor, resize: bool = True) -> Tensor:
        """The network's input (N, 3, H, W) of RGB `pictures` (N, 3, h, w) in [0, 1], differentiably.

        The same as `from_pil`, but for its rounding to 8 bits while resizing. `resize=False` leaves
        the pictures at their own size and changes only the values, as rendering wants it; a mean image's
        centre crop is then brought to their size.
        Raises `ImageError` for another shape.
        """
        if not resize:
            _check_shape(pictures)
            return self._normalize(pictures, self.centre_corner(self._size_after_resize(self.size)))
        pictures = self._resize_tensor(pictures)
        return self._cut_crop(pictures, self.centre_corner((pictures.shape[3], pictures.shape[2])))

    def crops_from_tensor(self, pictures: Tensor) -> Tensor:
        """All crops (N, crops, 3, H, W) of RGB `pictures` (N, 3, h, w), as `crops_from_pil` makes them."""
        if self.crops == "centre":
            return self.from_tensor(pictures)[:, None]
        pictures = self._resize_tensor(pictures)
        corners = self._crop_corners((pictures.shape[3], pictures.shape[2]))
        crops = [self._cut_crop(pictures, corner) for corner in corners]
        return torch.stack([*crops, *(crop.flip(-1) for crop in crops)], dim=1)

    def photo_box(self, box: Box, photo_size: Size) -> Box:
        """Where a box of the network's input lies in the photograph of `photo_size` (width, height).

        Boxes are (left, top, right, bottom) in pixels, measured at pixel edges: the whole input is
        `(0, 0, width, height)`. What lies in a black border is outside of the photograph.

        >>> InputSpec(size=(227, 227), resize=(256, 256)).photo_box((0, 0, 227, 227), photo_size=(512, 512))
        (28.0, 28.0, 482.0, 482.0)
        """
        width, height = self._size_after_resize(photo_size)
        left, top = self.centre_corner((width, height))
        x, y = photo_size[0] / width, photo_size[1] / height
        return ((box[0] + left) * x, (box[1] + top) * y, (box[2] + left) * x, (box[3] + top) * y)

    def _cut_crops(self, image: Image.Image, corners: list[Size]) -> list[Image.Image]:
        """The crops of `size` at these (left, top) of the resized photograph."""
        if image.mode != "RGB":
            raise ImageError(f"An image of mode {image.mode} was given: read it with open_image, which gives RGB.")
        resized = self._size_after_resize(image.size)
        if resized != image.size:
            if math.prod(resized) > MAX_RESIZED:
                return [self._resize_crop(image, corner) for corner in corners]
            image = image.resize(resized, Image.Resampling.BILINEAR)
        height, width = self.size
        return [image.crop((left, top, left + width, top + height)) for left, top in corners]

    def _resize_crop(self, image: Image.Image, corner: Size) -> Image.Image:
        """The crop at (left, top) of the resized photograph, of which no more is made.

        It differs from a crop of the whole by rounding alone, at most one of 255 levels, since Pillow may take the
        axes in the other order.
        """
        spans = []
        for start, length, photo, resized in zip(
            corner, self.size[::-1], image.size, self._size_after_resize(image.size), strict=True
        ):
            # Pillow takes the box in single precision, which is not enough far along a long picture: what contributes
            # is cut out, and the box is counted from there.
            scale = photo / resized
            low, high = start * scale, min((start + length) * scale, photo)
            reach = math.ceil(max(1, scale)) + 1
            first, last = max(math.floor(low) - reach, 0), min(math.ceil(high) + reach, photo)
            spans.append((first, last, low - first, high - first))
        (left, right, x0, x1), (top, bottom, y0, y1) = spans
        part = image.crop((left, top, right, bottom))
        return part.resize(self.size[::-1], Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))

    def _to_array(self, crop: Image.Image, corner: Size) -> Array:
        """The network's input (3, H, W) of a crop at this (left, top)."""
        # In numpy, which stays in the calling thread: torch would start a team of threads for each reader.
        pixels: Array = np.asarray(crop, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        if self.channels == "bgr":
            pixels = pixels[::-1]
        if self.scale != 1.0:
            pixels = pixels * np.float32(self.scale)
        if (mean := self._mean_at(corner)) is not None:
            pixels = pixels - mean.astype(np.float32)
        if self.std is not None:
            pixels = pixels / np.array(self.std, dtype=np.float32)[:, None, None]
        return np.ascontiguousarray(pixels)

    def _resize_tensor(self, pictures: Tensor) -> Tensor:
        _check_shape(pictures)
        height, width = pictures.shape[-2:]
        resized = self._size_after_resize((width, height))
        if math.prod(resized) > max(MAX_RESIZED, width * height):
            raise ImageError(
                f"Pictures of {width} x {height} px would be resized to {resized[0]} x {resized[1]} px, more than "
                f"{MAX_RESIZED:,} pixels each: crop them first."
            )
        return _interpolate(pictures, resized[::-1]) if resized != (width, height) else pictures

    def _cut_crop(self, pictures: Tensor, corner: Size) -> Tensor:
        left, top = corner
        right, bottom = (self.size[1] - pictures.shape[3] + left, self.size[0] - pictures.shape[2] + top)
        crop = functional.pad(pictures, (-left, right, -top, bottom))  # negative padding crops
        return self._normalize(crop, corner)

    def _normalize(self, pictures: Tensor, corner: Size) -> Tensor:
        if self.channels == "bgr":
            pictures = pictures.flip(1)
        if self.scale != 1.0:
            pictures = pictures * self.scale
        if (mean := self._mean_at(corner)) is not None:
            means = pictures.new_tensor(mean)
            if self.mean_image is not None and means.shape[1:] != pictures.shape[2:]:
                means = _interpolate(means[None], pictures.shape[2:])[0]
            pictures = pictures - means
        if self.std is not None:
            pictures = pictures / pictures.new_tensor(self.std)[:, None, None]
        return pictures

    def _mean_at(self, corner: Size) -> npt.NDArray[np.floating[Any]] | None:
        """What is subtracted from the crop at this (left, top): (3, H, W), or (3, 1, 1)."""
        if self.mean_image is not None:
            (left, top), (height, width) = corner, self.size
            return self.mean_image.pixels[top : top + height, left : left + width].transpose(2, 0, 1)
        return None if self.mean is None else np.array(self.mean)[:, None, None]

    def _size_after_resize(self, photo: Size) -> Size:
        """(width, height) of a photograph of this (width, height) after resizing."""
        if self.resize is None:
            return photo
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        short, long = min(photo), max(photo)
        long = int(self.resize * long / short)
        return (self.resize, long) if photo[0] <= photo[1] else (long, self.resize)

    def centre_corner(self, resized: Size) -> Size:
        """(left, top) of the centre crop in a picture of this (width, height); negative in a border."""
        (height, width), up = self.size, self.crops == "ten"
        return _centre_offset(resized[0], width, up), _centre_offset(resized[1], height, up)

    def _crop_corners(self, resized: Size) -> list[Size]:
        """(left, top) of the first five of ten crops: the centre and the corners."""
        right, bottom = resized[0] - self.size[1], resized[1] - self.size[0]
        return [self.centre_corner(resized), (0, 0), (right, 0), (0, bottom), (right, bottom)]


def _centre_offset(length: int, crop: int, up: bool) -> int:
    if up:
        return (length - crop + 1) // 2
    # torchvision's rounding: to even where it crops, down where it pads.
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _check_shape(pictures: Tensor) -> None:
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ImageError(f"Pictures of shape {tuple(pictures.shape)} were given: valid is (N, 3, height, width).")


def _interpolate(pictures: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(pictures, tuple(size), mode="bilinear", antialias=True, align_corners=False)


IMAGENET = InputSpec(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The preprocessing of torchvision's ImageNet classifiers (their `ImageClassification` preset)."""
