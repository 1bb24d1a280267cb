"""How pictures are optimized: one frozen value that a manifest can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from memviz.errors import RenderError
from memviz.models import Model
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.objectives import Lucent, Objective
from memviz.rendering.parameterize import Fourier, Parameterization

# Small enough to be quick and large enough for the patterns of deep layers.
DEFAULT_SIZE = 128


@dataclass(frozen=True)
class RenderConfig:
    """Everything but the objective and the seed that decides what a picture looks like.

    Attributes:
        size: pictures of size x size px; None takes 128 px where the layers are feature maps, and the
            network's own input size where they need it (the score, or fully connected layers).
        steps: of the optimizer.
        learning_rate: of Adam; 0.05 is Lucid's.
        parameterization: `Fourier()` or `Pixel()`.
        transforms: the random transforms, or None.
        mixed_precision: bfloat16 on a GPU that has it; never on a CPU.
        batch_size: most pictures together; None is 16 on a CPU and 128 on a GPU, or what fits into
            memory. It changes the speed, not the pictures.
    """

    size: int | None = None
    steps: int = 256
    learning_rate: float = 0.05
    parameterization: Parameterization = field(default_factory=Fourier)
    transforms: RandomTransforms | None = field(default_factory=RandomTransforms)
    mixed_precision: bool = True
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("size", "steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise RenderError(f"{name} must be a whole number above 0; given was {value!r}.")
        if not self.learning_rate > 0:
            raise RenderError(f"learning_rate must be above 0; given was {self.learning_rate!r}.")

    def size_for(self, model: Model, objectives: Sequence[Objective | Lucent]) -> tuple[int, int]:
        """The pictures' height and width for these objectives."""
        if self.size is not None:
            return self.size, self.size
        terms = [term for o in objectives if isinstance(o, Objective) for _, term in o.terms]
        if any(term.kind == "score" or model.layers[term.address].receptive_field is None for term in terms):
            return model.inputs.size
        return DEFAULT_SIZE, DEFAULT_SIZE

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a manifest: what decides the pictures, hence without the batch size."""
        data = asdict(self)
        del data["batch_size"]
        data["parameterization"] = {"kind": type(self.parameterization).__name__} | data["parameterization"]
        return data
