import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import convnext_tiny, densenet121, mobilenet_v2, resnet18

from memviz.layers import capture, layer_table
from memviz.layers.interval import Interval
from memviz.layers.receptive import FieldTracker
from memviz.models.alexnet import AlexNetBranch


class Functional(nn.Module):
    """Operations that are no modules; each named point is an Identity that one can look at."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.looked_at = nn.Identity()

    def forward(self, pictures):
        return self.looked_at(self.steps(self.first(pictures)))


def positive(module):
    """Every path from the picture to a unit carries a positive gradient: none cancels, no ReLU closes.

    Maximum pooling, which passes only one position's gradient, becomes average pooling of the same window;
    ReLU6, which closes above 6, becomes ReLU.
    """
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(part, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
            elif isinstance(child, nn.ReLU6):
                setattr(part, name, nn.ReLU())
    for parameter in module.parameters():
        values = torch.rand(parameter.shape, generator=generator) + 0.5
        parameter.data = values / max(1, parameter[0].numel())
    return module.double().eval()


def seen(module, address, y, x, side):
    """The box (left, top, right, bottom) of input pixels on which the unit's gradient is not zero."""
    picture = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    with capture(module, [address]) as activations:
        module(picture)
    activations[address][0, :, y, x].sum().backward()
    rows, columns = picture.grad[0].abs().sum(0).nonzero(as_tuple=True)
    return columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1


def clipped(field, side):
    return tuple(min(max(edge, 0), side) for edge in field)


def example(side):
    return torch.zeros(1, 3, side, side, dtype=torch.float64)


NETWORKS = {
    "alexnet branch": (
        AlexNetBranch,
        227,
        ["conv1", "relu1", "pool1", "lrn1", *("conv2", "conv3", "conv4", "conv5", "pool5")],
    ),
    "resnet": (
        resnet18,
        160,
        ["maxpool", "layer1.0", "layer1.1.conv2", "layer2.0.conv1", "layer2.0.downsample.0", "layer3.0.conv2"],
    ),
    "depthwise": (mobilenet_v2, 128, ["features.2", "features.5.conv.1.0", "features.8"]),
    "permuted": (
        convnext_tiny,
        160,
        ["features.1.0.block.0", "features.1.1", "features.1.2.block.0", "features.2.1", "features.3.0.block.0"],
    ),
    "concatenated": (densenet121, 128, ["features.denseblock1.denselayer3.conv2", "features.transition1.pool"]),
}  # fmt: skip


@cache
def built(network):
    build, side, _ = NETWORKS[network]
    module = positive(build())
    return module, layer_table(module, example(side)), side


