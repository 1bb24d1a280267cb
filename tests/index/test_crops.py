import numpy as np
import pytest
from PIL import Image

from memviz.index.crops import crop, seen_box
from memviz.layers import Layer
from memviz.models import InputSpec


def layer(stride=4.0, field=11, offset=5.0):
    return Layer("conv", "Conv2d", 8, 55, 55, (stride,) * 2, (field,) * 2, (offset,) * 2, None, False)


def vector():
    return Layer("fc", "Linear", 8, 1, 1, None, None, None, None, False)


@pytest.mark.parametrize(
    ("which", "y", "x", "box"),
    [
        (layer(), 2, 3, (12, 8, 23, 19)),
        (layer(offset=0.0), 0, 3, (7, 0, 18, 11)),
        (layer(), 60, 0, (0, 216, 11, 227)),
        (layer(field=300), 7, 7, (0, 0, 227, 227)),
        (vector(), 0, 0, (0, 0, 227, 227)),
    ],
)
def test_window_is_the_field_moved_inside(which, y, x, box):
    assert seen_box(which, y, x, (227, 227)) == box


def marked(size, box):
    """A black photograph in which `box` is red."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    return Image.fromarray(pixels)


def test_crop_is_cut_from_the_photograph_in_its_own_pixels():
    # 512 x 256 squashed to 256 x 256: two photo pixels across and one down for each input pixel.
    photo = marked((512, 256), (2 * (10 + 14), 20 + 14, 2 * (30 + 14), 40 + 14))
    cut = crop(photo, (10, 20, 30, 40), InputSpec(size=(227, 227), resize=(256, 256)))
    assert cut.size == (40, 40)
    assert cut.getcolors() == [(1600, (255, 0, 0))]


@pytest.mark.parametrize(
    ("box", "shape"), [((0, 0, 227, 227), (64, 64)), ((0, 0, 100, 50), (64, 32)), ((0, 0, 1, 200), (1, 64))]
)
def test_size_is_the_longer_side(box, shape):
    assert crop(Image.new("RGB", (300, 200)), box, InputSpec(size=(227, 227), resize=256), size=64).size == shape


def test_border_of_a_small_photograph_is_black():
    cut = crop(Image.new("RGB", (10, 10), "white"), (0, 0, 20, 20), InputSpec(size=(20, 20)))
    assert np.asarray(cut)[..., 0].tolist() == np.pad(np.full((10, 10), 255), 5).tolist()


def test_a_long_thin_photograph_gives_no_crop_of_gigabytes():
    inputs = InputSpec(size=(227, 227), resize=(256, 256))
    assert crop(Image.new("RGB", (1, 20_000)), (0, 0, 227, 227), inputs).size == (4096, 4096)
    assert crop(Image.new("RGB", (1500, 6000)), (0, 0, 227, 227), inputs).size == (5320, 5320)
