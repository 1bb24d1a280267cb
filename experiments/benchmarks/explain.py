"""What does it cost to explain a photograph, beside the bare passes that an explanation needs?

In turn on the published ResMem, in processor time of one thread (other work on the machine then matters less): the bare
forward and backward passes of all points on the paths and of the map, and the forward passes of photograph, references
and filled pictures; and the whole explanation, which also copies the network, watches layers, and finds what matters.

    OMP_NUM_THREADS=1 uv run python experiments/benchmarks/explain.py
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

import memviz
from memviz.explanation import ExplainConfig
from memviz.explanation.choice import chosen_layers
from memviz.explanation.explainer import Explainer
from memviz.explanation.logit import Logit
from memviz.images import open_image, package_photos

BATCH = 16


def bare(logit: Logit, points: int, forward: int) -> None:
    """So many forward and backward passes, and forward passes alone, in batches as an explanation has them."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, points, BATCH):
        inputs = torch.rand(min(BATCH, points - start), 3, 227, 227, generator=generator).requires_grad_()
        torch.autograd.grad(logit(inputs).sum(), inputs)
    with torch.no_grad():
        for start in range(0, forward, BATCH):
            logit(torch.rand(min(BATCH, forward - start), 3, 227, 227, generator=generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = ExplainConfig(references=options.references, steps=options.steps, max_steps=options.steps)
    model = memviz.load_model("resmem")
    layers = chosen_layers(model, None, None, model.fingerprint())
    picture = open_image(package_photos()["chelsea"])
    logit = Logit(model)
    points = options.references * (options.steps + 1) + 1
    forward = 1 + options.references + 2 * (2 + config.controls)
    seconds: dict[str, list[float]] = {"bare": [], "explain": []}
    for _ in range(options.rounds):
        start = time.process_time()
        bare(logit, points, forward)
        seconds["bare"].append(time.process_time() - start)
        start = time.process_time()
        Explainer(model, None, layers, config, 0).explain(picture, "chelsea.png", "")
        seconds["explain"].append(time.process_time() - start)
        ratios = [one / two for one, two in zip(seconds["explain"], seconds["bare"], strict=True)]
        print(f"{points} points, {forward} forward passes, rounds so far: {len(ratios)}", flush=True)
        for name, found in seconds.items():
            print(f"{name:8} {median(found):7.2f} s", flush=True)
        print(f"ratio    {median(ratios):7.2f}", flush=True)


if __name__ == "__main__":
    main()