@pytest.mark.parametrize(
    ("network", "address"), [(name, address) for name, (_, _, addresses) in NETWORKS.items() for address in addresses]
)
def test_field_is_the_support_of_the_gradient(network, address):
    module, table, side = built(network)
    layer = table[address]
    for y, x in ((layer.height // 2, layer.width // 2), (0, 1), (layer.height - 1, layer.width - 2)):
        assert clipped(layer.field(y, x), side) == seen(module, address, y, x, side)


def shuffled(maps):
    return maps.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)


def ascending(maps):
    return torch.arange(1.0, 5).double().view(4, 1, 1).to(maps)


def norm_of_channels(maps):
    return F.layer_norm(maps.permute(0, 2, 3, 1), (4,), ascending(maps).flatten()).permute(0, 3, 1, 2)


def perceptron(tokens):
    wide = F.linear(tokens, torch.ones(8, 4, dtype=tokens.dtype), torch.ones(8, dtype=tokens.dtype))
    return F.linear(F.gelu(wide), torch.ones(4, 8, dtype=tokens.dtype))


def added_into(maps, part, channels=1):
    """A sum that is wider than what it is added to, into some channels."""
    maps = maps.clone()
    wide = F.avg_pool2d(maps.clone(), 5, 1, 2)[:, :2]
    part(maps).add_(wide.movedim(1, channels))
    return maps


def written(maps, values):
    maps[:, 1:3] = values[:, 1:3]
    return maps


def shifted_into(maps):
    maps = maps.clone()
    maps[:, :, 6:] += maps[:, :, :-6].clone()
    return maps


def shifted_views(maps):
    """What is added to one view is seen, some rows away, in another."""
    maps = maps.clone()
    above, below = maps[:, :, :-6], maps[:, :, 6:]
    below += F.avg_pool2d(below, 3, 1, 1)
    return above * 1


EXACT = {
    "pads": lambda maps: F.pad(maps, (3, 1, 2, 0)),
    "pad of the width": lambda maps: F.pad(maps, (3, 1)),
    "cropping pad": lambda maps: F.pad(maps, (-3, -1, 2, 0)),
    "replication": lambda maps: F.pad(maps, (3, 1, 2, 2), mode="replicate"),
    "reflection": lambda maps: F.pad(maps, (3, 1, 0, 2), mode="reflect"),
    "slice": lambda maps: maps[:, :, 5:-2, 7:],
    "slice from the end": lambda maps: maps[:, :, -20:, -9:-1],
    "slice with steps": lambda maps: maps[:, :, 1::2, 2::3],
    "slice of channels": lambda maps: maps[:, 1:3],
    "dilation": lambda maps: F.conv2d(maps, torch.ones(2, 4, 3, 5, dtype=maps.dtype), dilation=(4, 2), padding=(4, 1)),
    "dilated and strided": lambda maps: F.conv2d(maps, torch.ones(2, 4, 3, 3, dtype=maps.dtype), stride=3, dilation=2),
    "average pooling": lambda maps: F.avg_pool2d(maps, (3, 2), stride=(2, 1), padding=(1, 0)),
    "pooling without a stride": lambda maps: F.avg_pool2d(maps, 4),
    "smooth activations": lambda maps: F.mish(F.prelu(F.logsigmoid(F.softplus(maps)), torch.ones(1).double())),
    "patches": lambda maps: F.conv2d(maps, torch.ones(2, 4, 8, 8, dtype=maps.dtype), stride=8),
    "concatenation of shifted": lambda maps: torch.cat([maps[:, :, 2:, 4:], maps[:, :, :-2, :-4]], 1),
    "sum of shifted": lambda maps: maps[:, :, 6:] + maps[:, :, :-6],
    "shuffled channels": lambda maps: F.avg_pool2d(shuffled(maps), 3),
    "activations": lambda maps: F.hardswish(F.gelu(F.silu(F.relu6(F.elu(F.leaky_relu(maps)))))) * 2 + 1,
    "in place": lambda maps: F.avg_pool2d(maps, 3).mul_(2).add_(1).relu_(),
    "normalized": lambda maps: F.local_response_norm(maps, 3),
    "chunks": lambda maps: maps.chunk(2, dim=1)[1],
    "stacked": lambda maps: torch.stack([*maps.unbind(1)[:2], F.avg_pool2d(maps, 3, 1, 1)[:, 1]], 1),
    "normalized over channels": lambda maps: F.avg_pool2d(norm_of_channels(maps), 3),
    "mean and deviation over channels": lambda maps: (
        (maps - maps.mean(1, keepdim=True)) / (maps.var(1, keepdim=True) + 1).sqrt() * ascending(maps)
    ),
    "attention to channels": lambda maps: F.softmax(F.avg_pool2d(maps, 5, 1, 2), dim=1) * ascending(maps) * maps,
    "attention to places": lambda maps: maps * F.avg_pool2d(maps.amax(1, keepdim=True), 7, 1, 3).sigmoid(),
    "perceptron": lambda maps: F.avg_pool2d(perceptron(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2),
    "perceptron of tokens": lambda maps: (
        perceptron(maps.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, maps.shape[2:])
    ),
    "matrix on the left": lambda maps: (torch.ones(5, 4, dtype=maps.dtype) @ maps.flatten(2)).view(
        1, 5, *maps.shape[2:]
    ),
    "einsum": lambda maps: torch.einsum("nchw,dc->ndhw", maps, torch.ones(5, 4, dtype=maps.dtype)),
    "slices of permuted": lambda maps: maps.permute(0, 2, 3, 1)[:, 5:, 1:-2:2].permute(0, 3, 1, 2),
    "pads of permuted": lambda maps: F.pad(maps.permute(0, 2, 3, 1), (0, 0, 2, 1, 3, 0)).permute(0, 3, 1, 2),
    "added into a slice": lambda maps: added_into(maps, lambda old: old[:, :2]),
    "added into a permuted slice": lambda maps: added_into(maps, lambda old: old.permute(0, 2, 3, 1)[..., :2], -1),
    "written into zeros": lambda maps: written(torch.zeros_like(maps), F.avg_pool2d(maps, 5, 1, 2)) + maps,
    "running statistics": lambda maps: F.batch_norm(maps, *torch.ones(2, 4, dtype=maps.dtype)),
}


@pytest.mark.parametrize("steps", EXACT.values(), ids=EXACT)
def test_functional_operations_count(steps):
    side = 48
    module = positive(Functional(steps))
    layer = layer_table(module, example(side))["looked_at"]
    for y, x in ((layer.height // 2, layer.width // 2), (layer.height // 3, layer.width // 4)):
        assert clipped(layer.field(y, x), side) == seen(module, "looked_at", y, x, side)


def transposed(kernel, stride, **options):
    return lambda maps: F.conv_transpose2d(
        maps, torch.ones(4, 2, kernel, kernel, dtype=maps.dtype), stride=stride, **options
    )


RESAMPLED = {
    "nearest": lambda maps: F.interpolate(maps, scale_factor=2),
    "bilinear": lambda maps: F.interpolate(maps, scale_factor=2, mode="bilinear"),
    "bilinear, corners aligned": lambda maps: F.interpolate(maps, scale_factor=3, mode="bilinear", align_corners=True),
    "bicubic": lambda maps: F.interpolate(maps, scale_factor=2, mode="bicubic"),
    "down": lambda maps: F.interpolate(maps, scale_factor=0.5, mode="bilinear"),
    "bicubic, corners aligned": lambda maps: F.interpolate(maps, size=95, mode="bicubic", align_corners=True),
    "nearest to a quarter": lambda maps: F.interpolate(maps, scale_factor=0.25),
    "nearest, odd": lambda maps: F.interpolate(maps, size=77),
    "odd": lambda maps: F.interpolate(maps, size=(77, 101), mode="bilinear"),
    "transposed 4/2": transposed(4, 2, padding=1),
    "transposed 3/2": transposed(3, 2, padding=1, output_padding=1),
    "transposed 2/2": transposed(2, 2),
    "transposed dilated": transposed(5, 2, dilation=3),
    "up and down": lambda maps: F.avg_pool2d(F.interpolate(maps, scale_factor=2), 2),
    "down, up and joined": lambda maps: maps + F.interpolate(F.avg_pool2d(maps, 2), scale_factor=2),
}


@pytest.mark.parametrize("steps", RESAMPLED.values(), ids=RESAMPLED)
def test_resampling_field_holds_the_support_and_little_more(steps):
    """Outputs of an upsampling see windows that differ by their phase: the field holds all of them."""
    side = 48
    module = positive(Functional(steps))
    layer = layer_table(module, example(side))["looked_at"]
    middle = layer.height // 2
    for y, x in [(middle + i, layer.width // 2 - i) for i in range(4)] + [(0, 0), (layer.height - 1, layer.width - 1)]:
        field, support = clipped(layer.field(y, x), side), seen(module, "looked_at", y, x, side)
        slack = [inner - outer for inner, outer in zip(support[:2], field[:2], strict=True)]
        slack += [outer - inner for inner, outer in zip(support[2:], field[2:], strict=True)]
        assert min(slack) >= -0.5, "the field's edges may cut into a pixel, but leave none out"
        assert max(slack) <= 3


WHOLE = {
    "normalized over positions": F.instance_norm,
    "a batch's own statistics": lambda maps: F.batch_norm(maps, None, None, training=True),
    "normalized over groups": lambda maps: F.group_norm(maps, 2),
    "normalized over everything": lambda maps: F.layer_norm(maps, maps.shape[1:]),
    "normalized over a row": lambda maps: F.layer_norm(maps, maps.shape[3:]),
    "attention": lambda maps: (lambda rows: F.scaled_dot_product_attention(rows, rows, rows))(
        maps.flatten(2).mT
    ).mT.unflatten(2, maps.shape[2:]),
    "windows": lambda maps: maps.unflatten(3, (6, 8)).transpose(3, 4).flatten(3),
    "outer sum": lambda maps: maps[:, :, :, :1] + maps[:, :, :1],
    "exchanged axes": lambda maps: maps.permute(0, 2, 1, 3).reshape(maps.shape),
    "added into another view": lambda maps: shifted_views(maps),
    "added into rows": lambda maps: shifted_into(maps),
    "product over rows": lambda maps: torch.ones(48, 48, dtype=maps.dtype) @ maps,
    "global pooling": lambda maps: maps * maps.mean((2, 3), keepdim=True),
    "turned": lambda maps: maps.flip(3),
    "transposed": lambda maps: maps.transpose(2, 3),
    "mixed": lambda maps: maps @ maps.transpose(2, 3),
    "softmax over positions": lambda maps: maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:]),
    "broadcast row": lambda maps: maps + maps[:, :, :1],
    "rolled": lambda maps: maps.roll(5, 3),
}


@pytest.mark.parametrize("steps", WHOLE.values(), ids=WHOLE)
def test_what_mixes_positions_is_said_to_see_the_whole_picture(steps):
    layer = layer_table(positive(Functional(steps)), example(48))["looked_at"]
    assert layer.receptive_field is layer.stride is layer.offset is layer.field(3, 3) is None


def test_union_of_different_grids_is_everything():
    both = Interval(2.0, 0.0, 4.0).union(Interval(4.0, 1.0, 5.0))
    assert both.unbounded
    assert Interval(2.0, 0.0, 4.0).union(Interval(2.0, -3.0, 1.0)) == Interval(2.0, -3.0, 4.0)


def test_windows_follow_the_published_arithmetic():
    """AlexNet's conv1, pool1 and conv2 (facts.md: 11, 19, 51 px)."""
    interval = Interval()
    sizes = []
    for kernel, stride, padding in ((11, 4, 0), (3, 2, 0), (5, 1, 2)):
        interval = interval.window(kernel, stride, padding)
        sizes.append(interval.high - interval.low + 1)
    assert sizes == [11, 19, 51]
    assert interval.jump == 8


def test_tracker_knows_only_what_comes_from_the_picture():
    picture = torch.zeros(1, 3, 8, 8)
    with FieldTracker(picture) as tracker:
        other, own = torch.zeros(1, 3, 8, 8) + 1, picture + 1
    assert tracker.field(other) is None
    assert tracker.field(own) == (Interval(), Interval())
    assert not math.isinf(tracker.field(own)[0].high)


def test_writing_through_an_older_view_changes_what_shares_its_memory():
    picture = torch.zeros(1, 4, 8, 8)
    out = torch.zeros(1, 4, 8, 8)
    first, second = out[:, :2], out[:, 2:]
    with FieldTracker(picture) as tracker:
        first.copy_(picture[:, :2])
        between = out[:, 1:3]
        assert tracker.field(between)[0] == Interval()
        second.copy_(F.avg_pool2d(picture, 3, 1, 1)[:, :2])
    assert tracker.field(between)[0] == tracker.field(out)[0] == Interval(1.0, -1.0, 1.0)
