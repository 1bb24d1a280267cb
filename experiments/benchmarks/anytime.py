"""Activation against seconds: memviz, torch-lucent and dreamlens on the same units of the same weights, in one run.

    uv run --with dreamlens==0.1.1 python experiments/benchmarks/anytime.py --threads 2 --out runs/anytime

Every picture, whoever drew it, is measured as memviz measures its own: 8 bits, as a photograph, on the plain network,
mean and peak over interior positions; of a peer's picture, what serves it best of several ways to show it and of its
snapshots. memviz draws the units anew with each number of steps. Its seconds are those of a picture among them, without
what is paid once a layer (copying, tracing and folding the network), which is given apart.

A peer's pictures are drawn on the network up to the layer, since its own steps would take hours, and kept in
`peers.json`. Its seconds are the median of some of its steps on the whole network, which it runs at each, taken in
turns with memviz's runs, times their number; `--timed 511 --turns 1` times all of lucent's. Writes `anytime.json`,
`.png` and `.pdf`, and prints tables.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import memviz
from experiments.benchmarks.peers import Peer, Seconds, UpTo, peers, time_steps, to_bytes
from memviz.evaluation.plots import make_style, save
from memviz.files import replacing
from memviz.layers import ChannelsLast, private_copy, truncate
from memviz.layers.unit import Unit
from memviz.rendering import RenderConfig
from memviz.rendering.engine import Engine
from memviz.rendering.measure import measure

LAYERS = (
    "alexnet.conv2", "alexnet.conv4", "alexnet.conv5", "resnet.layer1.1", "resnet.layer2.3", "resnet.layer3.20"
)  # fmt: skip
STEPS = (4, 8, 16, 32, 54, 128, 256, 512, 1024)
STATISTICS = ("mean", "peak")
# Times quicker, from the issue that asked for this.
GOALS = {"alexnet.conv4": 200, "resnet.layer2.3": 100, "resnet.layer3.20": 60}
GOAL_OF = {"torch-lucent": GOALS, "dreamlens": dict.fromkeys(GOALS, 8)}
COLOURS = {"memviz": "#1f77b4", "torch-lucent": "#ff7f0e", "dreamlens": "#2ca02c"}

Curve = Sequence[tuple[float, float]]


def reach(curve: Curve, level: float) -> float | None:
    """The seconds at which a curve of (seconds, activation) first reaches a level, straight between its points.

    None if it never does; nothing is assumed before its first point.
    """
    before: tuple[float, float] | None = None
    for seconds, value in curve:
        if value >= level:
            if before is None:
                return seconds
            return before[0] + (seconds - before[0]) * (level - before[1]) / (value - before[1])
        before = seconds, value
    return None


def quicker(peer: Curve, ours: Curve, extra: float = 0) -> float:
    """By how much sooner we reach what a peer reaches at best, with some seconds added to ours; 0 if never."""
    level = max(value for _, value in peer)
    theirs, own = reach(peer, level), reach(ours, level)
    return theirs / (own + extra) if own is not None and theirs is not None else 0.0


def read(network: nn.Module, model: memviz.Model, layer: str, shown: Sequence[Sequence[Tensor]], units: Sequence[int]):
    """Of each unit, mean and peak, each the best over the ways (3, H, W) uint8 in which its picture is shown."""
    found = []
    for ways, unit in zip(shown, units, strict=True):
        readings = measure(network, model, ways, [Unit(layer, unit)] * len(ways))
        found.append({name: max(getattr(each, name) for each in readings) for name in STATISTICS})
    return found


@contextmanager
def drawing() -> Iterator[list[Seconds]]:
    """Seconds of each batch that the engine draws; the rest of a call of `memviz.render` is paid once a layer."""
    found, draw = [], Engine.draw

    def timed(*arguments: Any) -> Any:
        start = Seconds.now()
        results = draw(*arguments)
        found.append(Seconds.now() - start)
        return results

    with mock.patch.object(Engine, "draw", timed):
        yield found


def draw(model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int], steps: int) -> dict[str, Any]:
    """One run of memviz: seconds in all and a picture, and what the units make of their pictures."""
    start = Seconds.now()
    with drawing() as batches:
        renders = memviz.render(model, layer, units, config=RenderConfig(steps=steps), progress=False)
    whole = Seconds.now() - start
    drawn = {clock: sum(getattr(each, clock) for each in batches) for clock in ("wall", "cpu")}
    return {
        "steps": steps,
        "setup": {clock: getattr(whole, clock) - seconds for clock, seconds in drawn.items()},
        "seconds": {clock: seconds / len(units) for clock, seconds in drawn.items()},
        "units": read(network, model, layer, [[to_bytes(each)] for each in renders.images], units),
    }


def snapshots(peer: Peer, model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int]) -> dict[str, Any]:
    """What a peer's pictures of some units reach, after each of its snapshots' steps."""
    drawn = peer.draw(UpTo(model.module, layer), "map", units, peer.snapshots)
    return {
        "steps": peer.snapshots,
        "units": [
            read(network, model, layer, [peer.photographs(p, model.inputs) for p in each], units) for each in drawn
        ],
    }


def reached(peer: Peer, model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int], file: Path) -> Any:
    """`snapshots` of each unit from a file, and into it; lucent draws one unit after the other, dreamlens together."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    groups = [[unit] for unit in units] if peer.name == "torch-lucent" else [list(units)]
    for group in groups:
        key = f"{peer.name} {metadata.version(peer.name)} {layer}:{','.join(map(str, group))}"
        if key not in kept:
            kept[key] = snapshots(peer, model, network, layer, group)
            write(file, kept)
        yield kept[key]


