"""How a gallery is laid out: one class a layout, which is registered by being written.

A layout says what a recipe must hold for it, how its page is put together (a Jinja template, which uses the macros of
`templates/page.html`), and how its figure is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from memviz.gallery.page import Card, Group, Page, signed, times
from memviz.gallery.sheet import QUIET, Sheet, mm

LAYOUTS: dict[str, Layout] = {}


class Layout:
    """One way to lay a gallery out.

    Attributes:
        name: what a recipe calls it.
        table: what it is made of in a recipe: `panels` (one beneath the other) or `rows` (of a left and a right one).
        lettered: whether each unit has a letter, by which a caption can name it.
        body: the page's main part, as a Jinja template: `plate()` shows the renders alone, `contents()` links to the
            layers, `sections()` shows each unit beside its photographs, `caption()` is the figure's.
    """

    name: ClassVar[str]
    table: ClassVar[str] = "panels"
    lettered: ClassVar[bool] = True
    body: ClassVar[str] = "{{ sections() }}{{ caption() }}"

    def __init_subclass__(cls) -> None:
        LAYOUTS[cls.name] = cls()

    def draw(self, sheet: Sheet, page: Page) -> None:
        """Draws the page's figure."""
        raise NotImplementedError


class Grid(Layout):
    """A plate of renders."""

    name = "grid"
    body = "{{ plate() }}{{ sections() }}"

    def draw(self, sheet: Sheet, page: Page) -> None:
        """Rows of `page.columns` renders, each with its letter below."""
        gap, line = mm(2.5), mm(5)
        side = (sheet.width - gap * (page.columns - 1)) // page.columns
        for place, card in enumerate(page.cards):
            x, y = place % page.columns * (side + gap), place // page.columns * (side + line)
            sheet.render(card, x, y, side)
            sheet.text(x + side / 2, y + side + mm(3.2), f"({card.letter})", ha="center")
            sheet.grow_to(y + side + mm(4))


class Photographs(Layout):
    """Each render beside its nine top photographs."""

    name = "photographs"

    def draw(self, sheet: Sheet, page: Page) -> None:
        """Two units a row."""
        gap = mm(6)
        columns = min(2, len(page.cards))
        width = (sheet.width - gap * (columns - 1)) // columns
        for place, card in enumerate(page.cards):
            x, y = place % columns * (width + gap), place // columns * (width // 2 + mm(7))
            height = sheet.pair(card, x, y, width)
            sheet.text(x + width / 2, y + height + mm(3.4), f"({card.letter})", ha="center")
            sheet.grow_to(y + height + mm(4.2))


class Branches(Layout):
    """Rows of two layers side by side."""

    name = "branches"
    table = "rows"
    lettered = False
    body = "{{ contents() }}{{ sections() }}{{ caption() }}"

    def draw(self, sheet: Sheet, page: Page) -> None:
        """A half of the width for each layer, two units beside each other in it; a layer alone has the whole width."""
        gap, between = mm(2.2), mm(6)
        half = (sheet.width - between) // 2
        width = (half - gap) // 2
        y = 0
        for section in page.sections:
            below = y
            paired = len(section.groups) > 1
            for group, x in zip(section.groups, (0, half + between), strict=False):
                self._head(sheet, group, x, y, half)
                line = y + mm(4)
                for cards in _chunks(group.cards, 2 if paired else 4):
                    for place, card in enumerate(cards):
                        left = x + place % 2 * (width + gap) + place // 2 * (half + between)
                        height = sheet.pair(card, left, line, width)
                        compared = f"   {times(card.ratio)}" if card.ratio else ""
                        drive = "" if card.drive is None else f"   drive {signed(card.drive)}"
                        text = f"unit {card.channel}{compared}{drive}"
                        sheet.text(left, line + height + mm(2.4), text, 6, color=QUIET)
                    line += height + mm(3.6)
                below = max(below, line)
            sheet.grow_to(below)
            y = below + mm(1.6)

    def _head(self, sheet: Sheet, group: Group, x: int, y: int, width: int) -> None:
        title = f"{group.network}  {group.address}".strip()
        sheet.text(x, y + mm(2.6), title, size=7, weight="bold")
        sheet.text(x + width, y + mm(2.6), f"sees {group.field}", size=6, ha="right", color=QUIET)


def _chunks(cards: tuple[Card, ...], size: int) -> Iterator[tuple[Card, ...]]:
    for start in range(0, len(cards), size):
        yield cards[start : start + size]
