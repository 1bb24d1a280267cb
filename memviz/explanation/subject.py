"""One photograph before one network: what is climbed, how far a picture is, and what is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from memviz.errors import ModelError
from memviz.explanation.measure import remove_sigmoid
from memviz.layers import ChannelsLast, isolated, private_copy, quickened, truncate
from memviz.layers.unit import Unit
from memviz.models import Model
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.measure import to_pil as as_image
from memviz.rendering.objective import OUTPUT

# Through which each step sees the picture: the search must not end in a pattern that one pixel's shift undoes.
TRANSFORMS = RandomTransforms(jitter=8, rotate=2, scale=0.05)
# With which a result is tested, drawn anew: parts of the picture, of this share of its sides at least.
CUTS, CUT = 5, 0.9


@dataclass(frozen=True)
class Measurement:
    """What a network makes of a picture file, through its own preprocessing.

    Attributes:
        score: of the model; None where only a unit is looked at.
        logit: of the score, where the network ends in a sigmoid.
        mean, peak: of the unit, as `memviz.layers.unit` defines them; None where it is about the score.
        robust, robust_low, robust_high: mean, lowest and highest `shown` of the picture cut at random, to 90 to 100 %
            of its sides; the same cuts for all pictures.
        distance: from the photograph, at the held layers together; `distances` by layer.
        rms: root mean square change of the pixels, in 8-bit levels.
    """

    score: float | None
    logit: float | None
    mean: float | None
    peak: float | None
    robust: float
    robust_low: float
    robust_high: float
    distance: float
    distances: dict[str, float]
    rms: float

    @property
    def shown(self) -> float:
        """What it is about: the score, or the unit's mean."""
        value = self.score if self.mean is None else self.mean
        assert value is not None
        return value


