"""What does it cost to attribute a score to the units of many layers at once?

Times, in turn on the same private copy of ResMem and the same batch of points, the bare forward and backward pass, and
`attribute`'s own with no, one, ten and all watched layers.

    uv run python experiments/benchmarks/attribution.py
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

import memviz
from memviz.explanation.attribution import _Sum, _Walker


def bare(walker: _Walker, inputs: torch.Tensor) -> None:
    """Forward and backward to the input, on the walker's network."""
    inputs = inputs.clone().requires_grad_()
    torch.autograd.grad(walker.logit(inputs).sum(), inputs)


def ours(walker: _Walker, inputs: torch.Tensor) -> None:
    sums = {address: _Sum() for address in walker._gradients.addresses}
    weights = torch.full((len(inputs),), 0.5, dtype=torch.float64)
    walker._run(inputs.clone().requires_grad_(), sums, _Sum(positions=True), weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="resmem")
    options = parser.parse_args()
    model = memviz.load_model(options.model)
    watched = [layer.address for layer in model.layers.watched()]
    chosen = {0: [], 1: watched[-1:], 10: watched[:: max(1, len(watched) // 10)][:10], len(watched): watched}
    inputs = torch.rand(options.batch, 3, *model.inputs.size, generator=torch.Generator().manual_seed(0))
    walker = _Walker(model, [], options.batch)
    seconds: dict[str, list[float]] = {}
    for number in range(options.rounds + 1):  # the first warms up
        for name, run in [("bare", bare), *((f"{count} layers", ours) for count in chosen)]:
            walker._gradients.addresses = [] if run is bare else chosen[int(name.split()[0])]
            start = time.perf_counter()
            run(walker, inputs)
            if number:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    print(f"{options.model}, {torch.get_num_threads()} threads, batch {options.batch}, medians of {options.rounds}")
    for name, found in seconds.items():
        ratios = [one / two for one, two in zip(found, seconds["bare"], strict=True)]
        print(f"{name:12} {median(found):7.2f} s {median(ratios):6.2f} x")


if __name__ == "__main__":
    main()
