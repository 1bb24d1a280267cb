"""The units of a whole network as one job, which several processes may share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from memviz.artefacts import claim, leased
from memviz.errors import LayerError, RenderError
from memviz.layers.unit import lies_in
from memviz.models import Model
from memviz.progress import Advance
from memviz.progress import progress as show_progress
from memviz.rendering.config import RenderConfig
from memviz.rendering.cost import Plan, plan
from memviz.rendering.engine import Engine, RenderResult
from memviz.rendering.job import RenderJob
from memviz.rendering.store import WORDS, SavedRenders, load_renders
from memviz.work import employed, work

# Units that one process takes at a time: what a process that is killed at most has drawn in vain is one batch of them.
SHARE = 64
# Between two looks at shares that other processes have taken.
WAIT_SECONDS = 2.0
Spend = Callable[[str, int], None]
"""Is told how many steps of pictures of a layer are done."""


def network_jobs(
    model: Model,
    layers: Iterable[str] | None = None,
    *,
    branch: str | None = None,
    objective: str = "excitation",
    config: RenderConfig | None = None,
    seed: int = 0,
) -> list[RenderJob]:
    """The jobs that draw all units of layers, one a layer, in the order in which the network runs.

    Args:
        model: whose layers they are.
        layers: addresses or ordinals; None for all convolutions and residual blocks.
        branch: only what lies in this part, as "resnet", or "resnet.layer1".
        objective, config, seed: as `memviz.render` has them.

    Raises:
        LayerError: a layer that the model does not have, or none that lies in the branch.

    Example:
        >>> import memviz
        >>> model = memviz.load_model("memnet", weights=None)
        >>> [(job.address, len(job.units)) for job in network_jobs(model, branch="alexnet")][:2]
        [('alexnet.conv1', 48), ('alexnet.conv2', 256)]
    """
    rows = model.layers.watched() if layers is None else [model.layers[name] for name in layers]
    chosen = {row.address: row for row in rows if branch is None or lies_in(row.address, branch)}
    if not chosen:
        parts = ", ".join(model.branches) or ", ".join(dict.fromkeys(row.address.split(".")[0] for row in model.layers))
        raise LayerError(
            f"No layer to draw lies in {branch!r}. Give a part of {model.name}: {parts}, or a part of one."
        )
    return [
        RenderJob(row.address, tuple(range(row.channels)), objective, config or RenderConfig(), seed).resolve(
            row, model.inputs
        )
        for row in chosen.values()
    ]


class Painter:
    """Draws shares of a model's layers; the network up to the layer of the last one stays ready for the next."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._key: RenderJob | None = None
        self._engine: Engine | None = None

    def draw(self, share: RenderJob, advance: Advance = lambda count=1: None) -> Iterator[list[RenderResult]]:
        """The pictures of a resolved job, batch by batch.

        Args:
            share: of one layer.
            advance: counts each finished step of each picture.
        """
        objectives = list(share.objectives().values())
        key = replace(share, units=(0,))
        if self._engine is None or key != self._key:
            self._engine = None  # before the next one is made, so that there are never two
            self._engine, self._key = Engine(self.model, objectives, share.config, share.seed), key
        for batch in self._engine.chunks(objectives):
            yield self._engine.draw(batch, advance)

    def paint(
        self, share: RenderJob, spend: Callable[[str, int], None] = lambda address, steps: None
    ) -> Iterator[Painted]:
        """The same with the names of the files; an error ends it.

        Args:
            share: as `draw` takes it.
            spend: is told of each finished step of each picture, with the layer.
        """
        files = iter(share.files)
        try:
            for batch in self.draw(share, lambda count=1: spend(share.address, count)):
                yield Painted(share.address, tuple(batch), tuple(next(files) for _ in batch))
        except RenderError as error:
            yield Painted(share.address, error=str(error))


def shares_of(job: RenderJob) -> list[RenderJob]:
    """A job in shares, the same for everyone who asks."""
    return [replace(job, units=job.units[first : first + SHARE]) for first in range(0, len(job.units), SHARE)]


