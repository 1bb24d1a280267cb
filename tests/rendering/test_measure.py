import numpy as np
import pytest
import torch
from drawing import render
from torch import nn

from memviz.layers import capture, truncate
from memviz.layers.torus import on_torus
from memviz.models import InputSpec, wrap
from memviz.rendering import RandomTransforms
from memviz.rendering.measure import as_endless, as_inputs, as_photograph

SPECS = {
    "resmem": InputSpec(size=(227, 227), resize=(256, 256)),
    "imagenet": InputSpec(size=(224, 224), resize=256),
    "no resize": InputSpec(size=(40, 56)),
    "odd": InputSpec(size=(33, 33), resize=50),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("size", [(16, 16), (21, 30), (128, 128)])
def test_the_network_sees_in_the_last_steps_what_is_measured(spec, size):
    """Pixel by pixel, also where the picture is as large as what preprocessing asks for."""
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = spec.from_pil(as_photograph(picture, spec))
    found = as_inputs(picture[None] / 255, spec)[0]
    if min(size) < 50:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_larger_pictures_come_as_they_are():
    pictures = torch.rand(1, 3, 300, 300)
    assert as_inputs(pictures, SPECS["resmem"]) is pictures
    assert as_endless(pictures, SPECS["resmem"]) is None


@pytest.mark.parametrize("spec", [SPECS["resmem"], SPECS["imagenet"], InputSpec(size=(131, 90))])
def test_a_tile_without_end_has_the_activations_that_are_measured(spec):
    """At each position of the interior, in the same order, also where the crop begins between two strides."""
    model = wrap(nn.Sequential(nn.Conv2d(3, 4, 11, stride=4, padding=2), nn.MaxPool2d(3, 2)).eval(), spec)
    pictures = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    network = truncate(model.module, ["1"])
    with torch.no_grad():
        measured, endless = network(as_inputs(pictures, spec))["1"], on_torus(network)(as_endless(pictures, spec))["1"]
    rows, columns = model.layers["1"].interior(spec.size)
    found = endless[:, :, torch.arange(measured.shape[2])[:, None] % 6, torch.arange(measured.shape[3]) % 8]
    torch.testing.assert_close(found[:, :, rows, columns], measured[:, :, rows, columns])


def test_a_first_convolution_reaches_its_known_optimum(wrapped):
    """The best patch in [0, 1] is known; the picture's local peaks come near it, the mean's compromise does not."""
    filters = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    model = wrapped(nn.Sequential(nn.Conv2d(3, 4, 7, stride=2, bias=False)), size=64, weights={"0.weight": filters})
    optimum = filters.clamp(min=0).sum((1, 2, 3)).numpy()
    now = render(model, "0", size=48).table["peak"].to_numpy() / optimum
    mean_alone = render(model, "0", size=48, refinement=None).table["peak"].to_numpy() / optimum
    assert np.median(now) > 0.8
    assert np.median(mean_alone) < 0.6
    assert (now > mean_alone + 0.2).all()


def test_every_part_of_a_picture_answers(wrapped):
    """Shifted anywhere and repeated, no border of a picture stays behind, and the repetition has no seam."""
    filters = torch.tensor([-1.0, 2.0, -1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    model = wrapped(nn.Sequential(nn.Conv2d(3, 1, (1, 3), bias=False)), size=64, weights={"0.weight": filters})
    images, _ = render(model, "0", size=24, transforms=RandomTransforms(rotate=0, scale=0))
    with capture(model.module, ["0"]) as found, torch.no_grad():
        model.module(images.repeat(1, 1, 2, 2))
    columns = found["0"][0, 0].clamp(min=0).mean(0)[:24]
    assert columns.min() > 0.3 * columns.mean()
