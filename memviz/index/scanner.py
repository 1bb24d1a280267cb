"""One pass over photographs, in parts that any process may do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from memviz.errors import ImageError
from memviz.images import Batch, stream
from memviz.index.scan import Maxima, ScanState
from memviz.index.topk import BUFFER, TopK
from memviz.layers import ChannelsLast, Layer, observe, private_copy
from memviz.models import Model
from memviz.progress import Advance

# How often a worker gives what it has: what an interruption may cost. Merging and saving the state of a whole ResMem
# (77 thousand units) takes some tenths of a second.
GIVE_EVERY_SECONDS = 15.0


@dataclass(frozen=True, eq=False)
class Scan:
    """A pass over photographs, as a recipe of `memviz.work`: its workers turn shards into states of them.

    Attributes:
        layers: the watched ones.
        k: photographs kept at each side of each unit.
        files: all photographs in their order, each with the SHA-256 that it must have, or None: one that is changed
            between its hash and its decoding must not be ranked under the hash of another.
        batch_size: most photographs in one forward pass; a power of two or a multiple of `BUFFER` is taken, so that
            batches end where blocks do.
        workers: threads that decode.
    """

    layers: Sequence[Layer]
    k: int
    files: Mapping[str, str | None]
    batch_size: int = 16
    workers: int = 2

    def __post_init__(self) -> None:
        """Refuses what is no batch."""
        if self.batch_size < 1:
            raise ImageError(f"batch_size={self.batch_size} is not possible: give 1 or more.")

    @property
    def paths(self) -> Sequence[str]:
        """The photographs."""
        return tuple(self.files)

    @property
    def batch(self) -> int:
        """Photographs in one forward pass."""
        return self.batch_size // BUFFER * BUFFER or 2 ** (self.batch_size.bit_length() - 1)

    def nothing(self, device: torch.device | str = "cpu") -> ScanState:
        """The state of no photographs."""
        return ScanState(TopK(sum(layer.channels for layer in self.layers), self.k, device))

    def shards(self, state: ScanState) -> list[range]:
        """What is missing of a state, in the smallest parts that leave the result as it is, whoever scans them."""
        size = max(self.batch, BUFFER)
        return [
            range(max(start, part.start), min(start + size, part.stop))
            for part in state.missing(len(self.files))
            for start in range(part.start // size * size, part.stop, size)
        ]

    def __call__(self, model: Model) -> Scanner:
        """A worker with a private copy of the model's network."""
        return Scanner(model, self)


class Scanner:
    """Turns ranges of photographs into states, in one forward pass a batch."""

    def __init__(self, model: Model, scan: Scan) -> None:
        self._model, self._scan = model, scan
        self._private = private_copy(model.module)
        self._network = ChannelsLast(self._private)
        self._paths, self._hashes = list(scan.files), list(scan.files.values())
        self._maxima = Maxima(scan.layers, model.inputs.size, scan.batch, model.device)
        # Apple's GPUs lack the 64-bit floating point numbers in which means are taken.
        self._device = torch.device("cpu") if model.device.type == "mps" else model.device

    def __call__(self, shards: Iterable[range], advance: Advance) -> Iterator[ScanState]:
        """The states of some of the ranges each, one every 15 seconds; what lies side by side is read in one go."""
        for photographs in _joined(shards):
            yield from self._pass(photographs, advance)

    def _pass(self, photographs: range, advance: Advance) -> Iterator[ScanState]:
        scan = self._scan
        paths, hashes = self._paths[: photographs.stop], self._hashes[: photographs.stop]
        prepare = self._model.inputs.pixels_from_pil
        batches = stream(paths, prepare, scan.batch, workers=scan.workers, start=photographs.start, hashes=hashes)
        state, done, begun = scan.nothing(self._device), photographs.start, time.monotonic()
        with closing(batches):
            for batch in batches:
                count = len(batch.indices) + len(batch.failures)
                state.errors |= {failure.index: failure.reason for failure in batch.failures}
                if len(batch.indices):
                    self._take(batch, [paths[index] for index in batch.indices], state)
                state.add(done, done + count)
                done += count
                if done % BUFFER == 0 or done == photographs.stop:
                    state.ranking.flush()
                    if time.monotonic() - begun >= GIVE_EVERY_SECONDS or done == photographs.stop:
                        yield state.on_cpu()
                        state, begun = scan.nothing(self._device), time.monotonic()
                advance(count)

    def _take(self, batch: Batch, names: Sequence[str], state: ScanState) -> None:
        model, maxima, count = self._model, self._maxima, len(names)
        # A caller's autocast would change the activations of an index that says nothing of it.
        plain = torch.autocast(model.device.type, enabled=False)
        with torch.inference_mode(), plain, observe(self._private, maxima.callbacks()):
            maxima.values.fill_(torch.nan)
            outputs = model.run_pixels(
                self._network, batch.pictures
            )  # the maxima stay those of the last, the centre crop
            maxima.check(names)
            state.ranking.update(maxima.values[:count], maxima.positions[:count], batch.indices)
            numbers = batch.indices.tolist()
            state.read["number"].extend(numbers)
            for name, values in zip(("width", "height"), zip(*batch.sizes, strict=True), strict=True):
                state.read[name].extend(values)
            scores = [math.nan] * count if model.target is None else model.scores(outputs, count)
            state.read["prediction"].extend(scores)


def _joined(ranges: Iterable[range]) -> list[range]:
    """The ranges, of which those that lie side by side are one.

    >>> _joined([range(2), range(2, 4), range(6, 8)])
    [range(0, 4), range(6, 8)]
    """
    joined: list[range] = []
    for each in ranges:
        if joined and joined[-1].stop == each.start:
            joined[-1] = range(joined[-1].start, each.stop)
        else:
            joined.append(each)
    return joined
