"""What does a survey of units say, layer by layer, and do replaced units confirm it?

    uv run memviz drivers resmem --index runs/photos --all --ablate resnet.layer4.2 --ablate resnet.layer3.35
    uv run python experiments/drivers/figure.py runs/photos/drivers/all-0 --out experiments/drivers/drivers.png

Prints a table of layers: the median and the largest strength, and how often the mean contribution has the sign of the
drive. With --fewer, another survey of the same index, also the rank correlations between the two. Draws the strength
along the network, and for each layer whose units were replaced the contribution beside the effect.
"""

from __future__ import annotations

import argparse
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memviz.evaluation.metrics import spearman
from memviz.evaluation.plots import make_style
from memviz.explanation import Ablation, Drivers, load_ablations, load_drivers

GROUPS = {"strongest": "#1f77b4", "random": "#ff7f0e", "weakest": "#7f7f7f"}
# Of the ResNet the first convolution and the blocks: convolutions inside a block share its work among them.
PARTS = {
    "AlexNet's convolutions": (r"alexnet\.conv\d", "#ff7f0e"),
    "ResNet's blocks": (r"resnet\.(conv1|layer\d\.\d+)", "#1f77b4"),
}
LEAST = 1e-7  # logits, below which strengths are drawn at the edge


def describe(survey: Drivers, fewer: Drivers | None, layers: list[str]) -> None:
    print("| layer | units | strength: median, largest | contribution > 0 | drive > 0 | of one sign |", end="")
    print(" fewer photographs: strength, drive, contribution |" if fewer else "")
    print("|---|---|---|---|---|---|" + ("---|" if fewer else ""))
    for layer in layers:
        rows = survey.frame(layer)
        same = np.sign(rows["drive"]) == np.sign(rows["contribution"])
        shares = [(rows["contribution"] > 0).mean(), (rows["drive"] > 0).mean(), same.mean()]
        cells = [layer, str(len(rows)), f"{rows['strength'].median():.2g}, {rows['strength'].max():.2g}"]
        cells += [f"{share:.0%}" for share in shares]
        if fewer:
            others = fewer.frame(layer)
            names = ("strength", "drive", "contribution")
            cells.append(", ".join(f"{spearman(rows[name], others[name]):.3f}" for name in names))
        print(f"| {' | '.join(cells)} |")


def draw_depth(axes: Axes, survey: Drivers) -> None:
    table = survey.frame()
    for part, (pattern, colour) in PARTS.items():
        own = [layer for layer in survey.layers if re.fullmatch(pattern, layer)]
        if not own:
            continue
        places = np.linspace(0, 1, len(own))
        strengths = [table.loc[table["address"] == layer, "strength"] for layer in own]
        least, median, most = (np.maximum([each.quantile(q) for each in strengths], LEAST) for q in (0.05, 0.5, 0.95))
        axes.fill_between(places, least, most, color=colour, alpha=0.2, linewidth=0)
        axes.plot(places, median, color=colour, linewidth=0.8, label=part)
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("depth: from the first layer to the last")
    axes.set_ylabel("strength (logits): median, 5 to 95 %")
    axes.set_title(f"{survey.photographs} photographs")
    if axes.lines:
        axes.legend(loc="lower left")


def draw_effects(axes: Axes, ablation: Ablation) -> None:
    rows = ablation.frame()
    for group, colour in GROUPS.items():
        own = rows[rows["group"] == group]
        axes.plot(own["drive"], own["drive_by_mean"], "o", color=colour, markersize=2, label=group, alpha=0.8)
    limit = 1.08 * rows[["drive", "drive_by_mean"]].abs().max().max()
    axes.plot([-limit, limit], [-limit, limit], color="black", linewidth=0.5, zorder=0)
    found = ablation.correlation("drive", "drive_by_mean")
    axes.set_title(f"{ablation.address.removeprefix('resnet.')}: {'' if found is None else f'{found.value:.3f}'}")
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.locator_params(nbins=3)
    axes.set_xlabel("drive, by the gradient")
    axes.set_ylabel("drive, by replacing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", help="its folder")
    parser.add_argument("--ablations", help="folder of the survey whose units were replaced, if it is another one")
    parser.add_argument("--fewer", help="folder of a survey over fewer photographs")
    parser.add_argument("--out", required=True, help="the figure")
    parser.add_argument("--layers", nargs="*", default=[], help="of the table; all by default")
    arguments = parser.parse_args()
    survey = load_drivers(arguments.survey)
    fewer = load_drivers(arguments.fewer) if arguments.fewer else None
    describe(survey, fewer, arguments.layers or list(survey.layers))
    ablations = load_ablations(load_drivers(arguments.ablations or arguments.survey))
    for ablation in ablations:
        print(ablation)
    with matplotlib.rc_context(make_style()):
        figure = Figure(figsize=(180 / 25.4, 95 / 25.4))
        columns = max(2, (len(ablations) + 1) // 2)
        grid = figure.add_gridspec(2, columns + 1, width_ratios=[1.6] + [1] * columns)
        draw_depth(figure.add_subplot(grid[:, 0]), survey)
        for place, ablation in enumerate(ablations):
            axes = figure.add_subplot(grid[place // columns, 1 + place % columns])
            draw_effects(axes, ablation)
            if not place:
                axes.legend(loc="upper left", handletextpad=0.1)
        figure.savefig(arguments.out, dpi=200)


if __name__ == "__main__":
    main()
