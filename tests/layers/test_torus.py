import copy

import pytest
import torch
from helpers import unchanged
from torch import nn
from torchvision.models import get_model

from memviz.layers import layer_table, private_copy, truncate
from memviz.layers.torus import on_torus


class Branches(nn.Module):
    """Kernels of even and odd sides, a stride beyond the kernel, dilation, groups, a sum and a concatenation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, (5, 4), stride=2, padding=(2, 1))
        self.pool = nn.MaxPool2d(2, 2)
        self.mean = nn.AvgPool2d(3, 2, padding=1)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.apart = nn.Conv2d(16, 4, 1, stride=2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, pictures):
        maps = self.act(self.first(pictures))
        maps = maps + self.wide(maps)
        return self.apart(torch.cat([self.pool(maps), self.mean(maps)], dim=1))


def of_repeated(network, address, picture, times):
    """Maps of a picture that is repeated, at the positions that see no border, and where these lie in one picture."""
    layer = layer_table(network, picture)[address]
    size = tuple(times * side for side in picture.shape[2:])
    with torch.no_grad():
        maps = truncate(network, [address])(picture.repeat(1, 1, times, times))[address]
    rows, columns = layer.interior(size, tuple(maps.shape[2:]))
    assert rows.start > 0 or max(layer.receptive_field) == 1
    count = [int(side // step) for side, step in zip(picture.shape[2:], layer.stride, strict=True)]
    return (
        maps[:, :, rows, columns],
        torch.arange(rows.start, rows.stop) % count[0],
        (torch.arange(columns.start, columns.stop) % count[1]),
    )


@pytest.mark.parametrize(
    ("network", "address", "size", "times"),
    [
        (Branches(), "apart", (24, 32), 5),
        (Branches(), "first", (24, 32), 3),
        (get_model("resnet18", weights=None), "layer2.0", (64, 64), 4),
        (get_model("vgg11_bn", weights=None).features, "10", (32, 64), 4),
        (get_model("squeezenet1_1", weights=None), "features.3", (64, 64), 4),
        (get_model("mobilenet_v2", weights=None), "features.4", (64, 64), 4),
    ],
)
def test_maps_are_those_of_the_picture_without_end(network, address, size, times):
    network.eval()
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with unchanged(network):
        torus = on_torus(truncate(private_copy(network), [address]))
        with torch.no_grad():
            found = torus(picture)[address]
        expected, rows, columns = of_repeated(network, address, picture[:1], times)
    torch.testing.assert_close(found[:1][:, :, rows[:, None], columns], expected, rtol=1e-4, atol=1e-5)


def test_no_position_is_another():
    """A picture shifted by the stride has its maps shifted by one position."""
    network = get_model("resnet18", weights=None).eval()
    torus = on_torus(truncate(private_copy(network), ["layer3.1"]))
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, shifted = torus(picture)["layer3.1"], torus(picture.roll((16, 32), (2, 3)))["layer3.1"]
    torch.testing.assert_close(shifted, maps.roll((1, 2), (2, 3)), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_circular_padding():
    network = nn.Sequential(nn.Conv2d(3, 4, (3, 5), padding=(1, 2))).double()
    torus = on_torus(truncate(network, ["0"]))
    circular = copy.deepcopy(network)
    circular[0].padding_mode = "circular"
    circular[0]._reversed_padding_repeated_twice = [2, 2, 1, 1]
    for layout in (torch.contiguous_format, torch.channels_last):
        pictures = torch.rand(2, 3, 6, 8, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
        weights = torch.rand(2, 4, 6, 8, dtype=torch.double)
        found, expected = (
            torch.autograd.grad((maps * weights).sum(), pictures)[0]
            for maps in (torus(pictures)["0"], circular(pictures))
        )
        torch.testing.assert_close(found, expected)
        assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Upsample(scale_factor=2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
    ],
)
def test_what_is_not_known_to_close_is_left(network):
    assert on_torus(truncate(network, ["1"])) is None


def test_sides_that_do_not_close():
    torus = on_torus(truncate(nn.Sequential(nn.Conv2d(3, 4, 3, stride=4)), ["0"]))
    with pytest.raises(RuntimeError, match="of 10 positions do not close on a torus at a stride of 4"):
        torus(torch.rand(1, 3, 8, 10))
