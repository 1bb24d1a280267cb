"""What a unit saw: the receptive field at its position, cut out of the photograph."""

from __future__ import annotations

import math

from PIL import Image

from memviz.layers import Layer
from memviz.models import InputSpec
from memviz.models.inputs import MAX_SIDE

Box = tuple[float, float, float, float]


def seen_box(layer: Layer, y: int, x: int, input_size: tuple[int, int]) -> Box:
    """The window (left, top, right, bottom) in input pixels that shows what output (y, x) saw.

    It has the receptive field's size, and is moved inside the input where the field sticks out; where the
    field is larger than the input, or global, it is the whole input.

    Args:
        layer: the unit's layer.
        y, x: the output's place in the layer's map.
        input_size: (height, width) of the network's input.
    """
    height, width = input_size
    field = layer.field(y, x)
    if field is None:
        return 0.0, 0.0, float(width), float(height)
    left, right = _inside(field[0], field[2], width)
    top, bottom = _inside(field[1], field[3], height)
    return left, top, right, bottom


def _inside(low: float, high: float, length: int) -> tuple[float, float]:
    extent = min(high - low, float(length))
    start = min(max(low, 0.0), length - extent)
    return start, start + extent


def crop(photo: Image.Image, box: Box, inputs: InputSpec, size: int | None = None) -> Image.Image:
    """Cuts `box`, given in input pixels, out of a photograph in the photograph's own resolution.

    The crop has the shape that the network saw, also where preprocessing squashes the photograph.

    Args:
        photo: upright RGB, as `open_image` gives it.
        box: (left, top, right, bottom) in input pixels.
        inputs: the preprocessing that made the network's input.
        size: the crop's longer side in pixels; None keeps the photograph's pixels.
    """
    # Rounded, so that an error in the last digit does not reach for a pixel beyond the photograph.
    left, top, right, bottom = (round(edge, 6) for edge in inputs.photo_box(box, photo.size))
    # A picture of 1 x 20,000 px, squashed to a square, would give a crop of 20,000 x 20,000.
    longer = size or max(1, min(round(max(right - left, bottom - top)), max(MAX_SIDE, 4 * min(photo.size))))
    across, down = box[2] - box[0], box[3] - box[1]
    shape = (max(1, round(longer * min(1.0, across / down))), max(1, round(longer * min(1.0, down / across))))
    # The whole pixels around it; beyond the photograph they are black, as preprocessing fills a small one up.
    x, y = math.floor(left), math.floor(top)
    pixels = photo.crop((x, y, math.ceil(right), math.ceil(bottom)))
    return pixels.resize(shape, Image.Resampling.LANCZOS, box=(left - x, top - y, right - x, bottom - y))
