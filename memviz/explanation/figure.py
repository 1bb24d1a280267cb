"""A checkup as a figure for a paper: how far each layer is from chance, and what goes with each branch."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memviz.evaluation.plots import make_style
from memviz.explanation.checkup import NO_SHARE, Checkup
from memviz.explanation.effect import Effects
from memviz.explanation.measure import Replacement
from memviz.layers.unit import lies_in

_SIZE = (180 / 25.4, 62 / 25.4)  # inches: two columns of most journals
# Blue, orange and grey of matplotlib, which are distinguishable with colour-blindness.
_COLOURS = ("#1f77b4", "#ff7f0e", "#7f7f7f")
_REPLACED: tuple[tuple[Replacement, str, str], ...] = (
    ("mean", "its mean", "0.3"),
    ("other", "another photograph's", "0.7"),
)
_LEAST, _MOST = 0.1, 1000.0  # times chance, beyond which nothing more is said


def checkup_figure(checkup: Checkup) -> Figure:
    """Left, the layers in order, each with what is clearest in its weights as a multiple of what chance may give;
    right, where effects were measured, the share of the score's variance that goes with each branch."""
    with matplotlib.rc_context(make_style()):
        figure = Figure(figsize=_SIZE)
        widths = [2.4, 1] if checkup.effects else [1]
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        _draw_layers(axes[0], checkup)
        if checkup.effects:
            _draw_effects(axes[1], checkup.effects, checkup.branches)
    return figure


def _draw_layers(axes: Axes, checkup: Checkup) -> None:
    drawn = [each for each in checkup.layers if each.evidence and each.verdict != "undecided"]
    parts = [_part(each.address, checkup.branches) for each in drawn]
    ratios = np.clip([each.evidence[0][1] for each in drawn], _LEAST, _MOST)
    for place, part in enumerate(dict.fromkeys(parts)):
        chosen = [number for number, each in enumerate(parts) if each == part]
        colour = _COLOURS[min(place, len(_COLOURS) - 1)]
        axes.plot(chosen, ratios[chosen], "o", markersize=2.2, color=colour, label=part or None, clip_on=False)
    axes.axhline(1, color="black", linewidth=0.6, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.set_ylim(_LEAST, _MOST)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(
        xlabel="Layers with weights, in order", ylabel="Clearest sign of learning,\nas a multiple of what chance gives"
    )
    if not drawn:
        axes.text(0.5, 0.5, "No layer has enough weights to tell", ha="center", transform=axes.transAxes)
    axes.text(0.99, 0.85, "at its random start", va="top", ha="right", fontsize=6, transform=axes.get_yaxis_transform())
    axes.set_title(checkup.model, loc="left")
    if drawn and checkup.branches:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0)


def _draw_effects(axes: Axes, effects: Effects, branches: tuple[str, ...]) -> None:
    for row, branch in enumerate(reversed(branches)):
        for shift, (kind, label, colour) in zip((0.17, -0.17), _REPLACED, strict=True):
            share = effects.effect(branch, kind).share
            if share is None:
                continue
            axes.barh(row + shift, share.value, 0.3, color=colour, label=label if row == 0 else None)
            axes.plot([share.low, share.high], [row + shift] * 2, color="black", linewidth=0.8)
            note = f" {share.value:.2f}" if share.high >= NO_SHARE else f" below {NO_SHARE:g}"
            axes.text(max(share.high, share.value), row + shift, note, va="center", fontsize=6)
    axes.set_yticks(range(len(branches)), reversed(branches))
    axes.set_xlim(0, max(1.25, axes.get_xlim()[1] * 1.15))
    what = (effects.target or "score").replace("_", " ")
    axes.set_xlabel(f"Share of variance that goes\n({what}, {effects.photographs} photographs)")
    if axes.patches:
        axes.legend(title="Output replaced by", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


def _part(address: str, branches: tuple[str, ...]) -> str:
    return next((branch for branch in branches if lies_in(address, branch)), "head" if branches else "")
