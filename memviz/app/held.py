"""The photographs that visitors gave, and what is known of them: in memory, bounded, and forgotten."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from memviz.app.config import AppConfig
from memviz.explanation.record import Explanation

State = Literal["waiting", "scored", "unreadable", "queued", "explaining", "explained", "cancelled", "failed"]
WORKING = ("waiting", "queued", "explaining")


class RefusedError(Exception):
    """What is asked for is more than the application can hold.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class Photograph:
    """One photograph that somebody gave.

    Attributes:
        name: of the file, only to be shown.
        content: of the file; empty once nothing needs it any more.
        client: who gave it, an address.
        wanted: whether it is to be explained as soon as it is scored.
        state: what is done with it.
        reason: why it is unreadable, or has failed.
        kind: whether it is unreadable since it is no picture ("format") or a damaged one ("content").
        score, percentile, ranked: of the photograph, once it is scored.
        small: a JPEG of it.
        done, passes: of the network, while it is being explained; `started` when that began, by `time.monotonic`.
        explanation: once it is explained, without its pictures: `seen` is a JPEG of what the network sees, `map` a PNG.
        version: changes whenever something else does.
    """

    name: str
    content: bytes
    client: str
    wanted: bool = False
    state: State = "waiting"
    reason: str = ""
    kind: str = ""
    score: float | None = None
    percentile: float | None = None
    ranked: int = 0
    small: bytes = b""
    done: int = 0
    passes: int = 0
    started: float = 0.0
    explanation: Explanation | None = None
    seen: bytes = b""
    map: bytes = b""
    version: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.content) + len(self.small) + len(self.seen) + len(self.map)

    @property
    def working(self) -> bool:
        """Whether something is still to be done with it."""
        return self.state in WORKING

    def change(self, state: State, reason: str = "") -> None:
        """Another state."""
        self.state, self.reason = state, reason
        self.version += 1

    @property
    def left(self) -> float | None:
        """Seconds until it is explained; None where that cannot be told yet."""
        if self.state != "explaining" or not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * max(self.passes - self.done, 0)


@dataclass(eq=False)
class Batch:
    """The photographs that one page shows.

    Attributes:
        name: that nobody can guess.
        photographs: in the order given.
        watchers: pages that are open and listen; `seen` when one was seen last, by `time.monotonic`.
    """

    name: str
    photographs: list[Photograph] = field(default_factory=list)
    watchers: int = 0
    seen: float = field(default_factory=time.monotonic)

    def idle(self, now: float) -> float:
        """Seconds since somebody looked."""
        return 0.0 if self.watchers else now - self.seen

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody looks while the block runs."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1
            self.seen = time.monotonic()


class Held:
    """All photographs, by batch; safe for several threads.

    Args:
        config: how much may be held.

    Attributes:
        closing: whether the application is being stopped, so that nobody shall wait any longer.
    """

    def __init__(self, config: AppConfig) -> None:
        self.closing = False
        self._config = config
        self._batches: dict[str, Batch] = {}
        self._lock = threading.Lock()

    def add(self, photographs: Iterable[Photograph], batch: str | None = None) -> Batch:
        """Holds more photographs, in a batch that is there, or a new one.

        Raises:
            RefusedError: 429 where the client has too many already, 503 where there is no room, 404 without the batch.
        """
        new = list(photographs)
        with self._lock:
            own = Batch(secrets.token_urlsafe(16)) if batch is None else self._batches.get(batch)
            if own is None:
                raise RefusedError(404, "These photographs are forgotten already. Give them again.")
            working = Counter(each.client for each in self._all() if each.working)
            for each in new:
                if working[each.client] + len(new) > self._config.per_client:
                    raise RefusedError(
                        429,
                        f"{working[each.client]} of your photographs are still worked on, of at most "
                        f"{self._config.per_client}. Wait until some are finished.",
                    )
            self._make_room(sum(each.size for each in new))
            own.photographs += new
            own.seen = time.monotonic()
            self._batches[own.name] = own
        return own

    def get(self, name: str) -> Batch:
        """A batch that somebody looks at.

        Raises:
            RefusedError: 404, it was forgotten, or there never was one.
        """
        with self._lock:
            batch = self._batches.get(name)
        if batch is None:
            raise RefusedError(404, "There is no such page. Photographs are forgotten some minutes after it is closed.")
        batch.seen = time.monotonic()
        return batch

    def forget(self, name: str) -> list[Photograph]:
        """Lets a batch go; gives its photographs, whose work is to be cancelled."""
        with self._lock:
            batch = self._batches.pop(name, None)
        return batch.photographs if batch else []

    def abandoned(self) -> list[Photograph]:
        """Forgets what nobody has looked at for long; gives the photographs of closed pages that are worked on."""
        now = time.monotonic()
        with self._lock:
            old = [name for name, each in self._batches.items() if each.idle(now) > self._config.kept_seconds]
            gone = [photograph for name in old for photograph in self._batches.pop(name).photographs]
            closed = [each for each in self._batches.values() if each.idle(now) > self._config.grace_seconds]
        return [each for each in (*gone, *(each for batch in closed for each in batch.photographs)) if each.working]

    @property
    def size(self) -> int:
        """Bytes that are held."""
        with self._lock:
            return sum(each.size for each in self._all())

    def _all(self) -> list[Photograph]:
        return [each for batch in self._batches.values() for each in batch.photographs]

    def _make_room(self, size: int) -> None:
        """Forgets finished photographs of closed pages, the oldest first, until there is room."""
        now = time.monotonic()
        taken = sum(each.size for each in self._all())
        closed = [batch for batch in self._batches.values() if batch.idle(now) > self._config.grace_seconds]
        for batch in sorted(closed, key=lambda each: each.seen):
            if taken + size <= self._config.held:
                break
            if not any(each.working for each in batch.photographs):
                taken -= sum(each.size for each in batch.photographs)
                del self._batches[batch.name]
        if taken + size > self._config.held:
            raise RefusedError(503, "The memory for photographs is full. Try again in a minute.")
