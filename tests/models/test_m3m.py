from collections import OrderedDict

import pytest
import torch
from helpers import undisturbed
from tiny import torchvision_network
from torch import nn
from torchvision.models import resnet152
from torchvision.models.segmentation import fcn_resnet50

import memviz
from memviz.images import open_image
from memviz.layers import capture, layer_table, truncate
from memviz.models import InputSpec
from memviz.models.m3m import CLASSES, M3M, REDUCED_CHANNELS, REDUCED_SIZE, SegmentationBranch
from memviz.models.weights import fill


@pytest.fixture(scope="module")
def m3m():
    """On the meta device: its 485 million weights would take 2 GB."""
    with torch.device("meta"):
        return M3M().eval()


def pictures(count, side=227):
    return torch.zeros(count, 3, side, side, device="meta")


def test_one_number_a_picture(m3m):
    assert m3m(pictures(2)).shape == (2, 1)


def test_has_about_500_million_parameters(m3m):
    assert sum(parameter.numel() for parameter in m3m.parameters()) == pytest.approx(485e6, rel=0.002)


def test_three_branches_meet_in_the_head(m3m):
    assert list(dict(m3m.named_children())) == ["alexnet", "resnet", "segmentation", "head"]
    assert m3m.branches == ("alexnet", "resnet", "segmentation")
    assert m3m.head.fc6.in_features == 9216 + 1000 + REDUCED_CHANNELS * REDUCED_SIZE**2


def test_the_segmentation_is_21_classes_brought_to_the_pictures_size(m3m):
    maps = m3m.segmentation.fcn(pictures(1))
    assert maps.shape == (1, CLASSES, 29, 29)
    maps = m3m.segmentation.upsample(maps, pictures(1))
    assert maps.shape == (1, CLASSES, 227, 227)
    assert maps.numel() == pytest.approx(1.08e6, rel=0.01)
    assert m3m.segmentation(pictures(1)).shape == (1, 77_976)


@pytest.mark.parametrize("size", [(40, 40), (33, 50)])
def test_class_maps_are_torchvisions(size):
    theirs = torchvision_network("fcn_resnet50", weights_backbone=None)
    branch = SegmentationBranch().eval()
    fill(branch.fcn, theirs.state_dict(), "torchvision")
    batch = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    addresses = ["fcn", "upsample"]
    with torch.no_grad(), undisturbed():
        expected = theirs(batch)["out"]
        with capture(branch, addresses) as maps:
            branch(batch)
        cut = truncate(branch, addresses)(batch)
    assert expected.std() > 0.01
    assert maps["fcn"].shape == (2, CLASSES, -(-size[0] // 8), -(-size[1] // 8))
    assert torch.equal(maps["upsample"], expected)
    assert all(torch.equal(cut[address], maps[address]) for address in addresses)


def test_takes_the_pretrained_networks_of_torchvision(m3m):
    with torch.device("meta"):
        for ours, theirs in (
            (m3m.resnet, resnet152(weights=None)),
            (m3m.segmentation.fcn, fcn_resnet50(weights=None, weights_backbone=None)),
        ):
            shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (ours, theirs)]
            assert shapes[0] == shapes[1]


def test_layers_of_the_three_branches(m3m):
    table = layer_table(m3m, pictures(1), m3m.branches)
    assert table["segmentation@1"].address == "segmentation.fcn.backbone.conv1"
    assert table["resnet@139"].address == "resnet.layer3.34.conv3"
    maps = table["segmentation.fcn"]
    assert (maps.channels, maps.height, maps.stride) == (CLASSES, 29, (8.0, 8.0))
    assert maps.receptive_field == table["segmentation.fcn.classifier.4"].receptive_field
    assert table["segmentation.upsample"].height == 227
    assert table["segmentation.reduce.conv2"].height == REDUCED_SIZE


def test_gradients_reach_every_branch():
    branch = SegmentationBranch().eval()
    picture = torch.rand(1, 3, 40, 40, requires_grad=True)
    branch(picture).sum().backward()
    assert picture.grad.abs().sum() > 0
    grown = [name for name, part in branch.named_modules() if isinstance(part, nn.Conv2d) and part.weight.grad is None]
    assert grown == []


@pytest.fixture(scope="module")
def segmentation():
    """M3M's third branch alone, with random weights, for small pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        branch = SegmentationBranch(small=True)
    fill(branch.fcn, torchvision_network("fcn_resnet50", weights_backbone=None).state_dict(), "torchvision")
    network = nn.Sequential(OrderedDict(segmentation=branch))
    return memviz.wrap(network, inputs=InputSpec(size=(40, 40), resize=(44, 44)), branches=("segmentation",))


def test_class_maps_can_be_indexed(segmentation, originals, tmp_path):
    addresses = ["segmentation.fcn", "segmentation.reduce.conv3"]
    paths = [originals[name] for name in ("astronaut.png", "coffee.png", "chelsea.png")]
    index = memviz.build_index(segmentation, paths, out=tmp_path / "index", layers=addresses, k=3)
    batch = torch.stack([segmentation.inputs.from_pil(open_image(path)) for path in paths])
    with torch.no_grad(), capture(segmentation.module, addresses) as maps:
        segmentation(batch)
    for address in addresses:
        values = (
            maps[address][:, :, *index.layers[address].interior(segmentation.inputs.size)]
            .amax((2, 3))[:, 5]
            .sort(descending=True)
            .values
        )
        assert index.layer(address).top(5)["value"].tolist() == pytest.approx(values.tolist(), rel=1e-3, abs=1e-4)
    assert index.layers["segmentation.fcn"].channels == CLASSES


@pytest.mark.parametrize("address", ["segmentation.fcn", "segmentation.reduce.conv3"])
def test_class_maps_can_be_rendered(segmentation, address):
    start, end = (
        memviz.render(segmentation, address, [0, 5], config=memviz.RenderConfig(size=40, steps=steps))
        for steps in (1, 8)
    )
    assert end.images.shape == (2, 3, 40, 40)
    assert (end.table["value"] > start.table["value"]).all()


def test_small_head_has_fewer_than_half_of_the_parameters():
    with torch.device("meta"):
        small = M3M(head="small").eval()
    assert small(pictures(2)).shape == (2, 1)
    assert small.segmentation(pictures(1)).shape == (1, 6_728)
    assert sum(parameter.numel() for parameter in small.parameters()) == pytest.approx(193e6, rel=0.005)
    assert layer_table(small, pictures(1), small.branches)["segmentation.reduce.conv3"].height == 29
