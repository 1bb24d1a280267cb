"""The paper's plots: densities of predictions over ground truth (figures 6, 8, 10-12), learning curves (7, 9).

Figures are 85 mm wide, a column of most journals; neither pyplot nor matplotlib's settings are changed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from memviz.errors import MemvizError
from memviz.files import replacing

if TYPE_CHECKING:
    import pandas as pd

DPI = 300
_SIZE = (85 / 25.4, 60 / 25.4)
# matplotlib's and the paper's blue and orange, which are distinguishable with colour-blindness.
_TRUTH, _PREDICTION = "#1f77b4", "#ff7f0e"
_BINS = 2000
# More than ten runs cannot be distinguished by colours or a legend, as in the paper's figure 9.
_NAMED_RUNS = 10
_LINE = 3.4 / 25.4  # of a legend under the axes, in inches
# Faces that journals ask for; DejaVu comes with matplotlib.
_FACES = ("Arial", "Liberation Sans", "DejaVu Sans")
# What a user's matplotlibrc must not change; Type 42 fonts, since publishers refuse Type 3.
_STYLE: Any = {
    "pdf.fonttype": 42,
    "text.usetex": False,
    "text.parse_math": False,
    "savefig.bbox": None,
    "font.size": 7,
    "axes.linewidth": 0.5,
    "axes.titlesize": 8,
    "axes.edgecolor": "black",
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}


def density_curve(
    values: ArrayLike, low: float = 0, high: float = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The estimated probability density of scores between `low` and `high`: 2,000 places and the density there.

    A Gaussian kernel with the bandwidth of Scott (1992), as in scipy's and seaborn's estimates. What it would
    spread beyond `low` and `high`, where no score can be, is reflected, so that the area is 1.

    >>> places, density = density_curve([0.4, 0.5, 0.7])
    >>> round(float(density.mean()), 6)
    1.0
    """
    scores = np.asarray(values, dtype=float)
    deviation = scores.std(ddof=1) if len(scores) > 1 else 0.0
    # For constant predictions the bandwidth would be 0: it is a peak of half a bin at least.
    bandwidth = max(deviation * len(scores) ** -0.2 * _BINS / (high - low), 0.5)
    share, edges = np.histogram(scores, bins=_BINS, range=(low, high), density=True)
    return (edges[1:] + edges[:-1]) / 2, gaussian_filter1d(share, bandwidth, mode="reflect", truncate=6)


def density(truth: ArrayLike, prediction: ArrayLike, title: str = "", score: str = "Memorability score") -> Figure:
    """Draws the distribution of predictions (orange) over that of the ground truth (blue).

    The area under each curve between two scores is the probability of a score between them. The two need not be of
    the same images. As the paper notes, where the curves differ the model is wrong; where they agree it need
    not be right.

    Args:
        truth, prediction: scores; the axis is 0 to 1, or wider where a linear output leaves that.
        title: over the plot, such as the model's name.
        score: label of the axis.

    Example:
        >>> figure = density([0.5, 0.7, 0.8, 0.9], [0.6, 0.7, 0.75, 0.8], title="MemNet")
        >>> save(figure, getfixture("tmp_path") / "memnet")
    """
    sides = {"Ground truth": (truth, _TRUTH), "Predictions": (prediction, _PREDICTION)}
    for name, (values, _) in sides.items():
        if not np.size(values) or not np.isfinite(values).all():
            raise MemvizError(f"{name}: {np.size(values)} scores, or some that are no numbers, have no density.")
    low, high = (float(limit([limit(truth), limit(prediction), end])) for limit, end in ((np.min, 0), (np.max, 1)))
    with matplotlib.rc_context(make_style()):
        figure, axes = _make_axes(title)
        for name, (values, colour) in sides.items():
            places, height = density_curve(values, low, high)
            axes.fill_between(places, height, color=colour, alpha=0.2, linewidth=0)
            axes.plot(places, height, color=colour, label=name)
        axes.set(xlim=(low, high), xlabel=score, ylabel="Probability density")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
    return figure


def read_log(path: str | os.PathLike[str], metric: str = "val_spearman", x: str = "step") -> pd.DataFrame:
    """The columns `x` and `metric` of a CSV log, as Lightning's CSVLogger writes, where the metric was logged."""
    import pandas as pd

    try:
        log = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise MemvizError(f"{path} is not a log that can be read ({error}). Give a metrics.csv.") from error
    missing = [name for name in (x, metric) if name not in log]
    if missing:
        raise MemvizError(f"{path} has no column {missing[0]!r}; it has {', '.join(log.columns)}.")
    return log[[x, metric]].dropna().astype(float).sort_values(x, kind="stable", ignore_index=True)


