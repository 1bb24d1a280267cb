"""A quality as a figure for a paper: who wins, what explains, and which path pictures take, layer by layer."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from memviz.evaluation.plots import make_style
from memviz.explanation.effect import Estimate
from memviz.explanation.quality_result import Quality

_SIZE = (180 / 25.4, 75 / 25.4)  # inches: two columns of most journals
_NAMED = 16  # layers whose addresses can be read below an axis
# Blue, green and orange of Okabe and Ito 2008, which are distinguishable with colour-blindness.
_KINDS = {
    "photographs": ("photographs", "#0072b2", -0.2),
    "alike": ("as many photographs as pictures", "#009e73", 0.0),
    "renders": ("pictures", "#d55e00", 0.2),
}
_HOLLOW: Any = {"marker": "o", "markerfacecolor": "white", "markersize": 3, "zorder": 2}


def quality_figure(quality: Quality) -> Figure:
    """Left, the share of live units that prefer their picture to the best photograph; in the middle, how often a
    machine tells what excites a unit, and by what, hollow with the explanations of other units; right, how alike
    pictures and photographs are to the layer. Bars are 95 % intervals."""
    with matplotlib.rc_context(make_style()):
        figure = Figure(figsize=_SIZE)
        wins, choice, path = figure.subplots(1, 3, width_ratios=[1, 1.6, 1])
        for place, layer in enumerate(quality.layers):
            if layer.share:
                _mark(wins, place, layer.share, "#000000")
            for each in layer.choices:
                label, colour, shift = _KINDS[each.kind]
                _mark(choice, place + shift, each.accuracy, colour, label=label if place == 0 else None)
                if each.shuffled:
                    choice.plot(place + shift + 0.08, each.shuffled.value, color=colour, **_HOLLOW)
            if layer.own:
                _mark(path, place, layer.own, "#000000")
        choice.axhline(0.5, color="black", linewidth=0.5, linestyle=(0, (4, 3)))
        for level in (0, 1):
            path.axhline(level, color="black", linewidth=0.5, linestyle=(0, (4, 3)))
        titles = ("Pictures that win", f"Forced choice, by {quality.encoder}", "Path similarity")
        labels = ("Share of live units", "Choices solved", "From others' photographs (0)\nto the unit's own (1)")
        for axes, title, label in zip((wins, choice, path), titles, labels, strict=True):
            axes.set_title(title, loc="left", fontsize=7)
            axes.set_ylabel(label)
            axes.set_xlim(-0.6, len(quality.layers) - 0.4)
            _name_layers(axes, quality)
        for axes in (wins, choice):
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        choice.set_ylim(0.3, 1.02)
        handles, names = choice.get_legend_handles_labels()
        if handles:
            hollow = Line2D([], [], **_HOLLOW, color="black", linestyle="")
            figure.legend(
                [*handles, hollow], [*names, "with explanations of other units"], loc="outside lower center", ncols=4
            )
        figure.suptitle(f"{quality.model}: {quality.photographs} photographs", fontsize=7)
    return figure


def _mark(axes: Axes, place: float, each: Estimate, colour: str, **options: Any) -> None:
    axes.plot([place, place], [each.low, each.high], color=colour, linewidth=0.9)
    axes.plot(place, each.value, "o", color=colour, markersize=3, zorder=3, **options)


def _name_layers(axes: Axes, quality: Quality) -> None:
    names = [layer.address + ("*" if layer.branch in quality.warnings else "") for layer in quality.layers]
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=6)
    else:
        axes.set_xlabel("Layers, in order")
    if axes.get_subplotspec().is_first_col() and any(name.endswith("*") for name in names):  # type: ignore[union-attr]
        axes.annotate("* at its random start", (1, 0), (0, 2), "axes fraction", "offset points", ha="right", fontsize=5)
