"""An explained photograph as a figure for a paper: the photograph, its map, and bars of what raises and lowers."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from matplotlib.patches import Rectangle

from memviz.explanation.record import Contribution, Explanation, LayerShare
from memviz.gallery.figure import save_sheet
from memviz.gallery.overlay import gradient
from memviz.gallery.page import number
from memviz.gallery.sheet import QUIET, Sheet, mm

FIGURES = ("figure.png", "figure.pdf")
_LINE = 150  # signs of 6 points on 180 mm
_PICTURE, _GAP = 52, 4  # mm
_NAME = 24  # signs of a name
_ROW, _BARS = 3.6, 14  # mm of a row; rows at most


def save_figure(found: Explanation, folder: Path, picture: str, drawn: str, title: str) -> None:
    """Writes figure.png and figure.pdf into a folder that holds the photograph and its map under these names."""
    sheet = Sheet(folder)
    assert found.picture is not None
    across, down = found.picture.size
    # Within a square: what is high is narrower.
    width = min(mm(_PICTURE), round(mm(_PICTURE) * across / down))
    height = max(1, round(width * down / across))
    for place, (file, name) in enumerate(((picture, found.photograph), (drawn, "What raises and what lowers it"))):
        x = place * mm(_PICTURE + _GAP)
        sheet.text(x, mm(2.6), name if len(name) <= 34 else f"{name[:33]}…", weight="bold")
        sheet.picture(file, x, mm(4), width, height)
    _colour_bar(sheet, mm(_PICTURE + _GAP), mm(4) + height + mm(1.5), width)
    told = [f"{found.what} {found.score:.3f}"]
    if found.percentile is not None:
        told.append(f"percentile {found.percentile:.1f} of {found.ranked} photographs")
    for line, text in enumerate(told):
        sheet.text(0, mm(7.2 + 2.6 * line) + height, text, size=6, color=QUIET)
    shown = found.named or found.layers[-1:]
    if shown:
        left = 2 * mm(_PICTURE + _GAP)
        _bars(sheet, shown[0], left, sheet.width - left)
    sheet.grow_to(max(sheet.height, mm(4) + height + mm(8)))
    notes = [*found.sentences, *(f"{part} of these weights: {text}." for part, text in found.findings.items())]
    for text in (line for note in notes for line in wrap(note, _LINE)):
        sheet.text(0, sheet.height + mm(2.4), text, size=6, color=QUIET)
        sheet.grow_to(sheet.height + mm(2.8))
    save_sheet(sheet, folder, FIGURES, title)


def _colour_bar(sheet: Sheet, x: int, y: int, width: int) -> None:
    colours = gradient(41)
    step = width / len(colours)
    for place, colour in enumerate(colours):
        # A little wider, so that no light shows between two.
        sheet.axes.add_patch(Rectangle((x + place * step, y), step * 1.2, mm(1.6), color=colour, linewidth=0))
    sheet.axes.add_patch(Rectangle((x, y), width, mm(1.6), fill=False, edgecolor=QUIET, linewidth=0.3))
    for share, text, align in ((0.0, "lowers", "left"), (0.5, "0", "center"), (1.0, "raises", "right")):
        sheet.text(x + share * width, y + mm(4), text, size=6, ha=align, color=QUIET)
    sheet.grow_to(y + mm(5))


def _bars(sheet: Sheet, layer: LayerShare, x: int, width: int) -> None:
    """A bar for each shown unit, from the one that raises most to the one that lowers most."""
    half = _BARS // 2
    rows = [*layer.raising[:half], *layer.lowering[:half][::-1]]
    what = "classes" if any(each.name for each in rows) else "units"
    sheet.text(x, mm(2.6), f"Contributions of {what} ({layer.address})", weight="bold")
    most = max((abs(each.contribution) for each in rows), default=1.0)
    names, figures = mm(24), mm(9)
    room = (width - names - figures) / 2
    zero = x + names + room
    for place, each in enumerate(rows):
        y = mm(4 + _ROW * place)
        sheet.text(x, y + mm(2.3), _short(each), size=6)
        length = room * each.contribution / most
        colour = "#b2182b" if each.contribution > 0 else "#2166ac"
        bar = Rectangle((min(zero, zero + length), y + mm(0.7)), abs(length), mm(2), color=colour, linewidth=0)
        sheet.axes.add_patch(bar)
        sheet.text(x + width, y + mm(2.3), number(each.contribution), size=6, ha="right", color=QUIET)
    if rows:
        bottom = mm(4 + _ROW * len(rows))
        sheet.axes.plot([zero, zero], [mm(4), bottom], color=QUIET, linewidth=0.4)
        sheet.grow_to(bottom)


def _short(each: Contribution) -> str:
    name = each.name or each.unit
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
