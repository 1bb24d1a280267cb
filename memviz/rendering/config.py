"""How pictures are optimized: one frozen value that manifests and recipes hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeGuard

import msgspec

from memviz.errors import RenderError, did_you_mean, shown
from memviz.layers import Layer
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.maco import Maco
from memviz.rendering.parameterize import Fourier, Parameterization, Pixel

# Small enough to be quick and large enough for the patterns of deep layers.
DEFAULT_SIZE = 128
# The side of what is optimized of these where it holds several receptive fields: the same pictures in a third of the
# time (experiments/objectives).
SMALL_CANVAS, CANVAS_FIELDS = 64, 5
# Of a refinement's pace: pixels, and the largest factor. At 0.8 for all, pictures of deep layers are gaudy and hardly
# reach more; at 0.3 for all, the first convolutions stop at .74 and .92 of the known optimum (experiments/objectives).
FINE, FASTEST = 90, 8
# More than anyone needs: whatever is larger is a slip, or an attack on whoever reads a recipe.
MOST = {"size": 4096, "canvas": 4096, "steps": 1_000_000, "batch_size": 1_000_000}
PARAMETERIZATIONS: dict[str, type[Fourier | Pixel | Maco]] = {"fourier": Fourier, "pixel": Pixel, "maco": Maco}


@dataclass(frozen=True)
class Refinement:
    """The last steps: without transforms, on the pictures as they are measured: repeated to the network's input, or, to
    the same effect, as if without end (`memviz.layers.torus`).

    Attributes:
        share: of the steps.
        learning_rate: of Adam, at their beginning; it falls to zero in a straight line. Units that see few pixels
            need the finest detail at full contrast, and are refined up to eight times as fast (`pace`).
    """

    share: float = 0.33
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if not (is_number(self.share) and 0 < self.share < 1):
            raise RenderError(f"share of a refinement must lie between 0 and 1; given was {shown(self.share)}.")
        check_learning_rate(self.learning_rate)

    @staticmethod
    def pace(field: int | None) -> float:
        """By how much faster than `learning_rate` units are refined that see a field of so many pixels' side."""
        return 1.0 if field is None else min(FASTEST, max(1.0, FINE / field))