def compare(model: memviz.Model, layer: str, units: Sequence[int], options: argparse.Namespace) -> dict[str, Any]:
    """All that is measured of a layer."""
    network = ChannelsLast(truncate(private_copy(model.module), [layer]))
    others = peers(model.inputs.size[0])
    found: dict[str, Any] = {"layer": layer, "units": list(units), "memviz": [], "peers": {}} | circumstances()
    for peer in others:
        groups = list(reached(peer, model, network, layer, units, options.out / "peers.json"))
        rows = zip(*(group["units"] for group in groups), strict=True)
        found["peers"][peer.name] = {
            "steps": groups[0]["steps"],
            "units": [[unit for part in row for unit in part] for row in rows],
        }
    memviz.render(model, layer, units, config=RenderConfig(steps=1), progress=False)  # warms up
    times: dict[tuple[str, int], list[Seconds]] = {}
    for turn, steps in enumerate(options.steps):
        found["memviz"].append(draw(model, network, layer, units, steps))
        print(f"{layer}, {steps} steps: {found['memviz'][-1]['seconds']['cpu']:.2f} CPU s a picture", flush=True)
        for peer in others if turn < options.turns else ():
            for together in (1, len(units)):
                steps_of = time_steps(peer, model.module, layer, units[:together], options.timed)
                times.setdefault((peer.name, together), []).extend(steps_of)
    start = Seconds.now()
    memviz.render(model, layer, units[:1], progress=False)
    found["alone"] = asdict(Seconds.now() - start)
    for (name, together), each in times.items():
        # Of a picture, alone or together with the others.
        found["peers"][name][f"step of {together}"] = {
            clock: statistics.median(getattr(seconds, clock) for seconds in each) / together
            for clock in ("wall", "cpu")
        }
    return found


def circumstances() -> dict[str, Any]:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    cpu = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "commit": described.stdout.strip(),
        "machine": cpu[0] if cpu else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def curve(found: dict[str, Any], tool: str, row: int, statistic: str, clock: str) -> Curve:
    """Seconds a picture and activation of a unit, in the order of steps."""
    if tool == "memviz":
        return [(each["seconds"][clock], each["units"][row][statistic]) for each in found["memviz"]]
    peer = found["peers"][tool]
    # Lucent draws one picture at a time, dreamlens all together: as a user of each would.
    together = 1 if tool == "torch-lucent" else len(found["units"])
    cost = peer[f"step of {together}"][clock]
    return [(steps * cost, units[row][statistic]) for steps, units in zip(peer["steps"], peer["units"], strict=True)]


