"""A gallery's page drawn as a figure for a paper, with matplotlib: 180 mm wide, PNG at 300 dpi and PDF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Rectangle
from PIL import Image, ImageOps

from memviz.gallery.page import Group, Page, Unit, ratio

DPI = 300
WIDTH_MM = 180  # two columns of most journals
# Faces that journals ask for; DejaVu comes with matplotlib.
_FACES = ("Arial", "Liberation Sans", "DejaVu Sans")
_QUIET = "0.4"
# What a user's matplotlibrc must not change here; Type 42 fonts, since publishers refuse Type 3.
_SETTINGS: Any = {"pdf.fonttype": 42, "text.usetex": False, "savefig.bbox": None}


def save_figures(page: Page, folder: Path) -> None:
    """Writes figure.png and figure.pdf into `folder`, which holds the page's pictures.

    Neither pyplot nor matplotlib's settings are changed.
    """
    figure = draw(page, folder)
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(folder / "figure.png", dpi=DPI, facecolor="white")
        # Without a date, the same gallery gives the same file.
        metadata = {"Title": page.title, "Creator": "memviz", "CreationDate": None}
        figure.savefig(folder / "figure.pdf", dpi=DPI, facecolor="white", metadata=metadata)


def draw(page: Page, folder: Path) -> Figure:
    """The figure of a page whose pictures lie in `folder`."""
    layout = {"grid": _grid, "photographs": _photographs, "branches": _branches}[page.layout]
    sheet = _Sheet(folder)
    layout(sheet, page)
    return sheet.figure


def _mm(length: float) -> int:
    return round(length * DPI / 25.4)


class _Sheet:
    """A figure measured in pixels from its top left corner, so that pictures fall on whole pixels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.width, self.height = _mm(WIDTH_MM), 0
        self.figure = Figure()
        # Otherwise the PDF merges all pictures into one.
        self.figure.suppressComposite = True
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        installed = {font.name for font in font_manager.fontManager.ttflist}
        self.face = next(face for face in _FACES if face in installed)

    def grow_to(self, height: int) -> None:
        self.height = max(self.height, height)
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.figure.set_size_inches(self.width / DPI, self.height / DPI)

    def text(self, x: float, y: float, text: str, size: float = 7, **style: Any) -> None:
        font = FontProperties(family=self.face, size=size, weight=style.pop("weight", "normal"))
        self.axes.text(
            x, y, text, fontproperties=font, parse_math=False, **{"va": "baseline", "color": "black"} | style
        )

    def picture(self, file: str, x: int, y: int, side: int) -> None:
        with Image.open(self.folder / file, formats=("PNG", "JPEG")) as image:
            square = ImageOps.pad(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS, color="white")
        pixels = np.asarray(square)
        self.axes.imshow(pixels, extent=(x, x + side, y + side, y), aspect="auto", interpolation="none")
        self.grow_to(y + side)

    def render(self, unit: Unit, x: int, y: int, side: int) -> None:
        if unit.picture:
            self.picture(unit.picture, x, y, side)
            return
        frame = Rectangle(
            (x + 2, y + 2), side - 4, side - 4, fill=False, edgecolor=_QUIET, linewidth=0.5, linestyle=(0, (4, 3))
        )
        self.axes.add_patch(frame)
        self.text(x + side / 2, y + side / 2, "dead unit", size=6, ha="center", va="center", color=_QUIET)
        self.grow_to(y + side)

    def pair(self, unit: Unit, x: int, y: int, width: int) -> int:
        """A render beside its photographs in `width` pixels; gives the height."""
        gap = max(6, width // 90)
        side = (width - gap) // 2
        self.render(unit, x, y, side)
        crop = (side - 2 * gap) // 3
        left = x + side + gap
        for place, photo in enumerate(unit.photos):
            across, down = left + place % 3 * (crop + gap), y + place // 3 * (crop + gap)
            self.picture(photo.picture, across, down, crop)
            if photo.ring:
                centre = (across + photo.ring[0] / 100 * crop, down + photo.ring[1] / 100 * crop)
                for colour, line in (("black", 1.1), ("white", 0.6)):
                    ring = Circle(centre, crop * 0.09, fill=False, edgecolor=colour, linewidth=line)
                    self.axes.add_patch(ring)
                    ring.set_clip_path(Rectangle((across, down), crop, crop, transform=self.axes.transData))
        return side


def _grid(sheet: _Sheet, page: Page) -> None:
    gap, line = _mm(2.5), _mm(5)
    side = (sheet.width - gap * (page.columns - 1)) // page.columns
    for place, unit in enumerate(page.units):
        x, y = place % page.columns * (side + gap), place // page.columns * (side + line)
        sheet.render(unit, x, y, side)
        sheet.text(x + side / 2, y + side + _mm(3.2), f"({unit.letter})", ha="center")
        sheet.grow_to(y + side + _mm(4))


def _photographs(sheet: _Sheet, page: Page) -> None:
    gap = _mm(6)
    columns = min(2, len(page.units))
    width = (sheet.width - gap * (columns - 1)) // columns
    for place, unit in enumerate(page.units):
        x, y = place % columns * (width + gap), place // columns * (width // 2 + _mm(7))
        height = sheet.pair(unit, x, y, width)
        sheet.text(x + width / 2, y + height + _mm(3.4), f"({unit.letter})", ha="center")
        sheet.grow_to(y + height + _mm(4.2))


def _branches(sheet: _Sheet, page: Page) -> None:
    gap, between = _mm(2.2), _mm(6)
    half = (sheet.width - between) // 2
    width = (half - gap) // 2
    y = 0
    for section in page.sections:
        below = y
        paired = len(section.groups) > 1
        for group, x in zip(section.groups, (0, half + between), strict=False):
            _head(sheet, group, x, y)
            line = y + _mm(4)
            for units in _chunks(group.units, 2 if paired else 4):
                for place, unit in enumerate(units):
                    left = x + place % 2 * (width + gap) + place // 2 * (half + between)
                    height = sheet.pair(unit, left, line, width)
                    _label(sheet, unit, left, line + height + _mm(2.4))
                line += height + _mm(3.6)
            below = max(below, line)
        sheet.grow_to(below)
        y = below + _mm(1.6)


def _head(sheet: _Sheet, group: Group, x: int, y: int) -> None:
    sheet.text(x, y + _mm(2.6), group.address, size=7, weight="bold")
    end = x + (sheet.width - _mm(6)) // 2
    sheet.text(end, y + _mm(2.6), f"sees {group.field}", size=6, ha="right", color=_QUIET)


def _label(sheet: _Sheet, unit: Unit, x: int, y: int) -> None:
    compared = (
        f"   {ratio(unit.peak / unit.best)}×" if unit.peak and unit.best and min(unit.peak, unit.best) > 0 else ""
    )
    sheet.text(x, y, f"unit {unit.unit}{compared}", size=6, color=_QUIET)


def _chunks(units: tuple[Unit, ...], size: int) -> Iterator[tuple[Unit, ...]]:
    for start in range(0, len(units), size):
        yield units[start : start + size]