@dataclass(frozen=True)
class RenderConfig:
    """Everything but the objective and the seed that decides what a picture looks like.

    Attributes:
        size: pictures of size x size px; None takes 128 px where the layers are feature maps, and the
            network's own input size where they need it (the score, or fully connected layers).
        canvas: the side of what is optimized, where that is a part of the picture, which repeats it; None takes 64 px
            for pictures of 128 px where units see few pixels (a fifth of that at most), and else the whole.
        steps: of the optimizer, at most; a picture that no longer gains takes fewer.
        learning_rate: of Adam; this and the two defaults around it are measured in experiments/objectives.
        parameterization: `Fourier()`, `Pixel()`, or `Maco.from_photographs(...)`.
        transforms: the random transforms, or None.
        refinement: the last steps, or None where all are alike.
        redirect: whether the first half of the first steps redirects gradients through the activation functions that
            block them (`memviz.rendering.redirect`); else only where no gradient reaches a picture.
        mixed_precision: bfloat16 on a GPU that has it; never on a CPU.
        batch_size: most pictures together; None is 16 on a CPU and 128 on a GPU, or what fits into
            memory. It changes the speed, not the pictures, and is not compared.

    Raises:
        RenderError: a value of another type, or out of range.

    Example:
        >>> RenderConfig(steps=64) == RenderConfig.from_dict({"steps": 64})
        True
    """

    size: int | None = None
    canvas: int | None = None
    steps: int = 54
    learning_rate: float = 0.1
    parameterization: Parameterization = field(default_factory=Fourier)
    transforms: RandomTransforms | None = field(default_factory=RandomTransforms)
    refinement: Refinement | None = field(default_factory=Refinement)
    redirect: bool = False
    mixed_precision: bool = True
    batch_size: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if (value is not None or name == "steps") and not (type(value) is int and 0 < value <= most):
                raise RenderError(f"{name} must be a whole number from 1 to {most}; given was {shown(value)}.")
        if self.canvas is not None and (self.size or DEFAULT_SIZE) % self.canvas:
            raise RenderError(
                f"canvas must divide the size of the pictures, {self.size or DEFAULT_SIZE} px; given was {self.canvas}."
            )
        check_learning_rate(self.learning_rate)
        for name in ("redirect", "mixed_precision"):
            if not isinstance(getattr(self, name), bool):
                raise RenderError(f"{name} must be true or false; given was {shown(getattr(self, name))}.")
        if not isinstance(self.transforms, RandomTransforms | None):
            raise RenderError(f"transforms must be RandomTransforms or None; given was {shown(self.transforms)}.")
        if not isinstance(self.refinement, Refinement | None):
            raise RenderError(f"refinement must be a Refinement or None; given was {shown(self.refinement)}.")
        if type(self.parameterization) not in PARAMETERIZATIONS.values():
            raise RenderError(
                f"parameterization must be Fourier, Pixel or Maco; given was {shown(self.parameterization)}."
            )

    @property
    def refining_steps(self) -> int:
        """How many of the steps are the last ones."""
        return 0 if self.refinement is None else round(self.refinement.share * self.steps)

    def resolve(self, layers: Sequence[Layer] | None, input_size: tuple[int, int]) -> RenderConfig:
        """The config whose size and canvas say what they are, by which two configs are compared.

        Args:
            layers: at which the objectives look, where these ask for no place; None where one needs the network's own
                input, as the score does, and not maps.
            input_size: (height, width) of that input, which a size of None then stands for.
        """
        if layers is None:
            return replace(self, size=None) if (self.size, self.size) == input_size else self
        if self.size is not None:
            return self
        canvas = self.canvas
        if canvas is None and layers and all(map(_fits_small_canvas, layers)):
            canvas = SMALL_CANVAS
        return replace(self, size=DEFAULT_SIZE, canvas=canvas)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a manifest: what decides the pictures, hence without the batch size."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # lists, also of what are tuples
        del data["batch_size"]
        kind = next(name for name, type_ in PARAMETERIZATIONS.items() if type(self.parameterization) is type_)
        data["parameterization"] = {"kind": kind} | data["parameterization"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RenderConfig:
        """The config that plain data describe, as `to_dict` writes it or a recipe has it; keys may be missing.

        Raises:
            RenderError: an unknown key, a value of another type or out of range.

        Example:
            >>> RenderConfig.from_dict({"parameterization": {"kind": "pixel"}}).parameterization
            Pixel(sd=0.01, decorrelated=True)
        """
        known = tuple(cls.__dataclass_fields__)
        values = dict(read_table(data, known, "a render config"))
        if "parameterization" in values:
            table = values["parameterization"]
            kind = table.get("kind") if isinstance(table, Mapping) else None
            if not (isinstance(kind, str) and kind in PARAMETERIZATIONS):
                raise RenderError(
                    f"parameterization is {shown(table)}: give a table with kind, one of "
                    f"{', '.join(PARAMETERIZATIONS)}."
                )
            rest = {key: value for key, value in table.items() if key != "kind"}
            values["parameterization"] = read_as(PARAMETERIZATIONS[kind], rest, "parameterization")
        if values.get("transforms") is not None:
            values["transforms"] = read_as(RandomTransforms, values["transforms"], "transforms")
        if values.get("refinement") is not None:
            values["refinement"] = read_as(Refinement, values["refinement"], "refinement")
        return cls(**values)


def _fits_small_canvas(layer: Layer) -> bool:
    field, stride = layer.receptive_field, layer.stride
    if field is None or stride is None:
        return False
    return CANVAS_FIELDS * max(field) <= SMALL_CANVAS and all(SMALL_CANVAS % step == 0 for step in stride)


def read_table(data: object, known: tuple[str, ...], what: str) -> Mapping[str, Any]:
    """A table whose keys are known; a `RenderError` otherwise."""
    if not isinstance(data, Mapping):
        raise RenderError(f"{what} must be a table; given was {shown(data)}.")
    for key in data:
        if key not in known:
            raise RenderError(f"{what} has no {shown(key)}. {did_you_mean(str(key), known, most=10)}")
    return data


def read_as(kind: Any, data: object, what: str) -> Any:
    """A flat dataclass from a table, with its types checked; a `RenderError` otherwise."""
    read_table(data, tuple(kind.__dataclass_fields__), what)
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise RenderError(f"{what}: {error}.") from error


def check_learning_rate(value: object) -> None:
    """Refuses what is no learning rate, with a `RenderError`."""
    if not (is_number(value) and 0 < value < 1e30):
        raise RenderError(f"learning_rate must be a number above 0; given was {shown(value)}.")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
