"""A gallery's page as plain data, from which the HTML page and the figure are drawn."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from string import ascii_lowercase

from memviz.layers.table import CONVOLUTIONS
from memviz.layers.unit import Unit, ratio, succeeds


@dataclass(frozen=True)
class Photo:
    """What a unit saw of one of its top photographs.

    Attributes:
        picture: file of the crop, relative to the page.
        name: file name of the photograph.
        value: the unit's peak on it.
        prediction: the model's own score of the photograph; None if the model gives none.
        ring: (left, top) in percent of the crop, the unit's place in a crop that is the whole picture.
    """

    picture: str
    name: str
    value: float
    prediction: float | None
    ring: tuple[float, float] | None


@dataclass(frozen=True)
class Card:
    """One unit: its picture, its best photographs, and how the two compare.

    Attributes:
        address, channel: the unit.
        anchor: the link to it within the page.
        first: whether it was not shown above already.
        letter: its letter in the figure, or empty.
        state: of the rendering, as `memviz.rendering.record.State` describes it.
        picture: file of the picture, relative to the page; None where there is none.
        peak, mean: what the picture reaches, as `memviz.layers.unit` defines them.
        varies: whether its peak differs between photographs.
        photos: its best photographs, the best first; one at least.
        lowest: whether picture and photographs are those that lower it, the lowest first.
        drive: how much more it adds to the score's logit where it is one standard deviation more active; None where
            that was not surveyed.
        label: what the unit answers to, in words; empty where nobody knows, or where that is not shown.
        origin: whose label it is, and what speaks for it.
    """

    address: str
    channel: int
    anchor: str
    first: bool
    letter: str
    state: str
    picture: str | None
    peak: float | None
    mean: float | None
    varies: bool
    photos: tuple[Photo, ...]
    lowest: bool = False
    drive: float | None = None
    label: str = ""
    origin: str = ""

    @property
    def name(self) -> str:
        """`address:channel`."""
        return str(Unit(self.address, self.channel))

    @property
    def best(self) -> float:
        """Peak of the best photograph."""
        return self.photos[0].value

    @property
    def succeeds(self) -> bool:
        """Whether the picture excites the unit more than any photograph does, or less where that is shown."""
        if self.lowest:
            return self.picture is not None and self.peak is not None and self.peak < self.best
        return self.picture is not None and succeeds(self.peak, self.best)

    @property
    def ratio(self) -> float | None:
        """The picture's peak as a multiple of the best photograph's; None where that says nothing."""
        return ratio(self.peak, self.best) if self.picture and not self.lowest else None

    @property
    def dead(self) -> bool:
        """Whether its activation is constant: on all pictures tried, and on all photographs."""
        return self.state == "dead" and not self.varies

    @property
    def absence(self) -> tuple[str, str]:
        """Why there is no picture: in two words, and in a sentence."""
        if self.dead:
            return "dead unit", "Its activation is the same on every picture."
        return "not excited", "No gradient reached the pictures that were tried."

    @property
    def verdict(self) -> str:
        """The picture against the best photograph, in words."""
        if self.dead:
            return "Dead: nothing changes its activation"
        if self.lowest:
            if self.picture is None:
                return "No picture lowers it"
            return "Lower than on any photograph" if self.succeeds else "A photograph is lower"
        if self.picture is None:
            return f"No picture excites it, {'photographs do' if self.best > 0 else 'and no photograph'}"
        if self.ratio is not None:
            which = "" if self.succeeds else ", which excites it more"
            return f"{times(self.ratio)} the best photograph{which}"
        if self.best > 0:
            return "Photographs excite it, its picture does not"
        if self.succeeds:
            return "Its picture excites it, no photograph does"
        return "Neither picture nor photograph excites it"

    @property
    def bar(self) -> dict[str, float] | None:
        """Places in percent on one scale: `left` and `width` of the picture, the `best` photograph, and `zero`."""
        reached = self.peak if self.picture and self.peak is not None else 0.0
        low, high = min(0.0, reached, self.best), max(0.0, reached, self.best)
        if high == low:
            return None
        zero, peak, best = (round(100 * (value - low) / (high - low), 2) for value in (0.0, reached, self.best))
        return {"left": min(zero, peak), "width": abs(peak - zero), "best": best, "zero": zero}


@dataclass(frozen=True)
class Group:
    """The shown units of one layer, and the layer's place in the network.

    Attributes:
        network: what the page calls its network; empty where all are of one.
        target: what the network's score means; None if it gives none.
        address, ordinal, kind, block, channels, size, receptive_field: of the layer.
        field_share: the receptive field's share of the input's side, at most 1.
        interior: whether some position's field lies inside the picture, so that peaks are those of such positions.
        cards: the units.
        finding: what a checkup found of the layer's part of the network; empty where it is as it should be.
    """

    network: str
    target: str | None
    address: str
    ordinal: str | None
    kind: str
    block: bool
    channels: int
    size: tuple[int, int]
    receptive_field: tuple[int, int] | None
    field_share: float
    interior: bool
    cards: tuple[Card, ...]
    finding: str = ""

    @property
    def field(self) -> str:
        """The receptive field in words."""
        return field_words(self.receptive_field, self.field_share)

    @property
    def facts(self) -> list[str]:
        """What one should know about the layer, briefly."""
        positions = f"{self.size[1]} × {self.size[0]} positions" if self.size != (1, 1) else "one position"
        kind = "residual block" if self.block else "convolution" if self.kind in CONVOLUTIONS else self.kind
        units = "1 unit" if self.channels == 1 else f"{self.channels:,} units"
        return [text for text in (self.ordinal, kind, units, positions) if text]


@dataclass(frozen=True)
class Section:
    """Groups side by side."""

    label: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class NetworkFacts:
    """What the page says of a network: its name, the SHA-256 of its weights, the photographs searched, its input."""

    label: str
    weights: str
    photographs: int
    input_size: tuple[int, int]


@dataclass(frozen=True)
class Page:
    """The whole gallery: everything that the HTML page and the figure are drawn from."""

    title: str
    layout: str
    columns: int
    intro: str
    caption: str
    networks: tuple[NetworkFacts, ...]
    sections: tuple[Section, ...]
    created: str
    memviz: str

    @property
    def groups(self) -> list[Group]:
        """All layers, in the order in which they are shown."""
        return [group for section in self.sections for group in section.groups]

    @property
    def cards(self) -> list[Card]:
        """All units, in the order in which they are shown."""
        return [card for group in self.groups for card in group.cards]

    @property
    def findings(self) -> list[str]:
        """What checkups found of the shown layers, a sentence for each finding."""
        layers: dict[tuple[str, str], dict[str, None]] = {}
        for group in self.groups:
            if group.finding:
                layers.setdefault((group.network, group.finding), {})[group.address] = None
        return [f"{network} {', '.join(names)}: {text}.".strip() for (network, text), names in layers.items()]

    @property
    def compared(self) -> str:
        """What is compared when a picture is said to excite a unit more than a photograph, in a sentence."""
        sizes = dict.fromkeys(f"{width} × {height} px" for height, width in (each.input_size for each in self.networks))
        inside, everywhere = "the positions whose field lies inside the picture", "all positions"
        over = inside if any(group.interior for group in self.groups) else everywhere
        if over == inside and not all(group.interior for group in self.groups):
            over += f", or, in layers that have no such position, over {everywhere}"
        return (
            "Picture and photograph are compared as files: each goes through the model's own preprocessing into the "
            f"unchanged network, at its input size of {' or '.join(sizes)}, a picture repeated until it is as large as "
            f"a photograph; what counts is the unit's highest activation over {over}."
        )


def field_words(receptive_field: tuple[int, int] | None, share: float) -> str:
    """A receptive field (height, width), and its share of the input's side, in words.

    >>> field_words((11, 11), 0.05), field_words((811, 811), 1.0), field_words(None, 1.0)
    ('11 px', '811 px, the whole picture', 'the whole picture')
    """
    if receptive_field is None:
        return "the whole picture"
    height, width = receptive_field
    size = f"{width:,} px" if height == width else f"{width:,} × {height:,} px"
    return f"{size}, the whole picture" if share >= 1 else size


def letters(count: int) -> list[str]:
    """The letters of a figure's panels.

    >>> letters(28)[0], letters(28)[-1], letters(703)[-1]
    ('a', 'ab', 'aaa')
    """
    words = (word for length in itertools.count(1) for word in itertools.product(ascii_lowercase, repeat=length))
    return ["".join(word) for word in itertools.islice(words, count)]


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


def signed(value: float) -> str:
    """A number to three digits, with its sign.

    >>> signed(0.0213), signed(-0.0213), signed(0)
    ('+0.0213', '−0.0213', '0')
    """
    return f"+{number(value)}" if value > 0 else number(value)


def times(ratio: float) -> str:
    """How many times: to two decimals up to 1, so that 0.97 does not read as 1.0, and to two digits above.

    >>> times(2.345), times(0.97), times(0.042), times(0.0042), times(12.4)
    ('2.3×', '0.97×', '0.04×', '<0.01×', '12×')
    """
    if ratio >= 9.95:
        return f"{ratio:,.0f}×"
    return f"{ratio:.1f}×" if ratio >= 1.05 else f"{ratio:.2f}×" if ratio >= 0.005 else "<0.01×"
