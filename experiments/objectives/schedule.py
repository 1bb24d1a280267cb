"""Do default pictures show what their units want most, and what do they cost?

    uv run memviz index resmem PHOTOS --out runs/photos
    uv run python experiments/objectives/schedule.py --index runs/photos --out experiments/objectives/schedule.jpg

Renders the first units of layers of the published ResMem twice: with today's defaults, and as memviz did before, in
256 steps for the mean alone with learning rate 0.05 and a jitter of 8 px (before, it also mirrored pictures at their
edges, and took the mean over all positions). Prints, for each layer: how many pictures of live units beat the best
photograph of the index (peak, like with like), the median ratio; for first convolutions, whose best patch is known, the
median share of it; the mean activation of a picture as a multiple of before, and the time. With --steps, also which
ratio so many steps reach, in which share of the time of before. A unit is live if the best photograph excites it above
1e-6. Saves the pictures side by side.
"""

from __future__ import annotations

import argparse
import math
import time
from unittest import mock

import numpy as np
import torch

import memviz
from memviz.rendering import RandomTransforms, RenderConfig, ascent
from memviz.rendering.sheet import contact_sheet

LAYERS = (
    "alexnet.conv1", "alexnet.conv2", "alexnet.conv4", "alexnet.conv5", "resnet.conv1", "resnet.layer1.2",
    "resnet.layer2.3.conv2", "resnet.layer2.3", "resnet.layer3.20",
)  # fmt: skip
BEFORE = RenderConfig(steps=256, learning_rate=0.05, transforms=RandomTransforms(jitter=8), refinement=None)
SHOWN = 8


def known_optimum(module: torch.nn.Conv2d) -> np.ndarray:
    """The largest activation that a patch in [0, 1] can cause: the sum of positive weights, and the bias."""
    best = module.weight.detach().clamp(min=0).sum((1, 2, 3))
    return (best if module.bias is None else best + module.bias.detach()).numpy()


def timed(model: memviz.Model, layer: str, units: list[int], config: RenderConfig) -> tuple[memviz.Renders, float]:
    """The renders, and the processor's seconds for each; the machine may be shared."""
    start = time.process_time()
    renders = memviz.render(model, layer, units, config=config)
    return renders, (time.process_time() - start) / len(units)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--out", required=True, help="the pictures side by side")
    parser.add_argument("--units", type=int, default=32, help="of each layer, with today's defaults")
    parser.add_argument("--before", type=int, default=8, help="of each layer, as before")
    parser.add_argument("--steps", nargs="+", type=int, default=[], help="others, of the units as before")
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    arguments = parser.parse_args()
    model, index = memviz.load_model("resmem"), memviz.load_index(arguments.index)
    print("| layer | beat the best photograph | ratio, before | of the optimum, before | mean / before | s, before |")
    print("|---|---|---|---|---|---|")
    pictures, labels, shown = [], [], min(SHOWN, arguments.units, arguments.before)
    for layer in arguments.layers:
        units = list(range(min(arguments.units, model.layers[layer].channels)))
        now, seconds = timed(model, layer, units, RenderConfig())
        with mock.patch.object(ascent, "GAIN", -math.inf):
            before, seconds_before = timed(model, layer, units[: arguments.before], BEFORE)
        top = index.layer(layer)
        best = np.array([top.top(unit, 1)["value"].iloc[0] for unit in units])
        peaks, peaks_before = now.table["peak"].to_numpy(), before.table["peak"].to_numpy()
        live, few = best > 1e-6, slice(arguments.before)
        ratio, ratio_before = np.median((peaks / best)[live]), np.median((peaks_before / best[few])[live[few]])
        shares = ""
        if layer in ("alexnet.conv1", "resnet.conv1"):
            optimum = known_optimum(model.module.get_submodule(layer))[: len(units)]
            able, few_able = optimum > 1e-3, optimum[few] > 1e-3
            share, share_before = peaks[able] / optimum[able], peaks_before[few_able] / optimum[few][few_able]
            shares = f"{np.median(share):.3f}, {np.median(share_before):.3f}"
        means = now.table["mean"].to_numpy()[few] / before.table["mean"].to_numpy()
        wins = f"{int((peaks > best)[live].sum())} of {live.sum()}"
        print(
            f"| {layer} | {wins} | {ratio:.2f}, {ratio_before:.2f} | {shares} "
            f"| {np.median(means[live[few]]):.2f} | {seconds:.2f}, {seconds_before:.2f} |",
            flush=True,
        )
        for steps in arguments.steps:
            fewer, seconds = timed(model, layer, units[: arguments.before], RenderConfig(steps=steps))
            ratio = np.median((fewer.table["peak"].to_numpy() / best[few])[live[few]])
            print(f"    {layer}, {steps} steps: {ratio:.2f}, {seconds / seconds_before:.0%}", flush=True)
        for name, renders in (("before", before), ("now", now)):
            pictures += renders.pil()[:shown]
            labels += [f"{layer}:{unit} {name}" for unit in units[:shown]]
    sheet = contact_sheet(pictures, labels, "As before, and below as now", columns=shown)
    sheet.convert("RGB").save(arguments.out, quality=85)


if __name__ == "__main__":
    main()
