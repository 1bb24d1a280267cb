"""The models by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_weight

from memviz.errors import ModelError, WeightsError, did_you_mean
from memviz.layers.unit import lies_in
from memviz.models import weights as stores
from memviz.models.card import ModelCard, is_trained, read_trained
from memviz.models.inputs import InputSpec
from memviz.models.m3m import M3M
from memviz.models.mean_image import MeanImage
from memviz.models.memnet import MemNet, MemNetCaffe
from memviz.models.model import Model
from memviz.models.resmem import FalseResMem, ResMem
from memviz.models.score_spec import IDENTITY, ScoreSpec

_RESMEM_INPUTS = InputSpec(size=(227, 227), resize=(256, 256))
# The channel means of MemNet's own mean image, which is not that of ILSVRC; the image itself is read with mean=.
_MEMNET_INPUTS = InputSpec(
    size=(227, 227), resize=(256, 256), mean=(104.917, 114.780, 118.355), channels="bgr", scale=255.0, crops="ten"
)
# From the public port in GANalyze.
_MEMNET_SCORE = ScoreSpec(mean=0.7626, scale=2.0, shift=0.65, clip=(0.0, 1.0))
_RESNET152 = "ResNet152_Weights.IMAGENET1K_V1"
_FCN = "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"


@dataclass(frozen=True)
class Architecture:
    """A model that memviz can build: its module, preprocessing, and where its weights come from.

    Attributes:
        name, summary: what `list_models` and `memviz models` say.
        build: makes the module, with random weights.
        inputs, score_spec, target: how a photograph becomes its input, and its output the score of this name.
        weights: published ones; None where no package carries any.
        names: how we name its parameters, as patterns, and how published files do.
        backbones: its submodules that torchvision has pretrained weights for, by address.
        options: of `build`, each with the values that it takes.
        named: layers whose units have names: the address of each, and the torchvision weights whose classes they are.
        frozen: addresses of the submodules that are not trained and stay in evaluation mode; each is a backbone and
            returns one tensor.
    """

    name: str
    summary: str
    build: Callable[..., nn.Module]
    inputs: InputSpec
    target: str
    weights: stores.WeightRecord | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    backbones: Mapping[str, str] = field(default_factory=dict)
    score_spec: ScoreSpec = IDENTITY
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()


_RESMEM = Architecture(
    "resmem",
    "AlexNet branch and ResNet-152; the published weights, those of resmem-retrain",
    ResMem,
    _RESMEM_INPUTS,
    "memorability",
    stores.RESMEM,
    stores.RESMEM_NAMES,
    {"resnet": _RESNET152},
    named={"resnet.fc": _RESNET152},
    frozen=("resnet",),
)
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        _RESMEM,
        replace(
            _RESMEM,
            name="resmem-retrain",
            summary="the same network; its ResNet is trained too, as it was for the published weights",
            frozen=(),
        ),
        Architecture(
            "falseresmem",
            "AlexNet branch and ResNet-50, predicts false alarms",
            FalseResMem,
            _RESMEM_INPUTS,
            "false_alarm_rate",
            stores.FALSERESMEM,
            stores.FALSERESMEM_NAMES,
        ),
        Architecture(
            "memnet", "AlexNet branch alone, the paper's rebuilt MemNet", MemNet, _RESMEM_INPUTS, "memorability"
        ),
        Architecture(
            "m3m",
            "AlexNet branch, ResNet-152 and semantic segmentation",
            M3M,
            _RESMEM_INPUTS,
            "memorability",
            backbones={"resnet": _RESNET152, "segmentation.fcn": _FCN},
            options={"head": ("paper", "small")},
            named={"resnet.fc": _RESNET152, "segmentation.fcn": _FCN},
            frozen=("resnet", "segmentation.fcn"),
        ),
        Architecture(
            "memnet-caffe",
            "the original MemNet for Caffe; its mean image, ten crops and output scaling",
            MemNetCaffe,
            _MEMNET_INPUTS,
            "memorability",
            names=stores.MEMNET_CAFFE_NAMES,
            score_spec=_MEMNET_SCORE,
        ),
    )
}


def list_models() -> list[str]:
    """The names that `load_model` takes.

    >>> list_models()
    ['resmem', 'resmem-retrain', 'falseresmem', 'memnet', 'm3m', 'memnet-caffe']
    """
    return list(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The registry's entry for a name; an unknown one is a `ModelError` that lists the valid ones."""
    if name not in ARCHITECTURES:
        raise ModelError(f"There is no model {name!r}. {did_you_mean(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def load_model(
    name: str | Path,
    weights: str | Path | None = "published",
    *,
    mean: str | Path | None = None,
    backbones: Mapping[str, str | Path | WeightsEnum] | str | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **options: str,
) -> Model:
    """Builds a memorability model with its weights, in evaluation mode.

    Args:
        name: one of `list_models()`, or the folder of a trained model (with `weights=None`: another like it).
        weights: "published" for the weights that a package contains (their SHA-256 is checked); a
            path to a `.safetensors` or `.caffemodel` file or a torch checkpoint of tensors, under our names
            or the published ones; the folder of a trained model; None for random weights.
        mean: a mean image (.npy, .binaryproto or .mat), for models that subtract one; without it, its
            channel means.
        backbones: with `weights=None`, pretrained submodules by address, each a file, a torchvision weight
            enum, or its name, as `{"resnet": "ResNet152_Weights.IMAGENET1K_V1"}`; "torchvision" takes
            the recommended ones.
        seed: of the random weights; the global random state is not used.
        device: where the weights go.
        options: of the architecture, as `head="small"` for m3m.

    Raises:
        ModelError: an unknown name or option, or a mean image that is not of the size that is needed.
        WeightsError: weights that are not public, missing, damaged, or of another model.
        StoreError: the card of a trained model is damaged.

    Example:
        >>> load_model("memnet", weights=None).layers["alexnet.conv4"].channels
        384
    """
    card = folder = None
    if name not in ARCHITECTURES and is_trained(name):
        if weights not in ("published", None):
            raise ModelError(f"{name} holds its own weights: leave weights= out.")
        card, path = read_trained(name)
        folder = path.parent
        name, weights = card.architecture, path if weights else None
    elif weights is not None and is_trained(weights):
        card, path = read_trained(weights)
        if name != card.architecture:
            raise WeightsError(f"{weights} is a trained {card.architecture}, not a {name}.")
        weights, folder = path, path.parent
    entry = architecture(str(name))
    inputs, score_spec = entry.inputs, entry.score_spec
    if card:
        inputs, score_spec = InputSpec.from_dict(card.inputs), ScoreSpec.from_dict(card.score_spec)
        options = {**card.options, **options}
    if mean is not None:
        inputs = _set_mean(inputs, mean, entry.name)
    _check_options(entry, options)
    if weights is None:
        module = _build_random(entry, seed, options)
        _fill_backbones(module, entry, backbones or {})
    elif backbones:
        raise ModelError("backbones= belongs to weights=None: a file of weights holds the backbones already.")
    else:
        if weights == "published":
            if entry.weights is None:
                raise WeightsError(
                    f"No package contains weights of {name}. Give a file, "
                    f"load_model({name!r}, weights='file.safetensors'), train your own and give those, or ask for "
                    f"random ones, load_model({name!r}, weights=None)."
                )
            state, source = entry.weights.read(), str(entry.weights.path())
        else:
            state, source = stores.read_state_dict(weights), str(weights)
        # On the meta device nothing is allocated or drawn at random, only to be overwritten.
        with torch.device("meta"):
            module = entry.build(**options)
        stores.fill(module, state, source, entry.names)
    branches: Any = module.branches
    if weights is None:
        card = folder = None  # its architecture alone was asked for
        named = _find_named(entry, entry.backbones if backbones == "torchvision" else backbones or ())
    else:
        named = _find_named(entry, _pretrained(card))
    model = Model(module.eval().to(device), inputs, entry.name, entry.target, branches, score_spec, named, card)
    model.folder = folder
    return model


