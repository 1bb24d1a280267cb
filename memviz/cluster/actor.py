"""A worker's process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
import torch

from memviz.images import state


def is_there(path: str | Path) -> bool:
    """Whether this machine sees a photograph, also one in an archive."""
    try:
        state(str(path))
    except OSError:
        return False
    return True


@ray.remote
class Actor:
    """Holds a model once, and does the shards that it is given.

    Args:
        threads: that compute.
        gpu: whether the model runs on the GPU that Ray lends this process.
        path: where the process that has the work finds modules, of which the model's own may be one.
    """

    def __init__(self, threads: int, gpu: bool, path: list[str]) -> None:
        sys.path += [each for each in path if each not in sys.path]
        torch.set_num_threads(threads)
        self._device = "cuda" if gpu else "cpu"
        self._seen: str | None = None
        self._work: Any = None

    def hold(self, held: tuple[Any, Any], seen: str | None) -> None:
        """Takes the model and the recipe from the object store.

        Args:
            held: both.
            seen: a photograph that this node must see; None where there is none.
        """
        self._work, self._seen = None, seen
        self._look()
        model, recipe = held
        self._work = recipe(model.to(self._device))

    def do(self, shards: list[Any]) -> tuple[list[Any], int]:
        """The results of shards, and how much was counted meanwhile."""
        count = 0

        def advance(more: int = 1) -> None:
            nonlocal count
            count += more

        results = list(self._work(shards, advance))
        self._look()  # else photographs would be taken for unreadable that only this node does not see any more
        return results, count

    def rest(self) -> None:
        """Lets the model go."""
        self._work = None

    def _look(self) -> None:
        if self._seen is not None and not is_there(self._seen):
            raise FileNotFoundError(
                f"this node does not see {self._seen}: photographs must lie on a file system that all nodes see, under "
                "the same path"
            )
