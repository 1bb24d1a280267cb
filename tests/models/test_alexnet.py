import pytest
import torch
from torch import nn

from memviz.models.alexnet import ALEXNET_FEATURES, AlexNetBranch


@pytest.fixture(scope="module")
def branch():
    return AlexNetBranch().eval()


def test_convolutions_have_the_published_shapes(branch):
    shapes = {name: tuple(part.weight.shape) for name, part in branch.named_children() if isinstance(part, nn.Conv2d)}
    assert shapes == {
        "conv1": (48, 3, 11, 11),
        "conv2": (256, 24, 5, 5),
        "conv3": (384, 128, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
    }


def test_maps_shrink_as_published(branch):
    sizes, maps = {}, torch.zeros(1, 3, 227, 227)
    with torch.no_grad():
        for name, part in branch.named_children():
            maps = part(maps)
            sizes[name] = tuple(maps.shape[1:])
    assert [sizes[name] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5", "flatten")] == [
        (48, 55, 55), (48, 27, 27), (256, 27, 27), (256, 13, 13), (256, 13, 13), (256, 6, 6), (ALEXNET_FEATURES,),
    ]  # fmt: skip


def test_no_part_works_in_place(branch):
    assert not any(getattr(part, "inplace", False) for part in branch)


def test_response_normalization_comes_after_pooling_over_five_channels(branch):
    names = list(dict(branch.named_children()))
    assert names.index("relu1") < names.index("pool1") < names.index("lrn1") < names.index("conv2")
    for norm in (branch.lrn1, branch.lrn2):
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 1)


@torch.no_grad()
def test_channels_last_agrees(branch):
    batch = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(0))
    relaid = AlexNetBranch().eval()
    relaid.load_state_dict(branch.state_dict())
    relaid.to(memory_format=torch.channels_last)
    torch.testing.assert_close(relaid(batch.contiguous(memory_format=torch.channels_last)), branch(batch))


def test_features_are_in_channel_order_whatever_the_memory_layout():
    """A view would have to fail or scramble them: facts.md on the published package."""
    maps = torch.arange(2 * 256 * 36.0).view(2, 256, 6, 6)
    flat = AlexNetBranch().flatten(maps.contiguous(memory_format=torch.channels_last))
    assert torch.equal(flat, maps.reshape(2, -1))
