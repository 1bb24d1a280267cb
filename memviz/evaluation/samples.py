"""Samples of scored photographs, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import ImageOps

from memviz.errors import ImageError, did_you_mean
from memviz.evaluation.plots import make_style
from memviz.images import open_image

_WIDTH = 180 / 25.4  # inches: two columns of most journals
_SIDE = 300  # px of a photograph at most, which is 15 mm at 500 dpi
_MOST = 12  # photographs in a row


def samples(table: pd.DataFrame, categories: Sequence[str] = (), count: int = 8, title: str = "") -> Figure:
    """Photographs of a data set with their scores, a row a category, from the least to the most memorable.

    A row's photographs lie at equal steps of rank, the lowest and the highest among them, so that it shows how scores
    are spread and is no choice of anybody's.

    Args:
        table: with the columns path, score, category and file, as `memviz.images.lamem` and `memcat` give it.
        categories: the rows, as "animal", or "animal/cat" where the files lie in such folders. None is one row of all.
        count: photographs in a row, 1 to 12.
        title: above the figure.

    Raises:
        ImageError: an unknown category, or a photograph that cannot be read.

    Example:
        >>> figure = samples(memviz.images.memcat("memcat"), ["animal/cat"])  # doctest: +SKIP
    """
    if not 1 <= count <= _MOST:
        raise ImageError(f"A row has 1 to {_MOST} photographs; given was {count}.")
    rows = [(name, _of(table, name)) for name in categories] or [("", table)]
    with matplotlib.rc_context(make_style() | {"figure.constrained_layout.use": False}):
        side = _WIDTH / count
        height = len(rows) * (side + 0.22) + 0.22 * sum(bool(name) for name, _ in rows) + 0.3
        figure = Figure(figsize=(_WIDTH, height))
        figure.suptitle(title, fontsize=8, y=0.995, va="top")
        parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
        for part, (name, own) in zip(parts, rows, strict=True):
            part.suptitle(name, fontsize=7, x=0.01, ha="left")
            ranked = own.sort_values("score", kind="stable")
            places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
            axes = part.subplots(1, count, squeeze=False, gridspec_kw={"wspace": 0.06})[0]
            part.subplots_adjust(left=0.01, right=0.99, top=0.86 if name else 0.97, bottom=0.12)
            for axis in axes:
                axis.set_axis_off()
            for axis, row in zip(axes, ranked.iloc[places].itertuples(), strict=False):
                picture = ImageOps.contain(open_image(row.path), (_SIDE, _SIDE))
                axis.imshow(np.asarray(picture), interpolation="lanczos")
                axis.set_anchor("S")
                axis.text(0.5, -0.03, f"{row.score:.2f}", transform=axis.transAxes, fontsize=6, ha="center", va="top")
    return figure


def _of(table: pd.DataFrame, category: str) -> pd.DataFrame:
    own = table[(table["category"] == category) | table["file"].str.startswith(f"{category}/")]
    if own.empty:
        folders = {"/".join(str(file).split("/")[:-1]) for file in table["file"]}
        known = sorted(name for name in {*table["category"].astype(str), *folders} if name)
        raise ImageError(f"No photograph is of the category {category!r}. {did_you_mean(category, known)}")
    return own
