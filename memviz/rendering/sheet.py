"""A contact sheet: many pictures at one look, each with its label."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN, LABEL = 12, 24, 20
INK, QUIET, PAPER, TILE = "#1a1a1a", "#6b6b6b", "#ffffff", "#f1f1ef"


def contact_sheet(
    pictures: Sequence[Image.Image | None], labels: Sequence[str], title: str = "", columns: int | None = None
) -> Image.Image:
    """Pictures of one size in rows, labelled below; None is a tile that says "dead".

    Args:
        pictures: of one size.
        labels: one each; a long one is cut to 60 characters, and the columns are as wide as the longest.
        title: above all.
        columns: in a row; about as many as rows by default, 8 at most.
    """
    cell = max((max(picture.size) for picture in pictures if picture), default=128)
    columns = columns or min(8, max(1, math.ceil(math.sqrt(len(pictures)))))
    rows = math.ceil(len(pictures) / columns)
    small, large = ImageFont.load_default(13), ImageFont.load_default(18)
    labels = [textwrap.shorten(label, 60, placeholder=" ...") for label in labels]
    pitch = GAP + max([cell, *(math.ceil(small.getlength(label)) for label in labels)])
    head = 40 if title else 0
    # A title longer than a narrow sheet widens it.
    width = max(columns * pitch - GAP, math.ceil(large.getlength(title)))
    size = (2 * MARGIN + width, 2 * MARGIN + head + rows * (cell + LABEL + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=large)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left = MARGIN + place % columns * pitch
        top = MARGIN + head + place // columns * (cell + LABEL + GAP)
        if picture:
            sheet.paste(picture, (left, top))
        else:
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=TILE)
            draw.text((left + cell / 2, top + cell / 2), "dead", fill=QUIET, font=small, anchor="mm")
        draw.text((left, top + cell + 4), label, fill=INK, font=small)
    return sheet
