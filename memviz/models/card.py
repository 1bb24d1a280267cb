"""A trained model on disk: its weights, and a card that describes it and its origin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from memviz.artefacts import read_record
from memviz.errors import WeightsError
from memviz.files import provenance, replacing, sha256, write_json

if TYPE_CHECKING:
    from memviz.models.model import Model

KIND, FORMAT = "memviz-model", 1
CARD = "card.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ModelCard:
    """What a trained model is, and how it was made; its fields are plain data, as JSON knows them.

    Attributes:
        architecture, options: what `load_model` builds it from.
        data: on what it was trained.
        split: how the data were divided; None if they were not.
        seed: of the training.
        training, runtime: how it was done: the configuration, and the devices, nodes, precision and kind of device.
        metrics: how good it is, by name; None for a measure that is not defined, as the correlation of constants.
        movement: by how much of its norm each trained layer's weight moved from the start, by address.
        learned: what its weights tell of whether each branch has learned, in words, by branch; of "besides" for what is
            in none, or of the "network" where there are none. See `memviz.layers.weights`.
        start: the weights before the first step: `weights`, "random" or where they came from, their `fingerprint`, and
            the pretrained `backbones` of a start at random, and the `score` that its last bias was then set to give;
            None if it is not known.
        distilled_from: the teacher whose scores were the targets, its fingerprint as `weights`; None for people's
            memory. Of a trained model this and `start` also have its `folder`, `data`, `start` and `distilled_from`.
        notes: anything else.
        inputs, score_spec: its `InputSpec` and `ScoreSpec`; this and what follows is filled in by `save_trained`.
        sha256: of the file of weights.
        created, versions, platform: when, with what, and where it was made.
    """

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] | None = None
    seed: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    movement: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, str] = field(default_factory=dict)
    start: Mapping[str, Any] | None = None
    distilled_from: Mapping[str, Any] | None = None
    notes: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    score_spec: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""


def save_trained(model: Model, folder: str | Path, card: ModelCard) -> ModelCard:
    """Writes `model.safetensors` and `card.json` into `folder`, and returns the card as it was completed.

    The card, which holds the checksum, is written last, so that `load_model` refuses what an interrupted call leaves.

    Example:
        >>> import memviz
        >>> model = memviz.load_model("memnet", weights=None)
        >>> card = save_trained(model, "runs/mine", ModelCard("memnet", seed=0))  # doctest: +SKIP
        >>> memviz.load_model("runs/mine").card == card  # doctest: +SKIP
        True
    """
    folder = Path(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.module.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    card = dataclasses.replace(
        card,
        # JSON knows no NaN.
        metrics={
            name: value if value is not None and math.isfinite(value) else None for name, value in card.metrics.items()
        },
        inputs=model.inputs.to_dict(),
        score_spec=model.score_spec.to_dict(),
        sha256=sha256(folder / WEIGHTS),
        **provenance(),
    )
    write_json(folder / CARD, {"kind": KIND, "format": FORMAT, **dataclasses.asdict(card)})
    return card


def is_trained(path: str | Path) -> bool:
    """Whether `path` is a folder of a trained model.

    >>> is_trained("memviz")
    False
    """
    return (Path(path) / CARD).is_file()


def read_trained(folder: str | Path) -> tuple[ModelCard, Path]:
    """The card of a trained model and its file of weights, whose checksum was found right.

    Raises:
        StoreError: a card that is damaged, or of another kind or format.
        WeightsError: a file that is missing, damaged, or of another model.
    """
    folder = Path(folder)
    card = read_record(folder / CARD, ModelCard, KIND, FORMAT)
    path = folder / WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{path} is missing, which the card beside it describes. Copy the folder again.")
    if (found := sha256(path)) != card.sha256:
        raise WeightsError(
            f"{path} is not the file that its card describes: its SHA-256 is {found}, not {card.sha256}. "
            "It is damaged, or one of the two was replaced; copy the folder again, or train again."
        )
    return card, path