class Subject:
    """A network, prepared for one photograph after another.

    Args:
        model: stays as it is.
        unit: whose mean activation is climbed; None for the score's logit.
        held: addresses of the layers at which distances are taken.
        seed: of everything random.

    Raises:
        ModelError: no unit is given and the model does not give one number a picture.
    """

    def __init__(self, model: Model, unit: Unit | None, held: Sequence[str], seed: int) -> None:
        self.model, self.unit = model, unit
        self._transforms, self._noise, self._cuts = (
            torch.Generator("cpu").manual_seed(int(number))
            for number in np.random.SeedSequence(abs(seed)).generate_state(3)
        )
        address = OUTPUT if unit is None else unit.address
        with isolated(model.device):
            network = private_copy(model.module)
            example = torch.zeros(2, 3, *model.inputs.size, device=model.device, dtype=model.dtype)
            with torch.no_grad():
                self._logit = unit is None and remove_sigmoid(network, example)
                if unit is None:
                    model.numbers([network(example)], 2)
            self._plain = ChannelsLast(truncate(network, [address]))
            self._network = quickened(truncate(private_copy(network), [address]))
            self._early = quickened(truncate(private_copy(model.module), held))
        self._address = address
        cut = torch.rand(CUTS, 4, generator=self._cuts, dtype=torch.float64, device="cpu")
        self._boxes = cut.tolist()

    @property
    def scale(self) -> Literal["logit", "score", "mean"]:
        """What is climbed."""
        return "mean" if self.unit is not None else "logit" if self._logit else "score"

    def start(self, picture: Image.Image) -> Image.Image:
        """Takes up a photograph, RGB, and returns it with no more pixels than preprocessing leaves it."""
        (height, width), inputs = self.model.inputs.size, self.model.inputs
        left, top, right, bottom = inputs.photo_box((0, 0, width, height), picture.size)
        shrink = max(width / (right - left), height / (bottom - top))
        if shrink < 1:
            size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        self.photograph = (pixels.float() / 255).to(self.model.device)
        with isolated(self.model.device), torch.no_grad():
            self._near = self._early_of(inputs.from_tensor(self.photograph))
            # As a file, where resizing rounds to 8 bits.
            self._saved = self._early_of(inputs.from_pil(picture)[None])
        return picture

    def value(self, sign: int, steps: int) -> Callable[[int, Tensor], Tensor]:
        """What an ascent of so many steps raises, of a picture (1, 3, H, W) that each step sees transformed."""
        size = (self.photograph.shape[2], self.photograph.shape[3])
        maps = TRANSFORMS.draw(steps, size, self._transforms).to(self.model.device)

        def value(step: int, picture: Tensor) -> Tensor:
            seen = self.model.inputs.from_tensor(TRANSFORMS.apply(picture, maps[step : step + 1]))
            with isolated(self.model.device), torch.enable_grad():
                found = self._network(seen.to(self.model.dtype))[self._address]
            return sign * self._read(found.float())[0].sum()

        return value

    def distance(self, picture: Tensor) -> float:
        """How far a picture (1, 3, H, W) is from the photograph."""
        with isolated(self.model.device), torch.no_grad():
            return _together(_distances(self._early_of(self.model.inputs.from_tensor(picture)), self._near))

    def noise(self, like: Tensor) -> Tensor:
        """A random change of the parameters."""
        return torch.randn(like.shape, generator=self._noise, dtype=torch.float32, device="cpu").to(like.device)

    def measure(self, picture: Image.Image) -> Measurement:
        """What the network makes of an 8-bit picture, also where it is cut."""
        boxes = [_cut(picture.size, box) for box in self._boxes]
        with isolated(self.model.device), torch.no_grad():
            whole, *parts = (self._numbers(each) for each in [picture, *(picture.crop(box) for box in boxes)])
            distances = _distances(self._early_of(self.model.inputs.from_pil(picture)[None]), self._saved)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        change = pixels.float() - self.photograph.cpu() * 255
        about_unit = self.unit is not None
        cut = [part[0] for part in parts]
        return Measurement(
            score=None if about_unit else whole[0],
            logit=whole[1] if self._logit else None,
            mean=whole[0] if about_unit else None,
            peak=whole[1] if about_unit else None,
            robust=float(np.mean(cut)),
            robust_low=min(cut),
            robust_high=max(cut),
            distance=_together(distances),
            distances=distances,
            rms=float(change.square().mean().sqrt()),
        )

    def _numbers(self, picture: Image.Image) -> tuple[float, float]:
        """Score and logit of a picture, or mean and peak of the unit."""
        model = self.model
        if self.unit is not None:
            inputs = model.inputs.from_pil(picture)[None].to(model.device, model.dtype)
            mean, peak = self._read(self._plain(inputs)[self._address].float())
            return float(mean), float(peak)
        found: list[Any] = model.run(self._plain, model.inputs.crops_from_pil(picture)[None])
        outputs = [each[OUTPUT] for each in found]
        numbers = model.numbers(outputs, 1)
        score = float(model.score_spec(numbers.sigmoid() if self._logit else numbers))
        if not np.isfinite(score):
            raise ModelError(f"{model.name} predicts {score}: its weights are damaged, or its InputSpec is wrong.")
        return score, float(numbers.mean())

    def _read(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """What is climbed, and the peak of a unit, of what the network gave for one picture."""
        if self.unit is None:
            # Before a clip, so that there is a gradient beyond it.
            numbers = found.flatten() if self._logit else self.model.score_spec.unclipped(found.flatten())
            return numbers, numbers
        own = found[0, self.unit.channel]
        rows, columns = self.model.layers[self.unit.address].interior(self.model.inputs.size)
        inside = own[rows, columns] if own.dim() == 2 else own[None, None]
        return inside.mean(), inside.max()

    def _early_of(self, inputs: Tensor) -> dict[str, Tensor]:
        found = self._early(inputs.to(self.model.device, self.model.dtype))
        return {address: maps.float() for address, maps in found.items()}


def to_pil(picture: Tensor) -> Image.Image:
    """A picture (1, 3, H, W) in [0, 1] as it is saved, in 8 bits."""
    return as_image(picture[0].detach().cpu().mul(255).round().clamp(0, 255).to(torch.uint8))


def _distances(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    return {
        address: float((found[address] - maps).norm() / maps.norm().clamp(min=1e-12))
        for address, maps in reference.items()
    }


def _together(distances: dict[str, float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(distances.values())))))


def _cut(size: tuple[int, int], numbers: Sequence[float]) -> tuple[int, int, int, int]:
    """A part of a picture of (width, height), of 90 to 100 % of its sides."""
    box = []
    for side, share, place in zip(size, numbers[:2], numbers[2:], strict=True):
        length = max(1, round(side * (CUT + (1 - CUT) * share)))
        start = round((side - length) * place)
        box.append((start, start + length))
    (left, right), (top, bottom) = box
    return left, top, right, bottom
