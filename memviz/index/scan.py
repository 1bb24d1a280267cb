"""One pass over the photographs that ranks them for every unit of every watched layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memviz.errors import ModelError
from memviz.images import Batch, stream
from memviz.index.topk import BUFFER, TopK
from memviz.layers import Layer, observe, private_copy
from memviz.models import Model
from memviz.progress import Advance

# Saving the state of a whole ResMem (77 thousand units) takes some tenths of a second.
SAVE_EVERY_SECONDS = 15.0


@dataclass
class ScanState:
    """What a pass has found so far; photographs are numbered by their place in the list.

    Attributes:
        state: the ranking of the units of all watched layers, one layer after the other.
        done: how many photographs were read, or found unreadable.
        predictions: the model's own score.
        sizes: (width, height) of the upright photograph.
        errors: why a photograph could not be read.
    """

    state: TopK
    done: int = 0
    predictions: dict[int, float] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data and tensors, for `torch.save`."""
        return vars(self) | {"state": self.state.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], device: torch.device) -> ScanState:
        """The findings that `to_dict` described."""
        return cls(**{**data, "state": TopK.from_dict(data["state"], device)})


class Maxima:
    """The spatial maxima of one batch, taken from each layer at the moment when it runs.

    The layers' outputs are not kept: only `values` and `positions`, both (N, units), where a position is
    `y * width + x` of the first maximum in row order. What a layer did not give is NaN.
    """

    def __init__(self, layers: Sequence[Layer], batch_size: int, device: torch.device) -> None:
        self.layers = layers
        units = sum(layer.channels for layer in layers)
        self.values = torch.empty(batch_size, units, device=device)
        self.positions = torch.empty(batch_size, units, dtype=torch.int32, device=device)

    def callbacks(self) -> dict[str, Callable[[Tensor], None]]:
        """What `observe` calls with the output of each layer."""
        found: dict[str, Callable[[Tensor], None]] = {}
        start = 0
        for layer in self.layers:
            found[layer.address] = partial(self._take, slice(start, start + layer.channels))
            start += layer.channels
        return found

    def _take(self, units: slice, output: Tensor) -> None:
        values, positions = spatial_maximum(output)
        self.values[: len(values), units] = values
        self.positions[: len(values), units] = positions

    def check(self, names: Sequence[Path]) -> None:
        """Refuses activations that are not finite, since they have no rank.

        Args:
            names: the photographs of the batch.
        """
        wrong = ~self.values[: len(names)].isfinite()
        if not wrong.any():
            return
        row, unit = (int(place) for place in wrong.nonzero()[0])
        for layer in self.layers:
            if unit < layer.channels:
                break
            unit -= layer.channels
        raise ModelError(
            f"{layer.address}:{unit} gave no finite activation for {names[row]} (NaN, infinite, or the layer did not "
            "run), so it cannot be ranked. Check the model's weights and its InputSpec, or leave the layer out."
        )


def spatial_maximum(output: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each map (N, C, H, W), and where it is first reached in row order, `y * W + x`.

    Both are (N, C); a vector (N, C) is its own maximum, at 0. NaN anywhere in a map gives NaN.

    >>> maps = torch.tensor([[[[0.0, 2.0], [2.0, 1.0]]]])
    >>> spatial_maximum(maps)
    (tensor([[2.]]), tensor([[1]]))
    """
    if output.dim() == 2:
        return output, torch.zeros_like(output, dtype=torch.int64)
    # On channels_last maps pooling runs at the memory's speed, ten times faster than Tensor.max.
    values, positions = functional.max_pool2d(output, output.shape[2:], return_indices=True)
    return values.flatten(1), positions.flatten(1)


def scan(
    model: Model,
    layers: Sequence[Layer],
    paths: Sequence[Path],
    findings: ScanState,
    save: Callable[[], None],
    advance: Advance,
    batch_size: int,
    workers: int,
) -> None:
    """Brings `findings` from its `done` to the end of `paths`, in one forward pass a batch.

    Args:
        model: the network; a private copy of it runs.
        layers: the watched layers.
        paths: all photographs.
        findings: changed in place.
        save: called now and then, when `findings` are those of its `done` first photographs.
        advance: told of each batch.
        batch_size: photographs in one forward pass.
        workers: threads that decode.
    """
    batches = stream(paths, model.inputs.crops_from_pil, batch_size, workers=workers, start=findings.done)
    network = private_copy(model.module)
    maxima = Maxima(layers, batch_size, model.device)
    # Ranked after a fixed number of batches, so that an interrupted pass adds in the order of an uninterrupted one.
    batches_a_flush = max(1, BUFFER // batch_size)
    saved = time.monotonic()
    with closing(batches), torch.inference_mode(), observe(network, maxima.callbacks()):
        for number, batch in enumerate(batches, start=1):
            findings.errors |= {failure.index: failure.reason for failure in batch.failures}
            if len(batch.indices):
                _take(model, network, batch, maxima, [paths[index] for index in batch.indices], findings)
            findings.done += len(batch.indices) + len(batch.failures)
            if number % batches_a_flush == 0:
                findings.state.flush()
                if time.monotonic() - saved >= SAVE_EVERY_SECONDS:
                    save()
                    saved = time.monotonic()
            advance(len(batch.indices) + len(batch.failures))


def _take(
    model: Model, network: torch.nn.Module, batch: Batch, maxima: Maxima, names: list[Path], findings: ScanState
) -> None:
    count = len(names)
    maxima.values.fill_(torch.nan)
    outputs = model.run(network, batch.pictures)  # the maxima stay those of the last, the centre crop
    maxima.check(names)
    findings.state.update(maxima.values[:count], maxima.positions[:count], batch.indices)
    numbers = batch.indices.tolist()
    findings.sizes |= dict(zip(numbers, batch.sizes, strict=True))
    if model.target is not None:
        findings.predictions |= dict(zip(numbers, model.scores(outputs, count), strict=True))
