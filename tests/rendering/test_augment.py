import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from memviz.errors import RenderError
from memviz.rendering import RandomTransforms

SIZES = [(16, 16), (12, 20), (21, 15)]


class Fixed:
    """Stands in for torch.rand: the numbers (shift x, shift y, turn, zoom), each from -1 to 1."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __call__(self, rows, steps, **options):
        return (torch.tensor(self.numbers)[:, None].expand(rows, steps) + 1) / 2


def transformed(monkeypatch, pictures, transforms, *numbers):
    monkeypatch.setattr("memviz.rendering.augment.torch.rand", Fixed(*numbers))
    maps = transforms.draw(1, tuple(pictures.shape[2:]), torch.Generator())
    return transforms.apply(pictures, maps.expand(len(pictures), 2, 3)).numpy()


def by_scipy(pictures, matrix, shift):
    """Bilinear resampling about the centre: output pixel p shows input pixel matrix (p - c) + c + shift, in (y, x)."""
    centre = (np.array(pictures.shape[2:]) - 1) / 2
    offset = centre - matrix @ centre + np.array(shift)
    return np.stack(
        [[affine_transform(p.double().numpy(), matrix, offset, order=1, mode="grid-wrap") for p in q] for q in pictures]
    )


@pytest.fixture(params=SIZES, ids=str)
def pictures(request):
    return torch.rand(2, 3, *request.param, generator=torch.Generator().manual_seed(0))


def test_identity_without_ranges(pictures):
    transforms = RandomTransforms(jitter=0, rotate=0, scale=0)
    maps = transforms.draw(5, tuple(pictures.shape[2:]), torch.Generator().manual_seed(0))
    torch.testing.assert_close(maps, torch.eye(3)[:2].expand(5, 2, 3), rtol=0, atol=0)
    torch.testing.assert_close(transforms.apply(pictures, maps[:2]), pictures, rtol=0, atol=4e-6)


@pytest.mark.parametrize("shift", [(3.0, 0.0), (0.0, -2.0), (1.25, 2.5)])
def test_shift_equals_scipy(monkeypatch, pictures, shift):
    """A jitter of 4 px, of which (x, y) is drawn."""
    found = transformed(
        monkeypatch, pictures, RandomTransforms(jitter=4, rotate=0, scale=0), shift[0] / 4, shift[1] / 4, 0.0, 0.0
    )
    np.testing.assert_allclose(found, by_scipy(pictures, np.eye(2), (shift[1], shift[0])), atol=2e-5)


def test_whole_pixels_shift_exactly(monkeypatch):
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = transformed(monkeypatch, pictures, RandomTransforms(jitter=3, rotate=0, scale=0), 1.0, -1.0, 0.0, 0.0)
    np.testing.assert_allclose(found[:, :, 3:, :-3], pictures[:, :, :-3, 3:].numpy(), atol=1e-5)
    # What leaves at one edge comes in at the other.
    np.testing.assert_allclose(found[:, :, 3:, -3:], pictures[:, :, :-3, :3].numpy(), atol=1e-5)


@pytest.mark.parametrize("degrees", [-20.0, 7.0, 20.0])
def test_rotation_equals_scipy(monkeypatch, pictures, degrees):
    found = transformed(
        monkeypatch, pictures, RandomTransforms(jitter=0, rotate=20, scale=0), 0.0, 0.0, degrees / 20, 0.0
    )
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    np.testing.assert_allclose(found, by_scipy(pictures, np.array([[c, s], [-s, c]]), (0, 0)), atol=5e-5)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_zoom_equals_scipy(monkeypatch, pictures, factor):
    """A factor above 1 shows the picture larger."""
    found = transformed(
        monkeypatch, pictures, RandomTransforms(jitter=0, rotate=0, scale=0.2), 0.0, 0.0, 0.0, (factor - 1) / 0.2
    )
    np.testing.assert_allclose(found, by_scipy(pictures, np.eye(2) / factor, (0, 0)), atol=5e-5)


def test_all_at_once_equals_scipy(monkeypatch, pictures):
    found = transformed(monkeypatch, pictures, RandomTransforms(4, 20, 0.2), 0.5, -0.25, 0.7, 0.3)
    angle, factor = math.radians(14), 1.06
    c, s = math.cos(angle) / factor, math.sin(angle) / factor
    expected = by_scipy(pictures, np.array([[c, s], [-s, c]]), (-1.0, 2.0))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_draws_stay_in_range_and_reach_its_ends():
    height, width = 40, 80
    transforms = RandomTransforms(jitter=6, rotate=15, scale=0.2)
    maps = transforms.draw(4000, (height, width), torch.Generator().manual_seed(0)).double()
    # In pixels the linear part is a turn over a zoom, whatever the sides of the picture.
    sides = torch.tensor([width, height], dtype=torch.float64)
    linear = maps[:, :, :2] * sides[:, None] / sides
    shift = maps[:, :, 2] * sides / 2
    factor = 1 / linear.det().sqrt()
    angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]))
    torch.testing.assert_close(linear[:, 0, 0], linear[:, 1, 1])
    torch.testing.assert_close(linear[:, 0, 1], -linear[:, 1, 0])
    for values, low, high in (
        (shift[:, 0], -6, 6), (shift[:, 1], -6, 6), (angle, -15, 15), (factor, 0.8, 1.2),
    ):  # fmt: skip
        reach = 0.02 * (high - low)
        assert low - 1e-4 <= values.min() < low + reach
        assert high - reach < values.max() <= high + 1e-4
        assert abs(values.mean() - (low + high) / 2) < reach


def test_draws_depend_on_the_generator_alone():
    draw = [RandomTransforms().draw(3, (32, 32), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_each_picture_goes_through_its_own_map():
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    maps = RandomTransforms().draw(3, (16, 16), torch.Generator().manual_seed(0))
    together = RandomTransforms().apply(pictures, maps)
    for picture, one in zip(together, maps, strict=True):
        torch.testing.assert_close(picture, RandomTransforms().apply(pictures[:1], one[None])[0])
    assert not torch.allclose(together[0], together[1], atol=0.1)


@pytest.mark.parametrize(
    "ranges", [{"jitter": -1}, {"rotate": -5}, {"scale": 1.0}, {"scale": -0.1}, {"jitter": math.nan}]
)
def test_ranges_that_cannot_be_meant_are_refused(ranges):
    with pytest.raises(RenderError, match="below 1"):
        RandomTransforms(**ranges)
