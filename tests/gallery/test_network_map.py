import pytest
from PIL import Image
from torch import nn
from torchvision.models import resnet18, vgg11

import memviz
from memviz.errors import StoreError
from memviz.gallery.network_map import Box, boxes, network_map, save_network_map
from memviz.models import InputSpec


def rows(model):
    layers = list(model.layers)
    return {branch: boxes(layers, branch) for branch in model.branches} | {"": boxes(layers, "", model.branches)}


def wrapped(module, **options):
    return memviz.wrap(module.eval(), InputSpec(size=(64, 64)), target=None, name="mine", **options)


def test_the_papers_resmem():
    found = rows(memviz.load_model("resmem", weights=None))
    assert [box.name for box in found["alexnet"]] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert found["alexnet"][3] == Box("conv4", 384, 13, 13, 0)
    assert [(box.name, box.blocks, box.channels) for box in found["resnet"]] == [
        ("conv1", 0, 64), ("layer1", 3, 256), ("layer2", 8, 512), ("layer3", 36, 1024), ("layer4", 3, 2048),
        ("fc", 0, 1000),
    ]  # fmt: skip
    assert found[""][-1].channels == 1


def test_networks_without_branches():
    assert [(box.name, box.blocks) for box in rows(wrapped(resnet18()))[""]] == [
        ("conv1", 0), ("layer1", 2), ("layer2", 2), ("layer3", 2), ("layer4", 2), ("fc", 0),
    ]  # fmt: skip
    assert len(rows(wrapped(vgg11()))[""]) == 8 + 3
    assert rows(wrapped(nn.Sequential(nn.ReLU())))[""] == []


@pytest.mark.parametrize("name", ["memnet", "resmem", "m3m"])
def test_nothing_is_cut_off_and_no_two_words_overlap(name):
    figure = network_map(memviz.load_model(name, weights=None))
    figure.canvas.draw()
    page = figure.bbox
    words = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(
        page.x0 <= each.x0 and each.x1 <= page.x1 and page.y0 <= each.y0 and each.y1 <= page.y1 for each in words
    )
    assert not any(one.shrunk(0.9, 0.8).overlaps(other) for i, one in enumerate(words) for other in words[:i])


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_model_gives_the_same_file(tmp_path, kind):
    model = memviz.load_model("memnet", weights=None)
    for name in ("one", "two"):
        save_network_map(model, tmp_path / f"{name}.{kind}")
    one, two = (tmp_path / f"{name}.{kind}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    if kind == "svg":
        assert "memorability" in one.read_text()
    if kind == "png":
        with Image.open(one) as image:
            assert image.width == 2125


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no name of a figure"):
        save_network_map(memviz.load_model("memnet", weights=None), tmp_path / "map.gif")
    assert list(tmp_path.iterdir()) == []
