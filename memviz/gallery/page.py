"""A gallery's page as plain data, and its drawing as one static HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import jinja2

from memviz.layers.table import CONVOLUTIONS

FIELD_GLYPH_LEAST = 0.15  # a field of a few pixels still shows as a dot


@dataclass(frozen=True)
class Photo:
    """What a unit saw of one of its top photographs.

    Attributes:
        picture: file of the crop, relative to the page.
        name: file name of the photograph.
        value: the unit's activation on it.
        prediction: the model's own score of the photograph; None if the model gives none.
        ring: (left, top) in percent of the crop, the unit's place in a crop that is the whole picture.
    """

    picture: str
    name: str
    value: float
    prediction: float | None
    ring: tuple[float, float] | None


@dataclass(frozen=True)
class Unit:
    """One unit: its render, its best photographs, and how the two compare.

    Attributes:
        anchor: the link to it within the page; empty if it was already shown above.
        letter: its letter in the figure, or empty.
        state: `ok`, `redirected` (drawn with a redirected ReLU gradient) or `dead` (no gradient reaches it).
        picture: file of the render, relative to the page; None for a dead unit.
        peak, mean: the render's activation, its maximum and its mean over positions.
        best: activation of the best photograph; None without one.
    """

    address: str
    unit: int
    anchor: str
    letter: str
    state: str
    picture: str | None
    peak: float | None
    mean: float | None
    best: float | None
    photos: tuple[Photo, ...]

    @property
    def name(self) -> str:
        """`address:unit`."""
        return f"{self.address}:{self.unit}"

    @property
    def succeeds(self) -> bool:
        """Whether the render excites the unit more than any photograph (the criterion of Zimmermann et al. 2021)."""
        return self.peak is not None and self.best is not None and self.peak > max(self.best, 0.0)

    @property
    def verdict(self) -> str:
        """The render against the best photograph, in words; a ratio only where both are positive."""
        if self.state == "dead" or self.peak is None:
            return "Dead: nothing to draw"
        if self.best is None:
            return "No photograph to compare with"
        if self.best > 0 and self.peak > 0:
            return f"{ratio(self.peak / self.best)}× the best photograph"
        if self.best > 0:
            return "Its own picture does not excite it"
        if self.peak > 0:
            return "No photograph excites it, its picture does"
        return "Neither picture nor photograph excites it"

    @property
    def bar(self) -> dict[str, float] | None:
        """Places in percent on one scale that holds zero: `left` and `width` of the render, `best` photograph."""
        reached = 0.0 if self.peak is None or self.state == "dead" else self.peak
        if self.best is None:
            return None
        low, high = min(0.0, reached, self.best), max(0.0, reached, self.best)
        if high == low:
            return None
        zero, peak, best = (round(100 * (value - low) / (high - low), 2) for value in (0.0, reached, self.best))
        return {"left": min(zero, peak), "width": abs(peak - zero), "best": best}


@dataclass(frozen=True)
class Group:
    """The shown units of one layer, and the layer's place in the network."""

    address: str
    ordinal: str | None
    kind: str
    block: bool
    channels: int
    size: tuple[int, int]
    receptive_field: tuple[int, int] | None
    field_share: float
    units: tuple[Unit, ...]

    @property
    def field(self) -> str:
        """The receptive field in words."""
        if self.receptive_field is None:
            return "the whole picture"
        height, width = self.receptive_field
        size = f"{width:,} px" if height == width else f"{width:,} × {height:,} px"
        return f"{size}, the whole picture" if self.field_share >= 1 else size

    @property
    def facts(self) -> list[str]:
        """What one should know about the layer, briefly."""
        positions = f"{self.size[1]} × {self.size[0]} positions" if self.size != (1, 1) else "one position"
        kind = "residual block" if self.block else "convolution" if self.kind in CONVOLUTIONS else self.kind
        return [text for text in (self.ordinal, kind, f"{self.channels:,} units", positions) if text]


@dataclass(frozen=True)
class Section:
    """Groups side by side."""

    label: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Page:
    """The whole gallery: everything that the HTML page and the figure are drawn from."""

    title: str
    layout: str
    columns: int
    intro: str
    caption: str
    model: str
    weights: str
    target: str | None
    photographs: int
    sections: tuple[Section, ...]
    provenance: dict[str, Any]

    @property
    def units(self) -> list[Unit]:
        """All units, in the order in which they are shown."""
        return [unit for section in self.sections for group in section.groups for unit in group.units]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"kind": "memviz-gallery", "format": 1} | asdict(self)


def letters(count: int) -> list[str]:
    """The letters of a figure's panels.

    >>> letters(28)[0], letters(28)[-1]
    ('a', 'ab')
    """
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return [(alphabet[place // 26 - 1] if place >= 26 else "") + alphabet[place % 26] for place in range(count)]


def number(value: float | None) -> str:
    """An activation to three digits, with a true minus sign.

    >>> number(5.4321), number(-0.0213), number(1234.5), number(0)
    ('5.43', '−0.0213', '1,234', '0')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    size = abs(value)
    if size == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    text = f"{size:,.{decimals}f}" if decimals < 7 else f"{size:.1e}"
    return f"−{text}" if value < 0 else text


def ratio(value: float) -> str:
    """How many times, to two digits; near 1 to three, so that 0.97 does not read as 1.0.

    >>> ratio(2.345), ratio(0.97), ratio(0.042), ratio(12.4)
    ('2.3', '0.97', '0.04', '12')
    """
    if value >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 0.095 or 0.95 <= value < 1.05 else f"{value:.1f}"


def glyph(share: float) -> float:
    """The side of the inner square that shows a field's share of the picture's side."""
    return min(1.0, max(FIELD_GLYPH_LEAST, share))


def _paragraphs(text: str) -> Sequence[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def to_html(page: Page) -> str:
    """The page as one HTML file with its style inside; it refers only to pictures beside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("memviz.gallery"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "glyph": glyph,
        "paragraphs": _paragraphs,
        "url": quote,
    }
    return environment.get_template("page.html").render(page=page)
