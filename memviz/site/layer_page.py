"""A layer's page: all its units as small pictures, which come in sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from memviz.gallery.pictures import jpeg
from memviz.layers import Layer
from memviz.layers.unit import LIVE
from memviz.site.describe import UnitFacts
from memviz.site.files import write

SIDE, ACROSS = 96, 8  # of a small picture, in pixels; of pictures in a sheet's row
_SHEET = ACROSS * ACROSS
_QUALITY = 80
STRIP_COUNT = 12  # of a layer's units on the home page


@dataclass(frozen=True)
class Cell:
    """A unit on its layer's page.

    Attributes:
        channel: which.
        face: the file beside its page that stands for it; empty where there is none.
        text: its label, or its class's name.
        selectivity: how many standard deviations its best photograph lies above its mean.
        ratio: its picture's peak to the best photograph's; None where that says nothing.
        drive: how much more it adds to the logit where it is one standard deviation more active; None if unknown.
        dead: whether no photograph moves it.
    """

    channel: int
    face: str
    text: str
    selectivity: float
    ratio: float | None
    drive: float | None
    dead: bool

    @property
    def sheet(self) -> str:
        """The file of the sheet that it is on."""
        return f"sheet-{self.channel // _SHEET}.jpg"

    @property
    def corner(self) -> tuple[int, int]:
        """Its left and top on the sheet, in pixels."""
        down, across = divmod(self.channel % _SHEET, ACROSS)
        return across * SIDE, down * SIDE


@dataclass(frozen=True)
class LayerPage:
    """A layer: what it is, and a cell for each unit.

    Attributes:
        layer, place, finding, field: the layer, its folder, what a checkup found, what it sees in words.
        cells: one a unit.
        labelled, drawn, live, succeed: how many have a label, have a picture; of those that were drawn, how many a
            photograph excites, and of these how many pictures excite them more.
    """

    layer: Layer
    place: str
    finding: str
    field: str
    cells: tuple[Cell, ...]
    labelled: int
    drawn: int
    live: int
    succeed: int

    @classmethod
    def of(
        cls, layer: Layer, place: str, finding: str, field: str, units: Sequence[UnitFacts], faces: Sequence[str]
    ) -> LayerPage:
        """From what its units' pages say."""
        cells = tuple(
            Cell(
                unit.card.channel,
                face,
                unit.card.label or unit.name,
                (unit.card.best - unit.mean) / unit.std if unit.std > 0 else 0.0,
                unit.card.ratio,
                unit.card.drive,
                not unit.card.varies,
            )
            for unit, face in zip(units, faces, strict=True)
        )
        # Of units that nobody drew, no picture could succeed.
        tried = [unit for unit in units if any(not each["lowest"] for each in unit.pictures)]
        live = [unit for unit in tried if unit.card.best > LIVE]
        drawn = [unit for unit in units if unit.card.picture]
        succeed = sum(unit.card.succeeds for unit in live)
        labelled = sum(bool(unit.card.label) for unit in units)
        return cls(layer, place, finding, field, cells, labelled, len(drawn), len(live), succeed)

    @property
    def address(self) -> str:
        """The layer's."""
        return self.layer.address

    @property
    def driven(self) -> bool:
        """Whether it is known what its units do to the score."""
        return any(cell.drive is not None for cell in self.cells)

    @property
    def strip(self) -> list[Cell]:
        """The units that stand for the layer on the home page: the strongest drivers, or the most selective."""
        known = [cell for cell in self.cells if cell.face and not cell.dead]

        def weight(cell: Cell) -> float:
            return abs(cell.drive) if cell.drive is not None else cell.selectivity

        return sorted(known, key=weight, reverse=True)[:STRIP_COUNT]


def write_sheets(folder: Path, page: LayerPage) -> None:
    """Writes the sheets of small pictures of a layer's page, and the strip that stands for it on the home page."""
    for start in range(0, len(page.cells), _SHEET):
        cells = page.cells[start : start + _SHEET]
        sheet = Image.new("RGB", (ACROSS * SIDE, -(-len(cells) // ACROSS) * SIDE), "#808080")
        for cell in cells:
            if cell.face:
                sheet.paste(_small(folder / str(cell.channel) / cell.face), cell.corner)
        _write(folder / cells[0].sheet, sheet)
    if page.strip:
        strip = Image.new("RGB", (len(page.strip) * SIDE, SIDE))
        for place, cell in enumerate(page.strip):
            strip.paste(_small(folder / str(cell.channel) / cell.face), (place * SIDE, 0))
        _write(folder / "strip.jpg", strip)


def _small(path: Path) -> Image.Image:
    with Image.open(path, formats=("JPEG",)) as image:
        return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _write(path: Path, image: Image.Image) -> None:
    write(path, jpeg(image, _QUALITY))
