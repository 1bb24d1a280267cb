"""What measured curves of activation against seconds say: tables and a figure, for anytime.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from memviz.evaluation.plots import make_style, save
from memviz.rendering import RenderConfig

STATISTICS = ("mean", "peak")
# Times quicker, from the issue that asked for this.
GOALS = {"alexnet.conv4": 200, "resnet.layer2.3": 100, "resnet.layer3.20": 60}
GOAL_OF = {"torch-lucent": GOALS, "dreamlens": dict.fromkeys(GOALS, 8)}
LINES = {"mean": "o-", "peak": "o--"}
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
        for tool, peer in found["peers"].items():
            cells = [f"{found['layer']} | {tool}, {peer['steps'][-1]} steps"]
            cells.append(", ".join(f"{curve(found, tool, 0, 'mean', clock)[-1][0]:.0f}" for clock in ("cpu", "wall")))
            cells.append(", ".join(_percent(share(found, tool, name)) for name in STATISTICS))
            cells.append(", ".join(str(count_reached(found, tool, name)) for name in STATISTICS))
            together = len(found["units"])
            ratios = [medians(found, tool, "cpu"), medians(found, tool, "wall")]
            ratios.append(medians(found, tool, "cpu", setup(found) / together))
            cells += [", ".join(f"{each:.0f}" for each in pair) for pair in ratios]
            cells.append(str(GOAL_OF[tool].get(found["layer"], "")))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def costs(results: Sequence[dict[str, Any]]) -> str:
    """CPU seconds, one row a layer."""
    lines = [
        "| layer | pictures together | memviz: set-up | a picture of 54 steps | one alone, all in all "
        "| lucent: a step, alone and in a batch | a picture, with the network cut for it "
        "| dreamlens: the same | cut |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        together = len(found["units"])
        default = [each["seconds"]["cpu"] for each in found["memviz"] if each["steps"] == RenderConfig().steps]
        cells = [found["layer"], str(together), f"{setup(found):.2f}", *(f"{each:.2f}" for each in default)]
        cells.append(f"{found['alone']['cpu']:.2f}")
        for peer in found["peers"].values():
            cells.append(", ".join(f"{peer[f'step of {number}']['cpu']:.2f}" for number in (1, together)))
            cells.append(f"{peer['cut']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def setup(found: dict[str, Any]) -> float:
    """CPU seconds that memviz pays once a layer."""
    return statistics.median(each["setup"]["cpu"] for each in found["memviz"])


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
        figure = Figure(figsize=(180 / 25.4, 55 * down / 25.4))
        grid = figure.subplots(down, min(3, len(results)), squeeze=False)
        for axes in grid.flat[len(results) :]:
            axes.set_axis_off()
        for axes, found in zip(grid.flat, results, strict=False):
            for tool in ("memviz", *found["peers"]):
                for name, line in LINES.items():
                    points = shares(found, tool, name)
                    x, y = zip(*points, strict=True) if points else ((), ())
                    axes.plot(x, y, line, color=COLOURS[tool], markersize=2, linewidth=0.8)
            axes.set(xscale="log", ylim=(0, 1.1), title=found["layer"])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_xlabel(f"CPU seconds a picture, {found['threads']} thread{'s' * (found['threads'] > 1)}")
            axes.set_ylabel(f"share of {found['memviz'][-1]['steps']:,} steps of memviz")
        named = [Line2D([], [], color=colour, label=tool) for tool, colour in COLOURS.items()]
        named += [Line2D([], [], color="black", linestyle=line[1:], label=name) for name, line in LINES.items()]
        figure.legend(handles=named, loc="outside lower center", ncols=len(named))
    save(figure, path)


def shares(found: dict[str, Any], tool: str, statistic: str) -> list[tuple[float, float]]:
    """Seconds and the median over units of their share; units that reach nothing above zero have none."""
    curves = {
        row: curve(found, tool, row, statistic, "cpu") for row, each in enumerate(wholes(found, statistic)) if each > 0
    }
    whole = wholes(found, statistic)
    points = zip(*([(s, value / whole[row]) for s, value in each] for row, each in curves.items()), strict=True)
    return [(each[0][0], statistics.median(value for _, value in each)) for each in points]


def _median(values: Iterator[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
