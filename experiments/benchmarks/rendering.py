"""Times torch-lucent's `render_vis` and memviz on the same units of the same weights, in one run.

    uv run python experiments/benchmarks/rendering.py

Writes a table for this folder's README to standard output. Lucent draws `--units` units a layer, one
after the other, as it does; memviz draws 16 together, those among them, as a user would. Each
picture is judged on the plain network at 227 px, the network's input: lucent's as it is, since it
runs the whole network, memviz's 128 px repeated.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
import warnings
from importlib import metadata
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

import memviz
from memviz.layers import ChannelsLast, private_copy, truncate
from memviz.rendering import RenderConfig, ascent, objectives
from memviz.rendering.engine import Engine
from memviz.rendering.measure import as_inputs

LAYERS = ("alexnet.conv4", "resnet.layer2.3", "resnet.layer3.20")
TOGETHER = 16
LUCENT_SIZE = 227


def reached(module: torch.nn.Module, layer: str, unit: int, picture: Tensor) -> tuple[float, float]:
    """Mean over positions and peak of a unit's activation on a picture (3, H, W)."""
    with torch.no_grad():
        maps = truncate(module, [layer])(picture[None])[layer][0, unit]
    return maps.mean().item(), maps.max().item()


def draw_with_lucent(module: torch.nn.Module, layer: str, unit: int, steps: int) -> tuple[float, Tensor]:
    """Seconds and picture (3, 227, 227), on a fresh copy since lucent leaves its hooks behind."""
    from lucent.optvis import objectives as lucent_objectives
    from lucent.optvis import render as lucent_render

    fresh = copy.deepcopy(module)
    start = time.perf_counter()
    picture = lucent_render.render_vis(
        fresh,
        lucent_objectives.channel(layer.replace(".", "_"), unit),
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=LUCENT_SIZE,
    )[0]
    seconds = time.perf_counter() - start
    picture = torch.from_numpy(picture).permute(0, 3, 1, 2)
    size = (LUCENT_SIZE, LUCENT_SIZE)
    picture = torch.nn.functional.interpolate(picture, size=size, mode="bilinear", align_corners=True)
    return seconds, picture[0]


def step_over_bare(model: memviz.Model, layer: str, units: list[int], steps: int) -> list[float]:
    """Median seconds, taken in turns, of an engine step at 128 px and of bare forward and backward passes.

    The bare passes are of the truncated network as the model has it, and of the engine's own copy, in
    which batch norms are folded and the local response normalization is quicker.
    """
    wanted = [objectives.Excitation(layer, unit) for unit in units]
    engine = Engine(model, wanted, RenderConfig(steps=steps, refinement=None))
    networks = (ChannelsLast(truncate(private_copy(model.module), [layer])), engine._network.plain)
    picture = torch.rand(len(units), 3, *engine.size).contiguous(memory_format=torch.channels_last).requires_grad_()
    rows = torch.arange(len(units))
    times: list[list[float]] = [[], [], []]

    def after_a_step(count: int = 1) -> None:
        nonlocal start
        times[0].append(time.perf_counter() - start)
        for network, found in zip(networks, times[1:], strict=True):
            start = time.perf_counter()
            torch.autograd.grad(network(picture)[layer][rows, units].mean(), picture)
            found.append(time.perf_counter() - start)
        start = time.perf_counter()

    start = time.perf_counter()
    with mock.patch.object(ascent, "GAIN", -1.0):  # nobody leaves
        engine._optimize(wanted, after_a_step)
    # The first steps also look for units that no gradient reaches.
    return [statistics.median(found[ascent.PATIENCE :]) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--units", type=int, default=2, help="units a layer that lucent draws")
    parser.add_argument("--lucent-steps", type=int, default=512, help="lucent's own default is 512; 0 leaves it out")
    parser.add_argument("--steps", type=int, default=RenderConfig().steps, help="of memviz")
    parser.add_argument("--turns", type=int, default=64, help="steps for the comparison with the bare pass")
    arguments = parser.parse_args()
    # Lucent 0.1.8 hands kornia and torch what they have since deprecated.
    warnings.simplefilter("ignore")
    model = memviz.load_model("resmem")
    drawn, steps = [], []
    for layer in arguments.layers:
        start = time.perf_counter()
        images, table = memviz.render(model, layer, range(TOGETHER), config=RenderConfig(steps=arguments.steps))
        ours = (time.perf_counter() - start) / TOGETHER
        for unit in range(arguments.units):
            mean, peak = reached(model.module, layer, unit, as_inputs(images[unit][None], model.inputs)[0])
            row = f"| {layer}:{unit} | {ours:.2f} | {mean:.4f} | {peak:.4f} |"
            if arguments.lucent_steps:
                seconds, picture = draw_with_lucent(model.module, layer, unit, arguments.lucent_steps)
                lucent_mean, lucent_peak = reached(model.module, layer, unit, picture)
                row += f" {seconds:.1f} | {lucent_mean:.4f} | {lucent_peak:.4f} | {seconds / ours:.0f}x |"
            drawn.append(row)
            print(row, flush=True)
        live = table["unit"][table["state"] == "ok"].tolist()
        medians = step_over_bare(model, layer, live, arguments.turns)
        engine, bare, own = (1000 * seconds / len(live) for seconds in medians)
        steps.append(f"| {layer} | {engine:.2f} | {bare:.2f} | {engine / bare:.2f} | {own:.2f} | {engine / own:.2f} |")
        print(steps[-1], flush=True)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("memviz", "torch", "torch-lucent"))
    cpu = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    machine = f"{cpu[0] if cpu else platform.processor()}, {torch.get_num_threads()} threads, {platform.system()}"
    print(f"\n{machine}; Python {platform.python_version()}, {versions}.")
    print(f"memviz {arguments.steps} steps at 128 px, the last of them as if repeated without end;", end=" ")
    print(f"lucent {arguments.lucent_steps} at {LUCENT_SIZE} px.\n")
    print("| unit | memviz s | mean | peak | lucent s | mean | peak | faster |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(drawn))
    print(f"\n| layer, up to {TOGETHER} units, ms a unit | engine step | bare | ratio | bare, engine's copy | ratio |")
    print("|---|---|---|---|---|---|")
    print("\n".join(steps))


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
