"""Pictures inside HTML: a widget refers to no file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from memviz.gallery.pictures import jpeg

ACROSS = 16  # of a sheet, units in a row
_SHEET = ACROSS * ACROSS
_FEW, _LARGE, _SMALL = 128, 64, 48  # up to how many units a sheet has large pictures; their sides, in pixels
_QUALITY, _SHEET_QUALITY = 82, 74  # of JPEG; of a sheet of 4,096 units it decides whether a notebook stays small


def data_uri(picture: Image.Image, side: int, quality: int = _QUALITY) -> str:
    """A picture as JPEG in a data URI, made smaller where its longer side has more than `side` pixels.

    >>> data_uri(Image.new("RGB", (300, 200)), 64)[:23]
    'data:image/jpeg;base64,'
    """
    if max(picture.size) > side:
        picture = ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture.convert('RGB'), quality)).decode()}"


@dataclass(frozen=True)
class Cell:
    """A unit in a sheet.

    Attributes:
        unit: its name.
        channel: its number.
        text: what is known of it, briefly.
        absent: why it has no picture; empty where it has one.
    """

    unit: str
    channel: int
    text: str
    absent: str


@dataclass(frozen=True)
class Sheet:
    """Small pictures of units in rows of `ACROSS`, or of fewer where there are fewer, as one picture.

    Attributes:
        cells: one a picture, row by row.
        uri: of the picture.
        across: how many are in a row.
        size: (width, height) in pixels.
    """

    cells: tuple[Cell, ...]
    uri: str
    across: int
    size: tuple[int, int]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells row by row."""
        return [self.cells[start : start + self.across] for start in range(0, len(self.cells), self.across)]


def cell_side(count: int) -> int:
    """The side of small pictures of so many units, in pixels."""
    return _LARGE if count <= _FEW else _SMALL


def sheets(cells: Sequence[Cell], faces: Sequence[Image.Image | None]) -> list[Sheet]:
    """Sheets of units' small pictures, which are squares of `cell_side(len(cells))` pixels, or None."""
    side, across = cell_side(len(cells)), min(ACROSS, len(cells))
    made = []
    for start in range(0, len(cells), _SHEET):
        shown = cells[start : start + _SHEET]
        picture = Image.new("RGB", (across * side, -(-len(shown) // across) * side), "white")
        for place, face in enumerate(faces[start : start + _SHEET]):
            if face is not None:
                picture.paste(face, (place % across * side, place // across * side))
        made.append(Sheet(tuple(shown), data_uri(picture, max(picture.size), _SHEET_QUALITY), across, picture.size))
    return made
