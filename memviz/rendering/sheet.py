"""A contact sheet: many pictures at one look, each with its label."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

GAP, MARGIN, LABEL = 12, 24, 20
INK, QUIET, PAPER, TILE = "#1a1a1a", "#6b6b6b", "#ffffff", "#f1f1ef"
# From how many pictures on a sheet has thumbnails, and how large they are: 2,048 units make 2,444 x 6,188 px.
MANY, THUMBNAIL = 256, 64


def contact_sheet(
    pictures: Sequence[Image.Image | str], labels: Sequence[str], title: str = "", columns: int | None = None
) -> Image.Image:
    """Pictures of one size in rows, labelled below.

    Args:
        pictures: of one size; a text, as "dead", stands on a tile in place of one. More than 256 become thumbnails.
        labels: one each; a long one is cut to 60 characters, and the columns are as wide as the longest.
        title: above all.
        columns: in a row; about as many as rows by default, 8 at most, or 32 thumbnails.
    """
    many = len(pictures) > MANY
    cell = max((max(picture.size) for picture in pictures if not isinstance(picture, str)), default=128)
    cell = min(cell, THUMBNAIL) if many else cell
    columns = columns or min(32 if many else 8, max(1, math.ceil(math.sqrt(len(pictures)))))
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
        if isinstance(picture, str):
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=TILE)
            draw.text((left + cell / 2, top + cell / 2), picture, fill=QUIET, font=small, anchor="mm")
        else:
            sheet.paste(ImageOps.contain(picture, (cell, cell)) if many else picture, (left, top))
        draw.text((left, top + cell + 4), label, fill=INK, font=small)
    return sheet