def claim_jobs(model: Model, jobs: Sequence[RenderJob], out: str | os.PathLike[str]) -> dict[str, SavedRenders]:
    """Makes or finds the folder `out/<address>` of each job.

    Raises:
        StoreError: one holds pictures of other weights or settings; then nothing is drawn.
    """
    weights, found = model.fingerprint(), {}
    for job in jobs:
        folder = Path(out) / job.address
        claim(folder, job.manifest(model.name, weights, model.layers[job.address], model.inputs), WORDS)
        found[job.address] = load_renders(folder)
    return found


def render_jobs(
    model: Model,
    jobs: Sequence[RenderJob],
    out: str | os.PathLike[str],
    *,
    estimate: Plan | None = None,
    progress: bool | None = None,
) -> dict[str, str]:
    """Draws what of the jobs is missing in `out/<address>`.

    Interrupted, also by SIGKILL, the same call goes on where it was. Several processes, also on other machines, may
    draw into the same folders: each takes shares that no other one has. A layer that cannot be drawn does not stop the
    others.

    Args:
        model: from `memviz.load_model` or `memviz.wrap`.
        jobs: of `network_jobs`.
        out: the folder.
        estimate: by which progress is counted; None makes one.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        By address, why a layer could not be drawn.

    Raises:
        StoreError: `out` holds pictures of other weights or settings.
    """
    saved = claim_jobs(model, jobs, out)
    left = [job for job in jobs if saved[job.address].missing(job)]
    estimate = estimate or plan(model, left, out)
    costs = {each.address: each.seconds / each.steps for each in estimate.layers}
    painter = Painter(model)
    with show_progress("Rendering", max(1, round(estimate.seconds)), "s of work", progress) as advance:
        spent, told = 0.0, 0

        def spend(address: str, steps: int) -> None:
            nonlocal spent, told
            spent += steps * costs[address]
            advance(int(spent) - told)
            told = int(spent)

        failed = _render_shares(painter, [share for job in left for share in shares_of(job)], saved, spend)
    for job in jobs:
        if job.address not in failed:
            saved[job.address].merge(f"{model.name}  {job.address}")
    return failed


@dataclass(frozen=True)
class Painting:
    """Shares of jobs to draw, as a recipe of `memviz.work`: its workers give batch after batch, or an error."""

    paths: tuple[str, ...] = ()

    def __call__(self, model: Model) -> Callable[[Iterable[RenderJob], Advance], Iterator[Painted]]:
        """A worker that holds the model."""
        painter = Painter(model)
        return lambda shares, advance: (painted for share in shares for painted in painter.paint(share))


@dataclass(frozen=True)
class Painted:
    """A batch of pictures of a layer, with the names of their files; or why it could not be drawn."""

    address: str
    results: tuple[RenderResult, ...] = ()
    files: tuple[str, ...] = ()
    error: str = ""


def _render_shares(
    painter: Painter, shares: list[RenderJob], saved: Mapping[str, SavedRenders], spend: Spend
) -> dict[str, str]:
    """Draws shares into the folders of layers; returns when all are there, whoever drew them.

    Returns:
        By address, why a layer could not be drawn.
    """
    failed: dict[str, str] = {}
    while shares:
        taken: list[RenderJob] = []
        # A crew gets everything at once; this process takes one share after the other, so that others may take some.
        for some in [shares] if employed() else [[share] for share in shares]:
            with ExitStack() as leases:
                mine = []
                for share in some:
                    if share.address in failed:
                        continue
                    folder = saved[share.address].folder
                    if not leases.enter_context(leased(folder, f"{share.units[0]:05d}")):
                        taken.append(share)
                    # Looked up only now, when no other process can be drawing it.
                    elif units := load_renders(folder).missing(share):
                        mine.append(replace(share, units=units))
                if employed():
                    found: Generator[Painted, None, None] = work(painter.model, Painting(), mine, _quiet)
                else:
                    found = (painted for share in mine for painted in painter.paint(share, spend))
                with closing(found):
                    for painted in found:
                        if painted.error:
                            failed[painted.address] = painted.error
                            continue
                        saved[painted.address].add(painted.results, painted.files)
                        if employed():
                            spend(painted.address, sum(result.record.steps for result in painted.results))
        if taken:
            time.sleep(WAIT_SECONDS)
        shares = taken
    return failed


def _quiet(count: int = 1) -> None:
    """Tells nothing: how long a step takes depends on the layer, which a crew's counting does not know."""
