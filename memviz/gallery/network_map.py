"""A network as a figure: from photograph to score, its branches one above the other."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from memviz.errors import StoreError
from memviz.files import check_file, replacing
from memviz.gallery.sheet import DPI, QUIET, WIDTH_MM, face
from memviz.layers import Layer
from memviz.layers.unit import lies_in
from memviz.models import Model

FORMATS = ("svg", "pdf", "png")
_SETTINGS: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "memviz", "text.usetex": False}
_ROW, _HEAD = 27.0, 5.0  # mm, of a branch, and of its name in it
_TALLEST, _WIDEST = 14.0, 6.5  # mm, of a box: for the maps of the input's size, and for 4,096 channels
_MARGIN = 20.0  # mm on both sides, for the photograph and the score
_FLAT = 15.0  # mm, of a row of vectors


@dataclass(frozen=True)
class Box:
    """One box of the map: a layer, or a stage of residual blocks.

    Attributes:
        name: of the layer within its branch, or of the stage.
        channels, height, width: its output; of a stage, that of its last block.
        blocks: how many residual blocks it has; 0 for a layer.
    """

    name: str
    channels: int
    height: int
    width: int
    blocks: int


def boxes(layers: Iterable[Layer], branch: str = "", others: Sequence[str] = ()) -> list[Box]:
    """What a branch's row of the map shows: convolutions and linear layers, with stages of residual blocks as one box.

    Args:
        layers: all of a network's, in executed order.
        branch: whose boxes; empty for the part outside of all branches.
        others: the network's branches.
    """
    own = [layer for layer in layers if (lies_in(layer.address, branch) if branch else not _lies_in(layer, others))]
    blocks = [layer.address for layer in own if layer.block]
    found: dict[str, list[Layer]] = {}
    for layer in own:
        if layer.block:
            found.setdefault(layer.address.rpartition(".")[0] or layer.address, []).append(layer)
        elif (layer.is_convolution or layer.kind == "Linear") and not _lies_in(layer, blocks):
            found[layer.address] = [layer]
    return [
        Box(
            address.removeprefix(f"{branch}."),
            stage[-1].channels,
            stage[-1].height,
            stage[-1].width,
            len(stage) if stage[-1].block else 0,
        )
        for address, stage in found.items()
    ]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Of each dotted name the shortest end that no other one has, and that is not a number alone.

    >>> list(short_names(["backbone.conv1", "backbone.layer1", "reduce.conv1", "classifier.0"]).values())
    ['backbone.conv1', 'layer1', 'reduce.conv1', 'classifier.0']
    """
    short = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[place:]) for place in reversed(range(len(parts)))]
        alone = (
            end
            for end in ends
            if not end.isdigit() and not any(f".{other}".endswith(f".{end}") for other in names if other != name)
        )
        short[name] = next(alone, name)
    return short


def _lies_in(layer: Layer, parts: Iterable[str]) -> bool:
    return any(lies_in(layer.address, part) for part in parts)


