"""Draws the paper's figures 4 to 12: samples of data sets, densities of predictions over ground truth, learning curves.

    uv run python experiments/figures/draw.py samples memcat=MEMCAT --categories animal/cat --out runs/figure05
    uv run python experiments/figures/draw.py density PREDICTIONS.csv --title ResMem --out runs/figure10
    uv run python experiments/figures/draw.py curves "η = 0.001=runs/a/metrics.csv" "η = 0.01=runs/b/metrics.csv" \
        --title ResMem --out runs/figure09

README.md beside this file has the command of each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from memviz.cli.common import read_data
from memviz.errors import MemvizError
from memviz.evaluation.plots import density, learning_curves, save
from memviz.evaluation.samples import samples


def column(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """The first of the columns that the CSV has; a .txt file has one number a line."""
    if path.suffix == ".txt":
        return np.loadtxt(path, ndmin=1)
    table = pd.read_csv(path)
    found = [name for name in names if name in table]
    if not found:
        raise MemvizError(f"{path} has none of the columns {', '.join(names)}; it has {', '.join(table.columns)}.")
    return table[found[0]].to_numpy(float)


def known(truth: np.ndarray) -> np.ndarray:
    """Without the zeros: LaMem has 236 and then nothing below 0.2, which the paper calls its lowest score."""
    zeros = int((truth == 0).sum())
    if zeros:
        print(f"{zeros} of {len(truth)} true scores are exactly 0 and are left out as missing.", file=sys.stderr)
    return truth[truth != 0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    densities = kinds.add_parser("density", help="figures 6, 8, 10, 11, 12")
    densities.add_argument("predictions", type=Path, help="CSV of `memviz evaluate` or `memviz score`")
    densities.add_argument("--truth", type=Path, help="other true scores: a .txt of numbers, or a CSV")
    curves = kinds.add_parser("curves", help="figures 7, 9")
    curves.add_argument("logs", nargs="+", help="NAME=metrics.csv, a run each")
    curves.add_argument("--metric", default="val_spearman", help="column of the logs")
    photographs = kinds.add_parser("samples", help="figures 4, 5")
    photographs.add_argument("data", help="lamem=DIR, memcat=DIR or csv=FILE, as `memviz evaluate --data` takes it")
    photographs.add_argument("--categories", nargs="+", default=(), help="a row each; one row of all by default")
    photographs.add_argument("--count", type=int, default=8, help="photographs in a row")
    for each in (densities, curves, photographs):
        each.add_argument("--title", default="")
        each.add_argument("--out", type=Path, required=True, help="without .png and .pdf")
    options = parser.parse_args(arguments)
    if options.kind == "density":
        truth = known(column(options.truth or options.predictions, ("truth", "score")))
        figure = density(truth, column(options.predictions, ("prediction", "memorability")), options.title)
    elif options.kind == "samples":
        figure = samples(read_data([options.data]), options.categories, options.count, options.title)
    else:
        logs = [log.rpartition("=") for log in options.logs]
        figure = learning_curves({name: path for name, _, path in logs}, options.title, options.metric)
    save(figure, options.out)
    print(f"{options.out}.png {options.out}.pdf")


if __name__ == "__main__":
    try:
        main()
    except MemvizError as error:
        sys.exit(f"Error: {error}")
