"""What does watching every convolution and residual block of ResMem cost?

Times, in turn on the same private copy and the same batch, the bare forward pass and the pass that an index
makes: hooks that take spatial maxima, and the ranking of all units, its share of the merges included.

    uv run python experiments/benchmarks/watching.py
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from statistics import median

import torch

import memviz
from memviz.index.scan import Maxima
from memviz.index.topk import BUFFER, TopK
from memviz.layers import ChannelsLast, observe, private_copy

Seconds = tuple[float, float]  # by the clock, and of all the process's threads


def machine() -> str:
    """The processor's name, threads and versions, in a line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, memviz {memviz.__version__}"
    return f"{cpu}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; {versions}"


def now() -> Seconds:
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resmem")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=150, help="stop earlier after so many")
    options = parser.parse_args()

    model = memviz.load_model(options.model)
    layers = list(model.layers.watched())
    units = sum(layer.channels for layer in layers)
    private = private_copy(model.module)
    network = ChannelsLast(private)
    pictures = torch.rand(options.batch, 3, *model.inputs.size, generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(memory_format=torch.channels_last)
    maxima = Maxima(layers, model.inputs.size, options.batch, torch.device("cpu"))
    numbers = torch.arange(options.batch)

    def bare() -> Seconds:
        start = now()
        network(pictures)
        return since(start)

    def watched() -> Seconds:
        start = now()
        with observe(private, maxima.callbacks()):
            maxima.values.fill_(torch.nan)
            network(pictures)
            maxima.check([Path()] * options.batch)
        return since(start)

    def ranked() -> Seconds:
        """Ranking a full buffer, brought down to one batch."""
        state = TopK(units, 16)
        for _ in range(2):  # the second meets sixteen images that are already ranked
            start = now()
            for first in range(0, BUFFER, options.batch):
                state.update(maxima.values, maxima.positions, numbers + first)
            state.flush()
        wall, cpu = since(start)
        return wall * options.batch / BUFFER, cpu * options.batch / BUFFER

    print(machine())
    print(f"{model.name}: {len(layers)} layers, {units:,} units; batch {options.batch}, {model.inputs.size} px")
    times: dict[str, list[Seconds]] = {"bare": [], "watched": [], "ranked": []}
    began = time.perf_counter()
    with torch.inference_mode():
        bare(), watched(), ranked()
        for _ in range(options.rounds):
            for name, measure in (("bare", bare), ("watched", watched), ("ranked", ranked)):
                times[name].append(measure())
            if time.perf_counter() - began > options.seconds:
                break
    print("milliseconds an image: median (fastest)")
    for column, label in enumerate(("clock", "processor")):
        each = {name: [1000 * value[column] / options.batch for value in values] for name, values in times.items()}
        shown = ", ".join(f"{name} {median(values):.2f} ({min(values):.2f})" for name, values in each.items())
        hooks, whole = (
            [pick(each["watched"]) + extra * pick(each["ranked"]) for pick in (median, min)] for extra in (0, 1)
        )
        base = [median(each["bare"]), min(each["bare"])]
        ratios = [f"{value / by:.3f}" for value, by in zip(whole + hooks, base * 2, strict=True)]
        print(f"{label:9} {shown}")
        print(f"{'':9} ratio of medians {ratios[0]} (goal 1.15), of fastest {ratios[1]};", end=" ")
        print(f"hooks alone {ratios[2]}, {ratios[3]}; {len(times['bare'])} rounds")


if __name__ == "__main__":
    main()
