"""Does the memory of a process grow with the calls it makes?

Renders, scores and queries an index of ResMem some times each, and prints the resident memory after each fifth call.
The garbage collector is switched off, so that what lives in a reference cycle is seen.

    uv run python experiments/benchmarks/memory.py PHOTOS
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import memviz
from memviz.rendering import RenderConfig

RENDERED = ["alexnet.conv4", "resnet.layer3.20"]


def resident() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def repeat(name: str, call: Callable[[int], object], calls: int) -> None:
    found = []
    for number in range(calls):
        call(number)
        if number % 5 == 4 or number == 0:
            found.append(f"{resident():.0f}")
    print(f"{name}: {', '.join(found)} MB after calls 1, 5, 10, ...", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder; its first eight photographs are used")
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.rglob("*") if path.is_file())[:8]

    gc.disable()
    model = memviz.load_model("resmem")
    print(f"ResMem loaded: {resident():.0f} MB")
    config = RenderConfig(steps=4)
    repeat("renders", lambda number: memviz.render(model, RENDERED[number % 2], [0], config=config), options.calls)
    repeat("scores", lambda number: model.score(photos), options.calls)
    with tempfile.TemporaryDirectory() as folder:
        index = memviz.build_index(model, photos, out=Path(folder) / "index", layers=RENDERED)
        repeat("queries", lambda number: index.top(f"{RENDERED[number % 2]}:{number}", 4), options.calls)


if __name__ == "__main__":
    main()
