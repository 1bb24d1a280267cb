"""The page and the figure of an accentuation: a strip of pictures with what the network makes of each."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import wrap

from memviz.artefacts import Manifest
from memviz.explanation.accentuate import DATA, FORMAT, KIND, Accentuation, Shot, load_accentuation
from memviz.explanation.subject import CUTS
from memviz.files import replacing
from memviz.gallery.figure import save_sheet
from memviz.gallery.html import environment
from memviz.gallery.page import number
from memviz.gallery.sheet import QUIET, Sheet, mm

PAGE, FIGURES = "index.html", ("strip.png", "strip.pdf")
_LINE = 150  # signs of 6 points on 180 mm


def accentuation_page(folder: str | os.PathLike[str]) -> Path:
    """Writes `index.html`, `strip.png` and `strip.pdf` beside what `memviz.accentuate` saved in a folder.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        StoreError: there is no finished accentuation.
    """
    folder = Path(folder)
    found, manifest = load_accentuation(folder), Manifest.read(folder, KIND, FORMAT)
    _draw(found, folder)
    page = environment().get_template("accentuation.html")
    text = page.render(
        found=found, title=title(found), manifest=manifest, data=DATA, numbers=_numbers, name=_name, cuts=CUTS
    )
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(text.lstrip(), encoding="utf-8")
    return folder / PAGE


def title(found: Accentuation) -> str:
    """What the page asks."""
    more = "more" if found.direction == "up" else "less"
    if found.unit:
        return f"What would excite {found.unit} {more}?"
    return f"What would make it {more} memorable?" if found.target == "memorability" else f"What would score {more}?"


def _name(found: Accentuation, shot: Shot) -> str:
    """What a picture is, in a few words."""
    steps = found.strip[1:]
    names = {"before": "The photograph", "opposite": "The opposite change", "random": "A random change"}
    if shot.role == "step":
        return "The whole change" if shot == steps[-1] else f"{steps.index(shot) + 1} of {len(steps)} of the way"
    return names[shot.role]


def _numbers(shot: Shot) -> list[tuple[str, str]]:
    """What is told of a picture beside its score: names and values."""
    measured = shot.measured
    told = [("logit", measured.logit), ("peak", measured.peak)]
    rows = [(name, number(value)) for name, value in told if value is not None]
    rows.append(("cut at random", f"{number(measured.robust_low)} to {number(measured.robust_high)}"))
    if shot.role != "before":
        rows += [("distance", f"{measured.distance:.3f}"), ("pixels", f"{measured.rms:.1f} of 255")]
    return rows


def _draw(found: Accentuation, folder: Path) -> None:
    """The strip, and below it the controls, as a figure for a paper."""
    sheet = Sheet(folder)
    columns = max(len(found.strip), len(found.controls))
    gap = mm(1.5)
    width = (sheet.width - gap * (columns - 1)) // columns
    across, down = found.pictures[found.strip[0].file].size
    height = max(1, round(width * down / across))
    y = 0
    for shots in (found.strip, found.controls):
        for place, shot in enumerate(shots):
            x = place * (width + gap)
            sheet.picture(shot.file, x, y, width, height)
            sheet.text(x, y + height + mm(2.8), _name(found, shot), size=6, color=QUIET)
            sheet.text(x, y + height + mm(6), number(shot.measured.shown), weight="bold")
            for line, row in enumerate(_numbers(shot)):
                sheet.text(x, y + height + mm(8.6 + 2.3 * line), " ".join(row), size=5, color=QUIET)
        y += height + mm(9 + 2.3 * 4)
        sheet.grow_to(y)
    for text in wrap(f"{found.sentence[0].upper()}{found.sentence[1:]} {found.caution}", _LINE):
        sheet.text(0, sheet.height + mm(2.4), text, size=6, color=QUIET)
        sheet.grow_to(sheet.height + mm(2.8))
    save_sheet(sheet, folder, FIGURES, title(found))
