"""A survey of units over photographs: one forward and one backward pass a photograph serve all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memviz.errors import ModelError
from memviz.explanation.gradients import LayerGradients
from memviz.explanation.measure import Reading
from memviz.explanation.moments import Moments
from memviz.images import stream
from memviz.layers import isolated
from memviz.models import Model
from memviz.progress import Advance

Found = tuple[int, Moments, dict[str, str]]


@dataclass(frozen=True)
class Surveying:
    """A survey, as a recipe of `memviz.work`: its workers turn ranges of photographs into moments.

    Attributes:
        layers: addresses, and how many units each has.
        reading: the photographs.
    """

    layers: Mapping[str, int]
    reading: Reading

    @property
    def paths(self) -> Sequence[Path]:
        """The photographs."""
        return self.reading.paths

    @property
    def units(self) -> int:
        """How many, of all layers."""
        return sum(self.layers.values())

    def __call__(self, model: Model) -> Callable[[Iterable[range], Advance], Iterator[Found]]:
        """A worker with a private copy of the model's network: of each range its start, the moments over its
        photographs, and why some could not be read."""
        survey = Survey(model, self.layers)

        def scan(shards: Iterable[range], advance: Advance) -> Iterator[Found]:
            for shard in shards:
                yield shard.start, *survey.scan(self.reading, shard, advance)

        return scan


class Survey:
    """Passes over photographs that add up the moments of all units."""

    def __init__(self, model: Model, layers: Mapping[str, int]) -> None:
        self._model = model
        self._gradients = LayerGradients(model, list(layers))
        starts = [0, *accumulate(layers.values())]
        self._units = {address: slice(*ends) for address, ends in zip(layers, pairwise(starts), strict=True)}
        self._count = starts[-1]

    def check(self) -> None:
        """Raises a `ModelError` for a model without a score, or without gradients."""
        self.add(torch.zeros(1, 3, *self._model.inputs.size))

    def scan(self, reading: Reading, shard: range, advance: Advance) -> tuple[Moments, dict[str, str]]:
        """The moments over a range of photographs, and why some could not be read."""
        moments, unreadable = Moments.none(self._count), dict[str, str]()
        part = slice(shard.start, shard.stop)
        paths, prepare = reading.paths[part], self._model.inputs.from_pil
        batches = stream(paths, prepare, reading.batch_size, reading.workers, hashes=reading.hashes[part])
        with closing(batches):
            for batch in batches:
                unreadable |= {str(failure.path): failure.reason for failure in batch.failures}
                if len(batch.indices):
                    moments += self.add(batch.pictures)
                advance(len(batch.indices) + len(batch.failures))
        return moments, unreadable

    def add(self, pictures: Tensor) -> Moments:
        """The moments of all units over pictures (N, 3, H, W)."""
        found = np.zeros((3, len(pictures), self._count))

        def receive(address: str, values: Tensor, gradient: Tensor) -> None:
            values, gradient = (each.flatten(2) if each.dim() > 2 else each[..., None] for each in (values, gradient))
            numbers = torch.stack([values.mean(2), (values * gradient).sum(2), gradient.sum(2)])
            found[:, :, self._units[address]] = numbers.cpu().numpy()

        with isolated(self._model.device), torch.enable_grad():
            inputs = pictures.to(self._model.device, self._model.dtype, copy=True).requires_grad_()
            _, _, unused = self._gradients.run(inputs, receive)
        for address, values in unused.items():
            receive(address, values, torch.zeros_like(values))
        if not np.isfinite(found).all():
            unit = int(np.argmin(np.isfinite(found).all((0, 1))))
            (address,) = (each for each, units in self._units.items() if units.start <= unit < units.stop)
            raise ModelError(
                f"{address} has no finite activations and gradients, so its contributions cannot be taken. Check the "
                "model's weights and its InputSpec."
            )
        return Moments.of(found)
