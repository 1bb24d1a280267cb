"""What the figure of a gallery is drawn on, with matplotlib: 180 mm wide, measured in pixels at 300 dpi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Rectangle
from PIL import Image, ImageOps

from memviz.gallery.page import Card

DPI = 300
WIDTH_MM = 180  # two columns of most journals
# Faces that journals ask for; DejaVu comes with matplotlib.
_FACES = ("Arial", "Liberation Sans", "DejaVu Sans")
QUIET = "0.4"  # a grey


def mm(length: float) -> int:
    """Millimetres in pixels."""
    return round(length * DPI / 25.4)


def face() -> str:
    """The first of the faces that journals ask for which is installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next(name for name in _FACES if name in installed)


class Sheet:
    """A figure measured in pixels from its top left corner, so that pictures fall on whole pixels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.width, self.height = mm(WIDTH_MM), 0
        self.figure = Figure()
        # Otherwise the PDF merges all pictures into one.
        self.figure.suppressComposite = True
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.face = face()

    def grow_to(self, height: int) -> None:
        """Makes the figure at least so high."""
        self.height = max(self.height, height)
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.figure.set_size_inches(self.width / DPI, self.height / DPI)

    def text(self, x: float, y: float, text: str, size: float = 7, **style: Any) -> None:
        """Writes a line; `size` in points."""
        font = FontProperties(family=self.face, size=size, weight=style.pop("weight", "normal"))
        self.axes.text(
            x, y, text, fontproperties=font, parse_math=False, **{"va": "baseline", "color": "black"} | style
        )

    def picture(self, file: str, x: int, y: int, width: int, height: int | None = None) -> None:
        """Draws a picture into a rectangle, by default a square."""
        height = height or width
        with Image.open(self.folder / file, formats=("PNG", "JPEG")) as image:
            # More than four times its own pixels only takes memory.
            share = min(1, 4 * max(image.size) / max(width, height))
            size = (round(width * share), round(height * share))
            padded = ImageOps.pad(image.convert("RGB"), size, Image.Resampling.LANCZOS, color="white")
        self.axes.imshow(np.asarray(padded), extent=(x, x + width, y + height, y), aspect="auto", interpolation="none")
        self.grow_to(y + height)

    def render(self, card: Card, x: int, y: int, side: int) -> None:
        """Draws a unit's picture, or why it has none."""
        if card.picture:
            self.picture(card.picture, x, y, side)
            return
        frame = Rectangle(
            (x + 2, y + 2), side - 4, side - 4, fill=False, edgecolor=QUIET, linewidth=0.5, linestyle=(0, (4, 3))
        )
        self.axes.add_patch(frame)
        self.text(x + side / 2, y + side / 2, card.absence[0], size=6, ha="center", va="center", color=QUIET)
        self.grow_to(y + side)

    def pair(self, card: Card, x: int, y: int, width: int) -> int:
        """A render beside its photographs in `width` pixels; returns the height."""
        gap = max(6, width // 90)
        side = (width - gap) // 2
        self.render(card, x, y, side)
        crop = (side - 2 * gap) // 3
        left = x + side + gap
        for place, photo in enumerate(card.photos):
            across, down = left + place % 3 * (crop + gap), y + place // 3 * (crop + gap)
            self.picture(photo.picture, across, down, crop)
            if photo.ring:
                centre = (across + photo.ring[0] / 100 * crop, down + photo.ring[1] / 100 * crop)
                for colour, line in (("black", 1.1), ("white", 0.6)):
                    ring = Circle(centre, crop * 0.09, fill=False, edgecolor=colour, linewidth=line)
                    self.axes.add_patch(ring)
                    ring.set_clip_path(Rectangle((across, down), crop, crop, transform=self.axes.transData))
        return side
