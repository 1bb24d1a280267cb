from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, ResNet152_Weights, WeightsEnum
from torchvision.models.segmentation import fcn_resnet50

import memviz
from memviz.errors import ModelError, WeightsError
from memviz.models.weights import backbone_state, fingerprint


@pytest.fixture
def backbone(trained):
    return {name.removeprefix("resnet."): tensor for name, tensor in trained.state_dict().items() if "resnet" in name}


@pytest.mark.parametrize("name", ["r.pth", "r.pt", "r.safetensors"])
def test_backbone_from_a_file(name, tmp_path, toy, trained, backbone):
    (save_file if name.endswith("safetensors") else torch.save)(backbone, tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        module = memviz.load_model("toy", weights=None, backbones={"resnet": path}).module
        assert fingerprint(module.resnet) == fingerprint(trained.resnet)
        assert fingerprint(module.alexnet) != fingerprint(trained.alexnet)


@pytest.mark.parametrize(
    "given",
    ["torchvision", {"resnet": "ResNet18_Weights.IMAGENET1K_V1"}, {"resnet": ResNet18_Weights.IMAGENET1K_V1}],
    ids=["all recommended", "name", "enum"],
)
def test_backbone_from_torchvision(given, monkeypatch, toy, trained, backbone):
    asked = []

    def download(self, **options):
        asked.append((self, options))
        return backbone

    monkeypatch.setattr(WeightsEnum, "get_state_dict", download)
    module = memviz.load_model("toy", weights=None, backbones=given).module
    assert fingerprint(module.resnet) == fingerprint(trained.resnet)
    assert asked == [(ResNet18_Weights.IMAGENET1K_V1, {"progress": False, "check_hash": True})]


@pytest.mark.parametrize(
    "error",
    [URLError("no route"), ConnectionError("refused"), RuntimeError("invalid hash value"), TimeoutError("late")],
)
def test_failed_download_says_what_failed_and_how_to_supply_the_file(error, monkeypatch):
    def fail(self, **options):
        raise error

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    with pytest.raises(WeightsError) as caught:
        backbone_state(ResNet152_Weights.IMAGENET1K_V1, "resnet")
    message = str(caught.value)
    assert ResNet152_Weights.IMAGENET1K_V1.url in message
    assert str(error) in message
    assert "backbones={'resnet': '/path/to/resnet152-394f9c45.pth'}" in message
    assert str(Path(torch.hub.get_dir()) / "checkpoints") in message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("name", ["resnet152", "ResNet152_Weights.V9", "Nothing_Weights.DEFAULT", "x.y.z", ""])
def test_unknown_backbone_weights(name):
    with pytest.raises(WeightsError, match=r"neither a file.*'ResNet152_Weights\.IMAGENET1K_V1'"):
        backbone_state(name, "resnet")


def test_missing_backbone_file():
    with pytest.raises(WeightsError, match=r"no weights file r\.pth"):
        backbone_state("r.pth", "resnet")


def test_backbone_that_does_not_fit(tmp_path, toy):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "r.pth")
    with pytest.raises(WeightsError, match=r"r\.pth does not fit a Sequential"):
        memviz.load_model("toy", weights=None, backbones={"resnet": tmp_path / "r.pth"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbones": {"alexnet": "x.pth"}}, "toy has no pretrained submodule 'alexnet'. Valid: 'resnet'"),
        ({"backbones": "imagenet"}, "'imagenet': give 'torchvision'"),
        ({"backbones": "torchvision", "weights": "w.pt"}, "belongs to weights=None"),
    ],
)
def test_backbones_that_make_no_sense(options, message, toy):
    with pytest.raises(ModelError, match=message):
        memviz.load_model("toy", **({"weights": None} | options))


def test_model_without_backbones_says_none():
    with pytest.raises(ModelError, match=r"memnet has no pretrained submodule 'resnet'. Valid: none"):
        memviz.load_model("memnet", weights=None, backbones={"resnet": "r.pth"})


def test_auxiliary_classifier_of_torchvisions_segmentation_files_is_dropped(tmp_path):
    with torch.device("meta"):
        theirs, ours = (fcn_resnet50(weights=None, weights_backbone=None, aux_loss=aux) for aux in (True, False))
    zero = torch.tensor(0.0)
    torch.save({name: zero.expand(tensor.shape) for name, tensor in theirs.state_dict().items()}, tmp_path / "fcn.pth")
    assert set(backbone_state(tmp_path / "fcn.pth", "segmentation.fcn")) == set(ours.state_dict())
