"""Long work that is cut into shards: done here, or by a crew that offers to, as that of `memviz.cluster`.

Whoever has such work says it in two parts. A **recipe** is a small value that can be sent to another machine; from a
model it makes a **worker**, which holds the network once and turns shards into results. The results come back here, in
any order, where they are written and merged by the one process that holds the result's lock: ::

    with closing(work(model, recipe, shards, advance)) as results:
        for result in results:
            ...  # merge, save

Results must not depend on who made them, nor on which shards one worker was given together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TypeVar

from memviz.progress import Advance

Model = TypeVar("Model")
Shard = TypeVar("Shard")
Result = TypeVar("Result")
M = TypeVar("M", contravariant=True)
S = TypeVar("S", contravariant=True)
R = TypeVar("R", covariant=True)
Worker = Callable[[Iterable[Shard], Advance], Iterator[Result]]
"""Does shards in their order, counts what is done, and gives results: one or more for each, or for several together."""


class Recipe(Protocol[M, S, R]):
    """What makes a worker of a model; it can be pickled."""

    @property
    def paths(self) -> Sequence[str | Path]:
        """Photographs that each worker must see."""

    def __call__(self, model: M, /) -> Worker[S, R]:
        """A worker that holds the model."""


class Crew(Protocol):
    """Workers in other processes. What a failed one had in hand others do again; no result is given twice."""

    def __call__(
        self, model: Any, recipe: Recipe[Any, Any, Any], shards: Sequence[Any], advance: Advance
    ) -> Generator[Any, None, None]:
        """The results of all shards, as they come."""


_CREW: ContextVar[Crew | None] = ContextVar("crew", default=None)


@contextmanager
def employing(crew: Crew | None) -> Iterator[None]:
    """Lets a crew do the work of what is called in the block; None does it in this process."""
    token = _CREW.set(crew)
    try:
        yield
    finally:
        _CREW.reset(token)


def employed() -> bool:
    """Whether a crew does the work."""
    return _CREW.get() is not None


def work(
    model: Model, recipe: Recipe[Model, Shard, Result], shards: Sequence[Shard], advance: Advance
) -> Generator[Result, None, None]:
    """The results of all shards as they come: of this process one after the other, of a crew in any order.

    Args:
        model: what workers hold.
        recipe: what makes workers.
        shards: small values; neighbours may be given to one worker together.
        advance: is told what is done.

    Example:
        >>> class Doubling:
        ...     paths = ()
        ...
        ...     def __call__(self, factor):
        ...         return lambda shards, advance: (factor * shard for shard in shards)
        >>> list(work(2, Doubling(), [1, 2, 3], advance=lambda count=1: None))
        [2, 4, 6]
    """
    crew: Any = _CREW.get()
    if not shards:
        return
    yield from recipe(model)(shards, advance) if crew is None else crew(model, recipe, shards, advance)
