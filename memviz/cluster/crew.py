"""Gives shards to workers, and again to others if a worker is lost."""

from __future__ import annotations

import copy
import pickle
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from memviz.cluster.actor import Actor, is_there
from memviz.errors import ClusterError, ModelError
from memviz.layers import private_copy
from memviz.models import Model
from memviz.progress import Advance
from memviz.work import Recipe

# What a worker is given takes about so long: that is what its loss may cost, and how often progress is seen.
BUNDLE_SECONDS = 30.0
# After so many failures in a row a worker's place stays empty, and after as many of one shard the work ends.
MOST_FAILURES = 4
WAIT_SECONDS = 60.0  # for a first node, or for another after the last one is lost
_LOOK_EVERY_SECONDS = 1.0  # for nodes that came
# Troubles of a node, not of the work: elsewhere it may go well. Whatever else a worker raises ends the work.
_TROUBLES = (OSError, MemoryError, torch.OutOfMemoryError)


@dataclass(eq=False)
class _Place:
    """Where a worker is, or may be: some cores of a node, or one of its GPUs."""

    node: str
    host: str
    cpus: int
    gpu: bool
    actor: Any = None
    holds: bool = False  # the model of the work that is done
    given: list[int] = field(default_factory=list)  # shards that the worker has in hand
    since: float = 0.0
    pace: float | None = None  # seconds a shard
    failures: int = 0  # in a row

    def end(self) -> None:
        """Ends the worker, whatever it does."""
        if self.actor is not None:
            ray.kill(self.actor)
        self.actor, self.holds, self.pace = None, False, None


