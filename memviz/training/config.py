"""The settings that decide the result of a training, and those of the machine it runs on."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from memviz.errors import TrainingError, did_you_mean

if TYPE_CHECKING:
    import torch

Logger = Literal["csv", "tensorboard", "wandb"]
Initialization = Literal["he", "normalized", "torch"]
Selection = Literal["mse", "paper"]
# Those that keep the weights, and so what is evaluated, in 32 bits.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
Recipe = Literal["lars", "adamw", "paper"]
# The learning rate and the weight decay of each recipe, from experiments/learning.
DEFAULTS: Mapping[str, tuple[float, float]] = {"lars": (3e-4, 1e-4), "adamw": (3e-4, 0.01), "paper": (0.01, 0.0)}


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The same settings, photographs and initial weights give the same result.

    The loss is the mean squared error, and training stops early by the Spearman rank correlation on the validation
    subset, as in Needell and Bainbridge 2022, who give no values.

    Attributes:
        recipe: the optimizer. "adamw" is AdamW (Loshchilov and Hutter 2019) with a rate that warms up and falls along a
            cosine; "lars" (You, Gitman and Ginsburg 2017) moves each layer by a share of its own norm, on the same
            schedule; "paper" is the paper's plain stochastic gradient descent at a constant rate. What each of them
            learns is measured in experiments/learning.
        learning_rate: None takes the recipe's: 0.0003 for "adamw", 0.0003 of a layer's norm a step for "lars", 0.01 for
            "paper". `search` finds a better one for a data set.
        momentum: of "lars" and "paper", γ of the paper's figure 7; of "adamw" the first beta. 0.9 is that of the
            released code.
        weight_decay: None takes the recipe's: 0.0001, 0.01 and none.
        branch_gradient_scale: factor of the gradient that flows from the head into each branch, a pretrained one
            included; 1 leaves it unchanged. In "paper" it is a learning rate of the branches that many times larger,
            exactly so without weight decay. It is refused in the other recipes, whose steps depend on the size of
            gradients by AdamW's epsilon and the weight decay of LARS alone.
        batch_size: photographs in one step; with several devices, on each.
        epochs: at most; the paper's Table 1 counts 20.
        steps_per_epoch: batches in an epoch, for trying a training out; None takes all but an incomplete last one: up
            to `batch_size` - 1 photographs are left out, on each device, and different ones in each epoch.
        patience: epochs without a better validation correlation after which training stops.
        flip: mirror each photograph with probability one half. There is no other augmentation: memorability is not
            preserved under cropping (the paper, Models).
        initialization: of a start at random: "he" is that of `initialize`, which keeps the scale of activations
            from layer to layer; "normalized" in addition rescales each layer by 64 of the training photographs, see
            `normalize`, with which every recipe learned more (experiments/learning); with "torch", PyTorch's own, a
            MemNet predicted the same score for every photograph after 15 epochs (experiments/distillation).
        seed: of the random weights, of the order of the photographs, of flips and dropout.
        fractions, split_seed: of the split into training, validation and test, where none is given.
        selection: which trial of a search is the best: of those whose validation Spearman is within 0.002 of the
            highest, which is less than chance, the one with the lowest error ("mse"); or the highest Spearman alone
            ("paper").
        cache_frozen: keep the outputs of submodules that are not trained on disk, instead of computing them in each
            epoch.
    """

    recipe: Recipe = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    branch_gradient_scale: float = 1.0
    batch_size: int = 32
    epochs: int = 20
    steps_per_epoch: int | None = None
    patience: int = 5
    flip: bool = True
    initialization: Initialization = "normalized"
    seed: int = 0
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    selection: Selection = "mse"
    cache_frozen: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps_per_epoch", "patience"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name} must be 1 or more", value)
        _check(self.recipe in DEFAULTS, f"recipe must be one of {', '.join(DEFAULTS)}", self.recipe)
        for name, default in zip(("learning_rate", "weight_decay"), DEFAULTS[self.recipe], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        rate, decay = self.learning_rate, self.weight_decay
        _check(rate is not None and 0 < rate < math.inf, "learning_rate must be above 0", rate)
        _check(0 <= self.momentum < 1, "momentum must be from 0 to below 1", self.momentum)
        _check(decay is not None and decay >= 0, "weight_decay must be 0 or more", decay)
        scale = self.branch_gradient_scale
        _check(0 < scale < math.inf, "branch_gradient_scale must be above 0, and 1 leaves gradients unchanged", scale)
        _check(
            scale == 1 or self.recipe == "paper",
            f"branch_gradient_scale belongs to recipe=paper, and the steps of {self.recipe} hardly depend on the "
            "size of gradients: give that recipe, or leave it at 1",
            scale,
        )
        _check(-(2**63) <= self.seed < 2**63, "seed must be a whole number of 64 bits", self.seed)
        for name, kind in (("initialization", Initialization), ("selection", Selection)):
            kinds = get_args(kind)
            _check(getattr(self, name) in kinds, f"{name} must be one of {', '.join(kinds)}", getattr(self, name))
        shares = self.fractions
        _check(
            len(shares) == 3 and min(shares) >= 0 and min(shares[:2]) > 0 and math.isclose(sum(shares), 1),
            "fractions must be three that make 1, for training and validation above 0",
            shares,
        )

    @classmethod
    def read(cls, path: str | Path | None = None, changes: Iterable[str] = ()) -> Self:
        """The values of a TOML file, and over them changes as "learning_rate=1e-3", as a command line gives them.

        Raises `TrainingError` for unknown names and values that are not possible.

        >>> TrainConfig.read(changes=["learning_rate=1e-3", "flip=false"]).flip
        False
        """
        values: dict[str, Any] = {}
        try:
            if path is not None:
                values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            for change in changes:
                values |= _change(change)
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TrainingError(f"{path} is not a TOML file: {error}.") from error
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings of a mapping, as `to_dict` makes it; unknown names and other types are a `TrainingError`."""
        # Of a setting whose default is None, a value of its type stands for the default.
        defaults = {field.name: _OPTIONAL.get(field.name, field.default) for field in dataclasses.fields(cls)}
        typed = {}
        for name, value in values.items():
            if name not in defaults:
                raise TrainingError(f"Training has no setting {name!r}. {did_you_mean(name, defaults)}")
            typed[name] = _typed(name, value, defaults[name])
        return cls(**typed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `from_dict` is the way back.

        >>> TrainConfig.from_dict(TrainConfig(momentum=0.5).to_dict()) == TrainConfig(momentum=0.5)
        True
        """
        return dataclasses.asdict(self) | {"fractions": list(self.fractions)}


@dataclass(frozen=True)
class Runtime:
    """The machine that a training runs on, and its logger; passed on to Lightning's `Trainer`.

    Attributes:
        accelerator: "auto", "cpu", "gpu", "mps".
        devices: how many on each node; with more than one, data-parallel processes (DDP).
        nodes: machines; under Slurm, start one task a device on each with `srun`.
        precision: "auto" is 16-mixed on an NVIDIA GPU and 32-true elsewhere; bfloat16 is not chosen, since its
            steps of 0.004 at 0.7 are coarse for a memorability.
        workers: threads that decode photographs, and, on a GPU, processes that read ahead.
        logger: beside `history.csv`, which is always written: "csv" (a row every ten steps), "tensorboard", or "wandb",
            which stays offline unless you are logged in to Weights & Biases.
        cache: a folder where decoded photographs (155 KB each at 227 px), frozen outputs (8 KB each for a ResNet) and
            a teacher's scores are kept for other trainings; None keeps them in the training's own folder and removes
            them when it is finished.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    workers: int = 2
    logger: Logger = "csv"
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "nodes", "workers"):
            _check(getattr(self, name) >= 1, f"{name} must be 1 or more", getattr(self, name))
        loggers = get_args(Logger)
        _check(self.logger in loggers, f"logger must be one of {', '.join(loggers)}", self.logger)

    @property
    def device(self) -> torch.device:
        """The device on which frozen submodules run: the first of the kind that is trained on."""
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        kind = {"gpu": "cuda"}.get(self.accelerator, self.accelerator)
        if kind == "auto":
            kind = next(kind for kind in there if there[kind])
        if not there.get(kind):
            raise TrainingError(f"There is no accelerator {self.accelerator!r} here: give auto, cpu, gpu or mps.")
        return torch.device(kind)

    def to_dict(self) -> dict[str, Any]:
        """What affects the result: devices, nodes, and the precision that "auto" selects on this machine."""
        precision = self.precision
        if precision == "auto":
            precision = "16-mixed" if self.device.type == "cuda" else "32-true"
        _check(precision in PRECISIONS, f"precision must be auto or one of {', '.join(PRECISIONS)}", precision)
        return {"devices": self.devices, "nodes": self.nodes, "precision": precision}


_OPTIONAL: Mapping[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.01, "steps_per_epoch": 100}


def _check(valid: bool, rule: str, given: object) -> None:
    if not valid:
        raise TrainingError(f"{rule}; given was {given!r}.")


def _change(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise TrainingError(f"{text!r}: write name=value, as learning_rate=0.001.")
    try:
        return {name.strip(): tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:  # a word, which TOML would have in quotation marks
        return {name.strip(): value.strip()}


def _typed(name: str, value: Any, default: Any) -> Any:
    """The value as the default's type; a whole number passes as a float."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_typed(name, each, default[0]) for each in value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if value is None and name in _OPTIONAL:
        return None
    if type(value) is not type(default):
        raise TrainingError(f"{name} must be of the kind of {default!r}; given was {value!r}.")
    return value
