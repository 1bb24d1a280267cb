"""What a job over a network will cost: measured on a few layers, estimated for the others."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import nn

from memviz.artefacts import MANIFEST
from memviz.models import Model
from memviz.rendering.engine import Engine
from memviz.rendering.job import RenderJob
from memviz.rendering.measure import to_pil
from memviz.rendering.store import load_renders

# Of a calibration: units, steps, and the layers of a branch (first, middle and last).
UNITS, STEPS, LAYERS = 4, 6, 3
# A calibration that gets less than this share of the processor that its threads ask for says that the machine is busy.
# Alone, the share is 0.9 to 1.
BUSY = 0.7


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs.

    Attributes:
        address: the layer's.
        units: asked for.
        done: of these, drawn already.
        steps: of each picture.
        seconds: of each picture, with all its steps.
    """

    address: str
    units: int
    done: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a job over a network will cost, on this machine as it was when that was measured.

    Attributes:
        layers: one each.
        setup: seconds to prepare a layer's network.
        bytes_each: of a picture on disk.
        share: of the processor that the measurement's threads got, from 0 to 1; None on a GPU.
        threads: how many those were.
    """

    layers: tuple[LayerCost, ...]
    setup: float
    bytes_each: float
    share: float | None
    threads: int

    def of(self, jobs: Sequence[RenderJob], out: str | os.PathLike[str]) -> Plan:
        """The same for other units of these layers, or at another size."""
        known = {each.address: each for each in self.layers}
        layers = [
            replace(known[job.address], units=len(job.units), done=_done(job, Path(out)), steps=job.config.steps)
            for job in jobs
        ]
        return replace(self, layers=tuple(layers))

    @property
    def seconds(self) -> float:
        """Of everything that is left."""
        left = [(each.units - each.done, each.seconds) for each in self.layers]
        return sum(count * seconds for count, seconds in left) + self.setup * sum(count > 0 for count, _ in left)

    @property
    def bytes(self) -> float:
        """That everything that is left will take on disk."""
        return self.bytes_each * sum(each.units - each.done for each in self.layers)

    @property
    def warning(self) -> str:
        """That the machine is busy; empty where it is not."""
        if self.share is None or self.share >= BUSY:
            return ""
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        advice = " Beside other work, `memviz --threads 1 render ...` is often quicker." if self.threads > 1 else ""
        return (
            f"This machine is busy: {threads} got {self.share:.0%} of the processor time that they could use. The "
            f"estimate is for the machine as it is.{advice}"
        )


def plan(model: Model, jobs: Sequence[RenderJob], out: str | os.PathLike[str]) -> Plan:
    """Measures a few short runs, of the first, middle and last layer of each branch, and estimates the whole.

    In between, seconds are taken as linear in the multiplications of the network up to the layer.

    Args:
        model: whose layers they are.
        jobs: of `memviz.rendering.network.network_jobs`.
        out: where pictures may be already. Nothing is written.
    """
    done = {job.address: _done(job, Path(out)) for job in jobs}
    work = _multiplications(model)
    left = sorted(
        (job for job in jobs if done[job.address] < len(job.units)),
        key=lambda job: (_branch(model, job.address), work[job.address]),
    )
    seconds: dict[str, float] = {}
    measured: list[_Measured] = []
    for _, group in groupby(left, key=lambda job: _branch(model, job.address)):
        of_branch = list(group)
        places = sorted({round(place * (len(of_branch) - 1) / (LAYERS - 1)) for place in range(LAYERS)})
        here = [_measure(model, of_branch[place]) for place in places]
        measured += here
        found = np.interp(
            [work[job.address] for job in of_branch],
            [work[of_branch[place].address] for place in places],
            [each.seconds for each in here],
        )
        seconds |= dict(zip((job.address for job in of_branch), found.tolist(), strict=True))
    wall, processor = sum(each.wall for each in measured), sum(each.processor for each in measured)
    threads = torch.get_num_threads()
    return Plan(
        tuple(
            LayerCost(job.address, len(job.units), done[job.address], job.config.steps, seconds.get(job.address, 0.0))
            for job in jobs
        ),
        statistics.median(each.setup for each in measured) if measured else 0.0,
        statistics.mean(each.bytes for each in measured) if measured else 0.0,
        min(1.0, processor / (wall * threads)) if wall and model.device.type == "cpu" else None,
        threads,
    )


@dataclass(frozen=True)
class _Measured:
    """Seconds to prepare a layer, and of a picture; of the run, on the clock and of the processor; a file's bytes."""

    setup: float
    seconds: float
    wall: float
    processor: float
    bytes: float


def _measure(model: Model, job: RenderJob) -> _Measured:
    config = replace(job.config, steps=min(STEPS, job.config.steps))
    objectives = list(replace(job, units=job.units[:UNITS]).objectives().values())
    start = time.perf_counter()
    engine = Engine(model, objectives, config, job.seed)
    setup = time.perf_counter() - start
    engine.draw(objectives)  # the first passes are slower
    start, began = time.perf_counter(), time.process_time()
    results = engine.draw(objectives)
    wall, processor = time.perf_counter() - start, time.process_time() - began
    size = statistics.mean(_png_bytes(result.picture) for result in results)
    return _Measured(setup, wall / len(results) * job.config.steps / config.steps, wall, processor, size)


def _done(job: RenderJob, out: Path) -> int:
    folder = out / job.address
    if not (folder / MANIFEST).is_file():
        return 0
    return len(job.units) - len(load_renders(folder).missing(job))


def _png_bytes(picture: torch.Tensor) -> int:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="PNG")
    return buffer.tell()


def _branch(model: Model, address: str) -> str:
    first = address.partition(".")[0]
    return first if first in model.branches else ""


def _multiplications(model: Model) -> dict[str, float]:
    """By address, the multiplications of convolutions and linear layers of its branch up to it, for one picture."""
    total: dict[str, float] = {}
    found = {}
    for row in model.layers:
        branch = _branch(model, row.address)
        module = model.module.get_submodule(row.address)
        if isinstance(module, nn.Conv2d | nn.Linear):
            total[branch] = total.get(branch, 0.0) + module.weight.numel() * row.height * row.width
        found[row.address] = total.get(branch, 0.0)
    return found
