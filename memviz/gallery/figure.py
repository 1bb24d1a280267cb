"""A gallery's page as a figure for a paper: PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib

from memviz.files import replacing
from memviz.gallery.layouts import LAYOUTS
from memviz.gallery.page import Page
from memviz.gallery.sheet import DPI, QUIET, Sheet, mm

FIGURES = ("figure.png", "figure.pdf")
# What a user's matplotlibrc must not change here; Type 42 fonts, since publishers refuse Type 3.
_SETTINGS: Any = {"pdf.fonttype": 42, "text.usetex": False, "savefig.bbox": None}
_HIGHEST = 65_000  # px; matplotlib draws no picture of 2^16
_LINE = 150  # signs of 6 points on 180 mm


def save_figures(page: Page, folder: Path) -> None:
    """Writes figure.png and figure.pdf into `folder`, which holds the page's pictures.

    The PNG has 300 dpi, or less where it would be higher than 65,000 px. Neither pyplot nor matplotlib's settings are
    changed.
    """
    sheet = Sheet(folder)
    LAYOUTS[page.layout].draw(sheet, page)
    for line in (line for finding in page.findings for line in wrap(finding, _LINE)):
        sheet.text(0, sheet.height + mm(2.8), line, size=6, color=QUIET)
        sheet.grow_to(sheet.height + mm(3.6))
    save_sheet(sheet, folder, FIGURES, page.title)


def save_sheet(sheet: Sheet, folder: Path, names: tuple[str, str], title: str) -> None:
    """Writes a sheet as PNG and PDF, under these names."""
    # Without a date, the same gallery gives the same file.
    metadata = {"Title": title, "Creator": "memviz", "CreationDate": None}
    with matplotlib.rc_context(_SETTINGS), replacing(folder / names[0]) as png, replacing(folder / names[1]) as pdf:
        sheet.figure.savefig(png, dpi=DPI * min(1, _HIGHEST / sheet.height), facecolor="white")
        sheet.figure.savefig(pdf, dpi=DPI, facecolor="white", metadata=metadata)