def learning_curves(
    logs: Mapping[str, str | os.PathLike[str]],
    title: str = "",
    metric: str = "val_spearman",
    x: str = "step",
    labels: tuple[str, str] = ("Training step", "Validation rank correlation"),
    shades: tuple[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draws a metric along training, a line a run, with a dot at each run's highest value.

    Up to ten runs are named in a legend under the plot; of more, only the best, which is black.

    Args:
        logs: CSV log by name of the run, such as "η = 0.001, γ = 0.9" in the paper.
        title: over the plot.
        metric, x: columns of the logs.
        labels: of the axes.
        shades: for more than ten runs, a label and a positive number by name of the run, such as its learning rate: the
            colours follow it on a logarithmic scale, and a bar tells which is which.

    Example:
        >>> log = getfixture("tmp_path") / "metrics.csv"
        >>> _ = log.write_text("step,val_spearman\\n100,0.4\\n200,0.5\\n")
        >>> figure = learning_curves({"η = 0.001": log})
    """
    curves = {name: read_log(path, metric, x) for name, path in logs.items()}
    if not any(len(curve) for curve in curves.values()):
        raise MemvizError(f"None of the {len(curves)} logs has a value of {metric!r} yet.")
    named = len(curves) <= _NAMED_RUNS
    best = max(curves, key=lambda name: curves[name][metric].max() if len(curves[name]) else -np.inf)
    with matplotlib.rc_context(make_style()):
        figure, axes = _make_axes(title, legend=-(-len(curves) // 2) if named else 1)
        colours = _choose_colours(list(curves)) if named or not shades else _add_shades(figure, *shades)
        for name, curve in curves.items():
            marked = name == best and not named
            style: Any = {"color": "black" if marked else colours[name], "zorder": 4 if marked else 3}
            label = name if named else f"Best: {name}" if marked else None
            axes.plot(curve[x], curve[metric], linewidth=1, label=label, **style)
            if len(curve):
                top = curve.loc[curve[metric].idxmax()]
                axes.plot(top[x], top[metric], marker="o", markersize=3, **style)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        # Not in the axes, where it would cover curves.
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes `path`.png (300 dpi) and `path`.pdf (Type 42 fonts; the same figure gives the same file)."""
    with matplotlib.rc_context(make_style()):
        for suffix, metadata in ((".png", {}), (".pdf", {"Creator": "memviz", "CreationDate": None})):
            with replacing(Path(f"{path}{suffix}")) as temporary:
                figure.savefig(temporary, dpi=DPI, facecolor="white", metadata=metadata)


def _make_axes(title: str, legend: int = 0) -> tuple[Figure, Axes]:
    """A figure with room for `legend` lines of a legend below the axes."""
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] + legend * _LINE))
    axes: Axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def _choose_colours(names: list[str]) -> dict[str, Any]:
    if len(names) <= _NAMED_RUNS:
        return {name: matplotlib.colormaps["tab10"](number) for number, name in enumerate(names)}
    return dict(zip(names, _make_colormap()(np.linspace(0, 1, len(names))), strict=True))


def _add_shades(figure: Figure, label: str, values: Mapping[str, float]) -> dict[str, Any]:
    """A colour for each value, and a colour bar."""
    # From one power of ten to another, or a narrow range would have no number.
    low = math.floor(math.log10(min(values.values())))
    high = max(math.ceil(math.log10(max(values.values()))), low + 1)
    scale = ScalarMappable(LogNorm(10.0**low, 10.0**high), _make_colormap())
    # "0.001", since the powers that matplotlib would write are formulas, which the style does not read.
    bar = figure.colorbar(scale, ax=figure.axes, label=label, pad=0.02, aspect=30, format="{x:g}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.outline.set_linewidth(0.5)
    return dict(zip(values, scale.to_rgba(np.array(list(values.values()))), strict=True))


def _make_colormap() -> ListedColormap:
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)))  # its end is too light


def make_style() -> Any:
    """matplotlib's settings for figures of this house, as `matplotlib.rc_context` takes them."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return _STYLE | {"font.family": [next(face for face in _FACES if face in installed)]}