def _find_named(entry: Architecture, pretrained: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
    """The names of the units of its named layers: of those in its pretrained submodules, or, for None, of all.

    What is at its random start answers to no class, whatever the architecture calls it.
    """
    return {
        address: tuple(get_weight(source).meta["categories"])
        for address, source in entry.named.items()
        if pretrained is None or any(lies_in(address, part) for part in pretrained)
    }


def _pretrained(card: ModelCard | None) -> tuple[str, ...] | None:
    """Which submodules a trained model did not start at random; None where that is all or is not known."""
    start = card and card.start
    while start and start.get("start"):
        start = start["start"]
    return tuple(start.get("backbones") or ()) if start and start.get("weights") == "random" else None


def _set_mean(inputs: InputSpec, mean: str | Path, name: str) -> InputSpec:
    if inputs.mean is None and inputs.mean_image is None:
        raise ModelError(f"{name} subtracts no mean from photographs: leave mean= out.")
    return replace(inputs, mean=None, mean_image=MeanImage(mean))


def _check_options(entry: Architecture, options: Mapping[str, str]) -> None:
    for option, value in options.items():
        if value not in entry.options.get(option, ()):
            valid = "; ".join(f"{each}= one of {', '.join(values)}" for each, values in entry.options.items()) or "none"
            raise ModelError(f"{entry.name} has no option {option}={value!r}. Valid: {valid}.")


def _build_random(entry: Architecture, seed: int, options: Mapping[str, str]) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return entry.build(**options)


def _fill_backbones(
    module: nn.Module, entry: Architecture, backbones: Mapping[str, str | Path | WeightsEnum] | str
) -> None:
    if isinstance(backbones, str):
        if backbones != "torchvision":
            raise ModelError(f"backbones={backbones!r}: give 'torchvision' or a mapping from address to weights.")
        backbones = entry.backbones
    for address, source in backbones.items():
        if address not in entry.backbones:
            valid = ", ".join(map(repr, entry.backbones)) or "none"
            raise ModelError(f"{entry.name} has no pretrained submodule {address!r}. Valid: {valid}.")
        stores.fill(module.get_submodule(address), stores.backbone_state(source, address), str(source))
