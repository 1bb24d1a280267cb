"""One pass over photographs that ranks them for every unit of every watched layer."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from memviz.errors import ModelError, StoreError
from memviz.files import replacing
from memviz.index.topk import TopK
from memviz.layers import Layer

# What is kept of each photograph that was read, and its code in Python's `array`.
READ = {"number": "q", "width": "i", "height": "i", "prediction": "d"}


@dataclass
class ScanState:
    """What is known of some of the photographs, which are numbered by their place in the list.

    States of other photographs of the same list can be merged, in any order, to the state of one pass over all of them:
    bit for bit, if they were cut where `Scan.shards` does.

    Attributes:
        ranking: of the units of all watched layers, one layer after the other.
        ranges: the photographs that were read or found unreadable, as (start, stop), sorted, with gaps between them.
        read: of the photographs that could be read, as they came, number, width and height when upright, and the
            model's own score, in arrays: of each 24 bytes.
        errors: why a photograph could not be read.
    """

    ranking: TopK
    ranges: list[tuple[int, int]] = field(default_factory=list)
    read: dict[str, array[Any]] = field(default_factory=lambda: {name: array(code) for name, code in READ.items()})
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many photographs were read or found unreadable."""
        return sum(stop - start for start, stop in self.ranges)

    def missing(self, count: int) -> list[range]:
        """What is not done of the first `count` photographs."""
        ends = [0, *(end for done in self.ranges for end in done), count]
        return [range(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True) if start < stop]

    def add(self, start: int, stop: int) -> None:
        """Marks photographs as done.

        Raises:
            StoreError: some of them are done already, and would be counted twice.
        """
        joined: list[tuple[int, int]] = []
        for first, last in sorted([*self.ranges, (start, stop)]):
            if joined and first < joined[-1][1]:
                raise StoreError(
                    f"Photographs {first} to {min(last, joined[-1][1]) - 1} were scanned twice: give each to one shard."
                )
            if joined and first == joined[-1][1]:
                joined[-1] = joined[-1][0], last
            else:
                joined.append((first, last))
        self.ranges = joined

    def merge(self, other: ScanState) -> None:
        """Takes over what `other` found in other photographs.

        Raises:
            StoreError: the states have photographs in common, or watch other units or with another k.
        """
        before = self.ranges
        try:
            for start, stop in other.ranges:
                self.add(start, stop)
            self.ranking.merge(other.ranking)
        except StoreError:
            self.ranges = before
            raise
        for name, values in self.read.items():
            values.extend(other.read[name])
        self.errors |= other.errors

    def rows(self, count: int) -> dict[str, NDArray[Any]]:
        """Width, height and prediction of the first `count` photographs; 0 and NaN where there is none."""
        numbers = np.asarray(self.read["number"])
        found: dict[str, NDArray[Any]] = {}
        for name, missing in (("width", 0), ("height", 0), ("prediction", np.nan)):
            values = np.asarray(self.read[name])
            found[name] = np.full(count, missing, dtype=values.dtype)
            found[name][numbers] = values
        return found

    def on_cpu(self) -> ScanState:
        """The same, with the ranking in the processor's memory."""
        return replace(self, ranking=TopK.from_dict(self.ranking.to_dict()))

    def save(self, path: Path) -> None:
        """Writes the state, whole or not at all."""
        with replacing(path) as temporary:
            read = {name: torch.from_numpy(np.array(values)) for name, values in self.read.items()}
            torch.save(vars(self) | {"ranking": self.ranking.to_dict(), "read": read}, temporary)

    @classmethod
    def load(cls, path: Path) -> ScanState:
        """The state in a file.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            data = torch.load(path, weights_only=True)
            read = {name: array(code, data["read"][name].numpy().tobytes()) for name, code in READ.items()}
            return cls(**{**data, "ranking": TopK.from_dict(data["ranking"]), "read": read})
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}). Delete {path.parent} to begin anew.") from error


class Maxima:
    """The units' activations on one batch, taken from each layer at the moment when it runs.

    A unit's activation is the peak over the interior of its map, as `memviz.layers.unit` defines it. The layers'
    outputs are not kept: only `values` and `positions`, both (N, units), where a position is `y * width + x` of the
    first maximum in row order, in the whole map. What a layer did not give is NaN.

    Args:
        layers: the watched layers.
        input_size: (height, width) of the network's input.
        batch_size: the most pictures in one forward pass.
        device: where `values` and `positions` live.
    """

    def __init__(
        self, layers: Sequence[Layer], input_size: tuple[int, int], batch_size: int, device: torch.device
    ) -> None:
        self.layers = layers
        self.input_size = input_size
        units = sum(layer.channels for layer in layers)
        self.values = torch.empty(batch_size, units, device=device)
        self.positions = torch.empty(batch_size, units, dtype=torch.int32, device=device)

    def callbacks(self) -> dict[str, Callable[[Tensor], None]]:
        """What `observe` calls with the output of each layer."""
        found: dict[str, Callable[[Tensor], None]] = {}
        start = 0
        for layer in self.layers:
            units = slice(start, start + layer.channels)
            found[layer.address] = partial(self._take, units, (layer.height, layer.width), self._interior(layer))
            start += layer.channels
        return found

    def _interior(self, layer: Layer) -> tuple[slice, slice] | None:
        rows, columns = layer.interior(self.input_size)
        whole = (rows, columns) == (slice(0, layer.height), slice(0, layer.width))
        return None if whole else (rows, columns)

    def _take(self, units: slice, size: tuple[int, int], interior: tuple[slice, slice] | None, output: Tensor) -> None:
        # A module that runs more than once, on maps of other sizes first: its last call is what counts.
        values, positions = spatial_maximum(output, interior if output.shape[2:] == size else None)
        self.values[: len(values), units] = values
        self.positions[: len(values), units] = positions

    def check(self, names: Sequence[str | Path]) -> None:
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


def spatial_maximum(output: Tensor, inside: tuple[slice, slice] | None = None) -> tuple[Tensor, Tensor]:
    """The maximum of each map (N, C, H, W), and where it is first reached in row order, `y * W + x`.

    Both are (N, C); a vector (N, C) is its own maximum, at 0. NaN among the positions gives NaN.

    Args:
        output: the maps, in any memory layout.
        inside: the rows and columns that are looked at; None for all.

    >>> maps = torch.tensor([[[[0.0, 2.0], [2.0, 1.0]]]])
    >>> spatial_maximum(maps), spatial_maximum(maps, (slice(1, 2), slice(0, 2)))
    ((tensor([[2.]]), tensor([[1]])), (tensor([[2.]]), tensor([[2]])))
    """
    if output.dim() == 2:
        return output, torch.zeros_like(output, dtype=torch.int64)
    if inside is None:
        return _pooled(output)
    # Pooling copies a slice first. On a processor it does so for one picture at a time, which stays in the cache:
    # for all 16 of a batch at once it takes ten times longer.
    pictures = torch.split(output[:, :, *inside], 1 if output.device.type == "cpu" else len(output))
    values, positions = (torch.cat(each) for each in zip(*map(_pooled, pictures), strict=True))
    rows, columns = inside
    width = columns.stop - columns.start
    place = positions // width * (output.shape[3] - width) + positions
    return values, place + rows.start * output.shape[3] + columns.start


def _pooled(maps: Tensor) -> tuple[Tensor, Tensor]:
    # On channels_last maps pooling runs at the memory's speed, ten times faster than Tensor.max.
    values, positions = functional.max_pool2d(maps, maps.shape[2:], return_indices=True)
    return values.flatten(1), positions.flatten(1)
