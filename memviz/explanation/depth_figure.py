"""A depth profile as a figure for a paper: depth against what either set of features explains, branch by branch."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memviz.evaluation.plots import make_style
from memviz.explanation.depth_result import Depth, LayerDepth
from memviz.explanation.effect import Estimate

_SIZE = (180 / 25.4, 140 / 25.4)  # inches: two columns of most journals
# Blue and orange of matplotlib, which are distinguishable with colour-blindness.
_COLOURS = {"perceptual": "#1f77b4", "conceptual": "#ff7f0e"}
_ROWS = (
    ("", "Explained on held-out\nphotographs, R²"),
    ("only_", "Explained uniquely, R²"),
    ("similarity_", "Representational\nsimilarity, Spearman's ρ"),
)


def depth_figure(depth: Depth) -> Figure:
    """Above, what each set of features explains; in the middle, what it explains and the other does not; below, the
    similarity of representations. Bands are 95 % intervals; dashed is the twin with random weights."""
    with matplotlib.rc_context(make_style()):
        figure = Figure(figsize=_SIZE)
        branches = [each.branch for each in depth.branches]
        # A branch of a few layers needs less room.
        counts = [sum(layer.branch == branch and not layer.twin for layer in depth.layers) for branch in branches]
        widths = [min(max(count, 6), 12) for count in counts]
        axes = figure.subplots(
            len(_ROWS), len(branches), width_ratios=widths, sharey="row", sharex="col", squeeze=False
        )
        for column, branch in enumerate(branches):
            for place, (prefix, label) in enumerate(_ROWS):
                _draw(axes[place, column], depth, branch, prefix)
                if column == 0:
                    axes[place, column].set_ylabel(label)
            title = [branch or depth.model]
            if branch in depth.warnings:
                title += depth.warnings[branch].replace("; ", ";\n").splitlines()
            axes[0, column].set_title("\n".join(title), loc="left")
            axes[-1, column].set_xlabel("Convolutions up to the layer's end")
        handles, labels = axes[0, -1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        about = f"{depth.model}: units' {depth.statistic} on {depth.photographs} photographs; concepts: "
        figure.suptitle(
            f"{about}classes of {'the network itself' if depth.own_concepts else depth.concepts}", fontsize=7
        )
    return figure


def _draw(axes: Axes, depth: Depth, branch: str, prefix: str) -> None:
    for name, colour in _COLOURS.items():
        for twin in (False, True):
            found = [
                (layer.convolutions, each)
                for layer in depth.layers
                if layer.branch == branch and layer.twin == twin and (each := _get(layer, prefix + name))
            ]
            if not found:
                continue
            places, estimates = zip(*found, strict=True)
            label = f"{name} features{', random weights' if twin else ''}"
            style: dict[str, Any] = (
                {"linestyle": (0, (4, 2)), "linewidth": 0.8} if twin else {"marker": "o", "markersize": 2.5}
            )
            axes.plot(places, [each.value for each in estimates], color=colour, label=label, **style)
            low, high = [each.low for each in estimates], [each.high for each in estimates]
            axes.fill_between(places, low, high, color=colour, alpha=0.1 if twin else 0.25, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _get(layer: LayerDepth, name: str) -> Estimate | None:
    found: Estimate | None = getattr(layer, name)
    return found
