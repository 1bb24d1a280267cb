"""What a cluster costs and brings: an index without Ray, on one node of one core, and on two, in turns.

    uv run python experiments/cluster/measure.py PHOTOGRAPHS --count 448 --turns 5

All three must be the same, byte for byte. The nodes are those of `ray.cluster_utils.Cluster`, on this machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

# Read when Ray is imported.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

import ray
import torch
from ray.cluster_utils import Cluster

import memviz
from memviz.cluster.crew import RayCrew
from memviz.images import list_images
from memviz.index.scanner import Scan
from memviz.work import employing

FILES = ("images.parquet", "top.parquet", "stats.parquet")


class Some(RayCrew):
    """A crew that can be sent to one of its nodes alone; the others' workers wait."""

    def __init__(self) -> None:
        super().__init__("cpu", threads=1)
        self.only: str | None = None
        self.aside: dict[str, list] = {}

    def choose(self, only: str | None) -> None:
        self.only = only
        self.places |= self.aside
        self.aside = {name: self.places.pop(name) for name in [*self.places] if only not in (None, name)}

    def places_of(self, node: dict) -> list:
        return [] if self.only not in (None, node["NodeID"]) else super().places_of(node)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", default="memnet")
    parser.add_argument("--count", type=int, default=448)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = "published" if options.model == "resmem" else None
    model = memviz.load_model(options.model, weights=weights)
    photographs = list_images(options.photographs)[: options.count]

    began = time.perf_counter()
    cluster = Cluster()
    for cores in (0, 1, 1):
        cluster.add_node(num_cpus=cores, object_store_memory=2**30, include_dashboard=False, wait=False)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    print(f"three nodes are up after {time.perf_counter() - began:.1f} s")
    crew = Some()
    one = cluster.worker_nodes.copy().pop().node_id
    seconds: dict[str, list[float]] = {"without Ray": [], "one node": [], "two nodes": []}
    ways = dict(zip(seconds, ((None, None), (crew, one), (crew, None)), strict=True))
    with tempfile.TemporaryDirectory() as folder:

        def build(name: str, count: int, out: Path) -> float:
            chosen, only = ways[name]
            crew.choose(only)
            start = time.perf_counter()
            with employing(chosen):
                memviz.build_index(model, photographs[:count], out=out, workers=1, progress=False)
            return time.perf_counter() - start

        print(f"workers' start and a first index of 128: {build('two nodes', 128, Path(folder, 'first')):.1f} s")
        for turn in range(options.turns):
            outs = {name: Path(folder, f"{turn}-{place}") for place, name in enumerate(seconds)}
            for name in [*seconds][turn % 3 :] + [*seconds][: turn % 3]:
                seconds[name].append(build(name, len(photographs), outs[name]))
            first, *others = outs.values()
            assert all((first / file).read_bytes() == (out / file).read_bytes() for file in FILES for out in others)
            print("  ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()), flush=True)
    base = seconds["without Ray"]
    for name, values in seconds.items():
        ratio = statistics.median(other / value for other, value in zip(base, values, strict=True))
        print(f"{name}: median {statistics.median(values):.2f} s; without Ray / this, median of turns {ratio:.3f}")
    layers = memviz.load_model("resmem").layers.watched()
    states = [Scan(list(layers), 16, {}).nothing() for _ in range(2)]
    for place, state in enumerate(states):
        units = state.ranking.units
        numbers = torch.arange(64) + 64 * place
        state.ranking.update(torch.rand(64, units), torch.zeros(64, units, dtype=torch.int32), numbers)
        state.ranking.flush()
    start = time.perf_counter()
    states[0].merge(states[1])
    print(f"a result of the whole resmem ({units} units) is merged in {time.perf_counter() - start:.2f} s")
    crew.close()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