def network_map(model: Model) -> Figure:
    """The figure of a network, 180 mm wide: a row of boxes a branch, then what follows them.

    A box is as high as its maps are large and as wide as it has channels, both as logarithms. Below each stand channels
    and size, and of a stage of residual blocks how many there are.

    Example:
        >>> import memviz
        >>> figure = network_map(memviz.load_model("memnet", weights=None))
        >>> [text.get_text() for text in figure.axes[0].texts][:2]
        ['photograph\\n227 × 227 px', 'alexnet']
    """
    layers, branches = list(model.layers), model.branches
    head = boxes(layers, others=branches)
    rows = [(branch, boxes(layers, branch)) for branch in branches] or [("", head)]
    height = _ROW * len(rows) + (_FLAT if branches and head else 0)
    figure = Figure(figsize=(WIDTH_MM / 25.4, height / 25.4))
    axes: Axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH_MM), ylim=(height, 0))
    axes.set_axis_off()
    drawing = _Drawing(axes, face(), max(model.inputs.size))
    middle = _ROW * len(rows) / 2 if len(rows) > 1 else _HEAD + _TALLEST / 2
    drawing.text(_MARGIN / 2, middle, f"photograph\n{model.inputs.size[1]} × {model.inputs.size[0]} px", va="center")
    target = model.target or "output"
    for place, (name, row) in enumerate(rows):
        centre = drawing.row(row, _ROW * place, name)
        drawing.arrow((_MARGIN - 1.5, middle), (_MARGIN + 1.5, centre))
        end = (WIDTH_MM - _MARGIN + 1.5, middle)
        drawing.arrow((WIDTH_MM - _MARGIN - 1.5, centre), end)
    if branches and head:
        centre = drawing.row(head, _ROW * len(rows) - _HEAD, "")
        joined = "joined\nfeatures" if len(rows) > 1 else "features"
        drawing.text(_MARGIN / 2, centre, joined, va="center")
        drawing.arrow((_MARGIN - 1.5, centre), (_MARGIN + 1.5, centre))
        drawing.arrow((WIDTH_MM - _MARGIN - 1.5, centre), (WIDTH_MM - _MARGIN + 1.5, centre))
        drawing.text(WIDTH_MM - _MARGIN / 2 + 1, centre, target, va="center", weight="bold")
        drawing.text(WIDTH_MM - _MARGIN / 2 + 1, middle, joined, va="center")
    else:
        drawing.text(WIDTH_MM - _MARGIN / 2 + 1, middle, target, va="center", weight="bold")
    return figure


def save_network_map(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes the map of a network as SVG, PDF or PNG, by the file's name.

    Raises:
        StoreError: another kind of file, or a path that cannot be one.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise StoreError(f"{path} is no name of a figure: give one that ends with {', '.join(FORMATS)}.")
    check_file(path)
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context(_SETTINGS), replacing(path) as temporary:
        network_map(model).savefig(temporary, dpi=DPI, facecolor="white", metadata=metadata)


@dataclass(frozen=True)
class _Drawing:
    """What the boxes are drawn on, in millimetres."""

    axes: Axes
    face: str
    largest: int

    def row(self, row: Sequence[Box], top: float, name: str) -> float:
        """Draws boxes from left to right; returns the height of their middle."""
        left, right = _MARGIN + 3, WIDTH_MM - _MARGIN - 3
        widths = [max(1.0, _WIDEST * math.log2(1 + box.channels) / 12) for box in row]
        step = (right - left - sum(widths)) / max(1, len(row))
        centre = top + _HEAD + _TALLEST / 2
        if name:
            self.text(left, top + 3.2, name, ha="left", weight="bold", size=7)
        self.axes.plot((left, right), (centre, centre), color=QUIET, linewidth=0.5, zorder=0)
        below = centre + (_TALLEST if max(box.height for box in row) > 1 else 3) / 2
        names = short_names([box.name for box in row])
        small = min(5.0, 5.0 * (right - left) / (11 * max(1, len(row))))
        x = left
        for box, width in zip(row, widths, strict=True):
            x += step / 2
            tall = max(1.2, _TALLEST * math.log2(1 + max(box.height, box.width)) / math.log2(1 + self.largest))
            for behind in range(min(2, max(0, box.blocks - 1)), -1, -1):  # a stage looks like a pile
                shift = 0.7 * behind
                self.axes.add_patch(
                    Rectangle(
                        (x + shift, centre - tall / 2 - shift), width, tall, facecolor="white" if box.blocks else "0.9",
                        edgecolor="black", linewidth=0.5,
                    )
                )  # fmt: skip
            size = f"{box.channels:,}"
            if max(box.height, box.width) > 1:
                size += f" at\n{box.width} × {box.height}"
            times = f"{box.blocks} blocks\n" if box.blocks else ""
            self.text(x + width / 2, below + 2.4, names[box.name], size=small)
            self.text(x + width / 2, below + 2.9, f"{times}{size}", size=small, va="top", color=QUIET)
            x += width + step / 2
        return centre

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draws an arrow."""
        self.axes.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "linewidth": 0.5, "color": "black", "mutation_scale": 5}
        )

    def text(self, x: float, y: float, text: str, size: float = 6, **style: Any) -> None:
        """Writes text; `size` in points."""
        self.axes.text(x, y, text, size=size, family=self.face, **{"ha": "center", "va": "baseline"} | style)
