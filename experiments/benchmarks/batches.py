"""What pictures that leave their batch early cost: would it pay to move others up into their places?

    uv run python experiments/benchmarks/batches.py

Writes a table for this folder's README to standard output. Draws the first units of a layer together, as a user would,
and counts the pictures in each pass; then times steps of smaller batches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from unittest import mock

import torch

import memviz
from memviz.rendering import RenderConfig, ascent, objectives
from memviz.rendering.engine import Engine
from memviz.rendering.prepared import Prepared

LAYERS = ("alexnet.conv1", "alexnet.conv4", "resnet.layer1.1", "resnet.layer2.3", "resnet.layer3.20")
SIZES = (1, 2, 4, 8, 16)


def passes(engine: Engine, wanted: list[objectives.Excitation]) -> Counter[int]:
    """How many passes had how many pictures."""
    found: Counter[int] = Counter()
    run = Prepared._run

    def counted(self: Prepared, pictures: torch.Tensor, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        if torch.is_grad_enabled():
            found[len(pictures)] += 1
        return run(self, pictures, network)

    with mock.patch.object(Prepared, "_run", counted):
        engine.draw(wanted)
    return found


def step(engine: Engine, wanted: list[objectives.Excitation]) -> float:
    """CPU seconds of a step of each picture, at the mean of the first and the last steps."""
    with mock.patch.object(ascent, "GAIN", -1.0):  # nobody leaves
        start = time.process_time()
        engine._optimize(wanted, lambda count=1: None)
    return (time.process_time() - start) / len(wanted) / engine.config.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    model = memviz.load_model("resmem")
    sizes = " | ".join(map(str, SIZES))
    print(f"| layer | steps taken | CPU ms a picture and step, of {sizes} pictures | more than full batches |")
    print("|" + "---|" * (len(SIZES) + 3), flush=True)
    for layer in arguments.layers:
        wanted = [objectives.Excitation(layer, unit) for unit in range(max(SIZES))]
        config = RenderConfig()
        found = passes(Engine(model, wanted, config), wanted)
        taken = sum(size * count for size, count in found.items()) / (len(wanted) * config.steps)
        engine = Engine(model, wanted, RenderConfig(steps=6))
        turns: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(arguments.turns):
            for size in SIZES:
                turns[size].append(step(engine, wanted[:size]))
        cost = {size: statistics.median(each) for size, each in turns.items()}
        # A batch costs as the next larger one that was timed.
        spent = sum(size * count * cost[min(each for each in SIZES if each >= size)] for size, count in found.items())
        full = sum(size * count for size, count in found.items()) * cost[max(SIZES)]
        row = " | ".join(f"{1000 * cost[size]:.2f}" for size in SIZES)
        print(f"| {layer} | {taken:.0%} | {row} | {spent / full - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