class RayCrew:
    """The workers of the cluster that this process is connected to, as `memviz.work.Crew`.

    Args:
        device: "auto", "cpu" or "cuda".
        threads: of a worker on cores.
    """

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self.places: dict[str, list[_Place]] = {}  # by node

    def __call__(
        self, model: Model, recipe: Recipe[Any, Any, Any], shards: Sequence[Any], advance: Advance
    ) -> Generator[Any, None, None]:
        """The results of all shards, as they come, each once.

        Raises:
            ClusterError: there are no nodes, or a shard was tried on several in vain.
            ModelError: the model, or its work, cannot be sent to other processes.
        """
        seen = next((str(path) for path in recipe.paths if is_there(path)), None)
        try:
            held = ray.put((_on_cpu(model), recipe))
        except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"{model.name} cannot be sent to other processes ({error}). Define its parts in a file that the nodes "
                "have, too."
            ) from error
        work = _Work(self, shards, held, seen)
        try:
            for results, count in work.run():
                advance(count)
                yield from results
        finally:
            work.end()

    def close(self) -> None:
        """Ends the workers."""
        for place in (each for places in self.places.values() for each in places):
            place.end()

    def places_of(self, node: dict[str, Any]) -> list[_Place]:
        """The places of a node, as `ray.nodes()` describes it."""
        cpus, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        place = {"node": node["NodeID"], "host": node["NodeManagerAddress"]}
        if gpus and self._device != "cpu":
            threads = min(self._threads, cpus // gpus)
            return [_Place(**place, cpus=threads, gpu=True) for _ in range(gpus)]
        if self._device == "cuda" or not cpus:
            return []
        threads = min(self._threads, cpus)
        return [_Place(**place, cpus=threads, gpu=False) for _ in range(cpus // threads)]


class _Work:
    """One call of a crew."""

    def __init__(self, crew: RayCrew, shards: Sequence[Any], held: Any, seen: str | None) -> None:
        self._crew, self._shards, self._held, self._seen = crew, shards, held, seen
        self._todo = deque(range(len(shards)))
        self._failures: Counter[int] = Counter()
        for place in self._all():
            place.holds, place.given, place.failures, place.pace = False, [], 0, None
        self._calls: dict[Any, _Place] = {}
        self._idle: list[_Place] = []
        self._last: BaseException | None = None  # what went wrong last

    def _all(self) -> list[_Place]:
        return [place for places in self._crew.places.values() for place in places]

    def run(self) -> Iterator[tuple[list[Any], int]]:
        """What workers give, and how much of the work it is."""
        left = len(self._shards)
        looked = without = time.monotonic()
        self._look()
        while left:
            done, _ = ray.wait(list(self._calls), timeout=_LOOK_EVERY_SECONDS) if self._calls else ([], None)
            found = None
            for call in done:
                place = self._calls.pop(call)
                try:
                    found = ray.get(call)
                except (RayError, RayTaskError) as error:
                    self._failed(place, error)
                    continue
                if place.given:
                    left -= len(place.given)
                    place.pace, place.failures = (time.monotonic() - place.since) / len(place.given), 0
                    place.given = []
                self._idle.append(place)
            self._give()  # before the results are used here, so that nobody waits for that
            if found is not None:
                yield found
            if self._calls:
                without = time.monotonic()
            elif not done:
                self._check(time.monotonic() - without)
                time.sleep(0.2)
            if not done or time.monotonic() - looked > _LOOK_EVERY_SECONDS:
                self._look()
                looked = time.monotonic()

    def _check(self, seconds: float) -> None:
        """Gives up where no worker is left, and none has come for some time."""
        places = self._all()
        if seconds > WAIT_SECONDS or (places and all(place.failures >= MOST_FAILURES for place in places)):
            why = "" if self._last is None else f" What went wrong last: {_reason(self._last)}."
            raise ClusterError(
                f"No node of the cluster can work.{why} What was finished is kept; start nodes that have CPUs or GPUs, "
                "and give the same call again."
            ) from self._last

    def _look(self) -> None:
        """Finds the nodes that are there, and puts a worker at each empty place."""
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        known = self._crew.places
        self._crew.places = {name: known.get(name) or self._crew.places_of(node) for name, node in nodes.items()}
        self._idle = [place for place in self._idle if place.node in nodes]
        for place in self._all():
            if not place.holds and place.failures < MOST_FAILURES:
                self._start(place)

    def _start(self, place: _Place) -> None:
        if place.actor is None:
            here = NodeAffinitySchedulingStrategy(place.node, soft=False)
            place.actor = Actor.options(  # type: ignore[attr-defined]
                num_cpus=place.cpus, num_gpus=int(place.gpu), max_restarts=0, scheduling_strategy=here
            ).remote(max(place.cpus, 1), place.gpu, sys.path)
        place.holds = True
        self._calls[place.actor.hold.remote(self._held, self._seen)] = place

    def _give(self) -> None:
        while self._todo and self._idle:
            place = self._idle.pop()
            # Shards that lie side by side, fewer towards the end (guided self-scheduling, Polychronopoulos and Kuck
            # 1987), and no more than are soon done. One that has failed goes alone, so that it drags no other along.
            workers = len(self._calls) + len(self._idle) + 1
            fair = len(self._todo) // (2 * workers) if workers > 1 else len(self._todo)
            most = 1 if place.pace is None else max(1, min(fair, int(BUNDLE_SECONDS / max(place.pace, 1e-6))))
            place.given = [self._todo.popleft()]
            while self._todo and len(place.given) < most and not self._failures[place.given[0]]:
                if self._failures[self._todo[0]] or self._todo[0] != place.given[-1] + 1:
                    break
                place.given.append(self._todo.popleft())
            place.since = time.monotonic()
            self._calls[place.actor.do.remote([self._shards[number] for number in place.given])] = place

    def _failed(self, place: _Place, error: BaseException) -> None:
        """Others do what the worker had in hand; if the fault is that of the work itself, it is raised here."""
        if isinstance(error, RayTaskError) and not isinstance(error.cause, (*_TROUBLES, RayError)):
            raise error.cause from error
        self._last = error
        place.holds, place.failures = False, place.failures + 1
        if not isinstance(error, RayTaskError):
            place.end()  # what is left of it
        self._todo.extend(place.given)
        self._failures.update(place.given)
        for number in place.given:
            if self._failures[number] >= MOST_FAILURES:
                raise ClusterError(
                    f"A part of the work failed {MOST_FAILURES} times, last on {place.host}: {_reason(error)}. What "
                    "was finished is kept. If memory is short there, give a smaller batch, or more threads a worker, "
                    "which makes fewer workers; then give the same call again."
                ) from error
        place.given = []
        if place.failures == MOST_FAILURES:
            warnings.warn(
                f"A worker on {place.host} failed {MOST_FAILURES} times in a row and is left out: {_reason(error)}.",
                stacklevel=2,
            )

    def end(self) -> None:
        """Ends workers that have something in hand still; the others may be given other work."""
        for place in self._calls.values():
            place.end()
        for place in self._all():
            if place.actor is not None:
                place.actor.rest.remote()


def _on_cpu(model: Model) -> Model:
    if model.device.type == "cpu":
        return model
    moved = copy.copy(model)
    moved.module = private_copy(model.module).cpu()
    return moved


def _reason(error: BaseException) -> str:
    """The cause in a line."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0].rstrip('.')}" if lines else type(cause).__name__
