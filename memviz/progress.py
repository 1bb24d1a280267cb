"""Progress of long work: a live bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_SECONDS = 20.0


class Advance(Protocol):
    """Tells that `count` more items are done."""

    def __call__(self, count: int = 1) -> None:
        """Counts them."""


@contextmanager
def progress(label: str, total: int, unit: str, show: bool | None = None) -> Iterator[Advance]:
    """Shows rate and time left on stderr while the block runs.

    `show=None` shows it on a terminal and in a notebook and is silent elsewhere; `True` also
    writes a line every 20 seconds to a log file (as on a Slurm cluster); `False` is silent.

    >>> with progress("score", total=2, unit="images", show=False) as advance:
    ...     advance()
    ...     advance()
    """
    # rich draws from Python's random generator while it is imported.
    state = random.getstate()
    from rich.console import Console

    random.setstate(state)
    console = Console(stderr=True)
    if show is False or total == 0 or (show is None and not (console.is_terminal or console.is_jupyter)):
        yield lambda count=1: None
    elif console.is_terminal or console.is_jupyter:
        with _bar(console, label, total, unit) as advance:
            yield advance
    else:
        yield _Lines(label, total, unit)


@contextmanager
def _bar(console: object, label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g} {unit}/s" if speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:  # type: ignore[arg-type]
        task = bar.add_task(label, total=total)
        yield lambda count=1: bar.advance(task, count)


class _Lines:
    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.start = 0, time.monotonic()
        self.last = self.start

    def __call__(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last < LINE_EVERY_SECONDS and self.done < self.total:
            return
        self.last = now
        rate = self.done / max(now - self.start, 1e-9)
        left = int((self.total - self.done) / rate) if rate else 0
        message = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g}/s, {left // 60}:{left % 60:02d} left"
        print(message, file=sys.stderr, flush=True)
