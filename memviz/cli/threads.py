"""With how many threads a command computes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "OMP_NUM_THREADS"


@contextmanager
def computing_threads(count: int | None) -> Iterator[None]:
    """Lets torch compute with `count` threads while the block runs.

    None takes what OMP_NUM_THREADS says, or else the physical cores that the process may use. torch by itself counts
    those of the machine, also where a container's quota (cgroup) gives the process fewer; its threads then wait for one
    another at each barrier.
    """
    torch, before = sys.modules.get("torch"), os.environ.get(VARIABLE)
    threads = torch.get_num_threads() if torch else None
    if count is None:
        if before:
            yield
            return
        from loky import cpu_count

        count = cpu_count(only_physical_cores=True)
        count = min(count, threads or count)
    os.environ[VARIABLE] = str(count)  # read by torch when it is imported, and by processes that are started
    try:
        if torch:
            torch.set_num_threads(count)
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        if torch:
            torch.set_num_threads(threads)