def medians(found: dict[str, Any], tool: str, clock: str, extra: float = 0) -> list[float]:
    """By how much sooner memviz reaches a peer's mean, and its peak: medians over units."""
    rows = range(len(found["units"]))
    return [
        statistics.median(
            quicker(curve(found, tool, row, name, clock), curve(found, "memviz", row, name, clock), extra)
            for row in rows
        )
        for name in STATISTICS
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row a layer and peer."""
    lines = [
        "| layer | against | s a picture: CPU, wall | its best is of ours at the end: mean, peak | units reached "
        "| quicker by CPU: mean, peak | by wall | with set-up | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        setup = found["memviz"][0]["setup"]
        for tool, peer in found["peers"].items():
            cells = [f"{found['layer']} | {tool}, {peer['steps'][-1]} steps"]
            cells.append(", ".join(f"{curve(found, tool, 0, 'mean', clock)[-1][0]:.0f}" for clock in ("cpu", "wall")))
            cells.append(", ".join(_percent(share(found, tool, name)) for name in STATISTICS))
            cells.append(", ".join(str(count_reached(found, tool, name)) for name in STATISTICS))
            together = len(found["units"])
            ratios = [medians(found, tool, "cpu"), medians(found, tool, "wall")]
            ratios.append(medians(found, tool, "cpu", setup["cpu"] / together))
            cells += [", ".join(f"{each:.0f}" for each in pair) for pair in ratios]
            cells.append(str(GOAL_OF[tool].get(found["layer"], "")))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def costs(results: Sequence[dict[str, Any]]) -> str:
    """CPU seconds, one row a layer."""
    lines = [
        "| layer | set-up | memviz s a picture, at 54 steps | one alone, all in all "
        "| lucent s a step: alone, in a batch | dreamlens | pictures together | threads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        together, setup = len(found["units"]), statistics.median(each["setup"]["cpu"] for each in found["memviz"])
        default = [each["seconds"]["cpu"] for each in found["memviz"] if each["steps"] == RenderConfig().steps]
        steps = []
        for tool in list(GOAL_OF):
            peer = found["peers"].get(tool, {})
            steps.append(", ".join(f"{peer[f'step of {n}']['cpu']:.2f}" for n in (1, together)) if peer else "")
        ours = f"{default[0]:.2f}" if default else ""
        cells = [found["layer"], f"{setup:.2f}", ours, f"{found['alone']['cpu']:.2f}", *steps]
        lines.append(f"| {' | '.join(cells)} | {together} | {found['threads']} |")
    return "\n".join(lines)


def share(found: dict[str, Any], tool: str, statistic: str) -> float | None:
    """The best of a tool's curve as a share of memviz's at its most steps; None unless that is above zero."""
    return _median(
        max(value for _, value in curve(found, tool, row, statistic, "cpu")) / whole
        for row, whole in enumerate(wholes(found, statistic))
        if whole > 0
    )


def wholes(found: dict[str, Any], statistic: str) -> list[float]:
    """What memviz reaches with its most steps, a unit each."""
    return [curve(found, "memviz", row, statistic, "cpu")[-1][1] for row in range(len(found["units"]))]


def count_reached(found: dict[str, Any], tool: str, statistic: str) -> str:
    rows = range(len(found["units"]))
    pairs = ((curve(found, tool, row, statistic, "cpu"), curve(found, "memviz", row, statistic, "cpu")) for row in rows)
    return f"{sum(quicker(*pair) > 0 for pair in pairs)}/{len(rows)}"


def draw_figure(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Share of what memviz reaches with its most steps against CPU seconds a picture, a panel a layer."""
    down = -(-len(results) // 3)
    with matplotlib.rc_context(make_style()):
        figure = Figure(figsize=(180 / 25.4, 52 * down / 25.4))
        grid = figure.subplots(down, min(3, len(results)), squeeze=False)
        for axes in grid.flat[len(results) :]:
            axes.set_axis_off()
        for axes, found in zip(grid.flat, results, strict=False):
            for tool in ("memviz", *found["peers"]):
                for name, line in zip(STATISTICS, ("-o", "--o"), strict=True):
                    points = shares(found, tool, name)
                    label = tool if name == "peak" or not points else None
                    style = {"color": COLOURS[tool], "markersize": 2, "linewidth": 0.8, "label": label}
                    axes.plot(*zip(*points, strict=True), line, **style) if points else None
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_ylim(0, 1.15)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axes.set_title(found["layer"])
            axes.set_xlabel(f"CPU seconds a picture ({found['threads']} thread{'s' * (found['threads'] > 1)})")
        for axes in grid[:, 0]:
            axes.set_ylabel("share of 1,024 steps of memviz")
        grid[0, 0].legend(loc="upper left")
    save(figure, path)


def shares(found: dict[str, Any], tool: str, statistic: str) -> list[tuple[float, float]]:
    """Seconds and the median over units of their share; units that reach nothing above zero have none."""
    curves = {
        row: curve(found, tool, row, statistic, "cpu") for row, each in enumerate(wholes(found, statistic)) if each > 0
    }
    whole = wholes(found, statistic)
    points = zip(*([(s, value / whole[row]) for s, value in each] for row, each in curves.items()), strict=True)
    return [(each[0][0], statistics.median(value for _, value in each)) for each in points]


def write(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="*", default=LAYERS, help="none: only tables and figure of what is there")
    parser.add_argument("--units", type=int, nargs="+", default=range(4), help="of each layer, drawn together")
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="of memviz's runs; the last is 100 %")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--timed", type=int, default=2, help="steps of each peer that are timed in a turn")
    parser.add_argument("--turns", type=int, default=3, help="at so many of memviz's first runs peers are timed")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    file = options.out / "anytime.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    model = memviz.load_model("resmem") if options.layers else None
    for layer in options.layers:
        assert model is not None
        kept[layer] = compare(model, layer, list(options.units), options)
        write(file, kept)
        print(table([kept[layer]]), flush=True)
    results = [kept[layer] for layer in [*LAYERS, *sorted(set(kept) - set(LAYERS))] if layer in kept]
    draw_figure(results, options.out / "anytime")
    runs = {(each["machine"], each["threads"], each["torch"], each["date"][:10], each["commit"]) for each in results}
    print("\n".join(" / ".join(map(str, run)) for run in sorted(runs)))
    print(f"\n{table(results)}\n\n{costs(results)}")


def _median(values: Iterator[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
