"""Does making an index take more memory for more photographs, and when does it begin?

Makes an index of a tiny network over generated files of 8 x 8 pixels, each number of them in a process of its own, and
prints its peak memory, the seconds until the first photograph was ranked, and those of the whole. With `--list COUNT`
it instead measures, for empty files, what happens before any file is opened. Everything is removed afterwards.

    uv run python experiments/benchmarks/many.py [--counts 1000 10000 100000] [--list 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import memviz
from memviz.index import build
from memviz.index.photographs import Photographs
from memviz.models import InputSpec

A_FOLDER = 1000


def make(folder: Path, count: int, empty: bool) -> None:
    """Files in nested folders of a thousand: PPM, of which no two have the same bytes."""
    random = np.random.default_rng(0)
    for start in range(0, count, A_FOLDER):
        inside = folder / f"{start // A_FOLDER % 10}" / f"{start // A_FOLDER:04d}"
        inside.mkdir(parents=True)
        for number in range(start, min(start + A_FOLDER, count)):
            handle = os.open(f"{inside}/photograph_{number:08d}.ppm", os.O_CREAT | os.O_WRONLY)
            if not empty:
                os.write(handle, b"P6 8 8 255\n" + number.to_bytes(4) + random.bytes(188))
            os.close(handle)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def index(folder: Path, out: Path) -> dict[str, float]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
    model = memviz.wrap(network, InputSpec(size=(8, 8)), name="tiny", target="memorability")
    first: list[float] = []
    scan = build.scan

    def noted(*arguments: object) -> None:
        *given, report, batch_size, workers = arguments
        scan(*given, lambda count: (first.append(time.perf_counter()), report(count)), batch_size, workers)

    build.scan = noted
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    made = memviz.build_index(model, folder, out=out, batch_size=64, progress=False)
    return {
        "files": made.result.files,
        "MB before": round(before),
        "MB at the peak": round(peak()),
        "s to the first": round(first[0] - start, 2),
        "s in all": round(time.perf_counter() - start, 1),
        "s of a processor": round(time.process_time() - cpu, 1),
    }


def begin(folder: Path) -> dict[str, float]:
    start, cpu, before = time.perf_counter(), time.process_time(), peak()
    photographs = Photographs.find(folder)
    listed, listed_cpu = time.perf_counter() - start, time.process_time() - cpu
    photographs.fingerprint()
    return {
        "files": len(photographs.paths),
        "s to list": round(listed, 2),
        "of a processor": round(listed_cpu, 2),
        "s with the fingerprint": round(time.perf_counter() - start, 2),
        "of a processor, too": round(time.process_time() - cpu, 2),
        "MB more": round(peak() - before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--list", type=int, help="only list so many empty files")
    parser.add_argument("--scratch", type=Path, help="folder for the files; the system's by default")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        photos = options.one / "photos"
        print(json.dumps(begin(photos) if options.list else index(photos, options.one / "index")))
        return
    rows = []
    for count in [options.list] if options.list else options.counts:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            make(Path(folder) / "photos", count, empty=bool(options.list))
            command = [sys.executable, __file__, "--one", folder, *(["--list", "1"] if options.list else [])]
            rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
            print(rows[-1], file=sys.stderr, flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    for one, other in pairwise(rows if not options.list else []):
        grown = (other["MB at the peak"] - one["MB at the peak"]) * 1e6 / (other["files"] - one["files"])
        print(f"{one['files']:,} to {other['files']:,} files: {grown:,.0f} bytes a photograph")


if __name__ == "__main__":
    main()
