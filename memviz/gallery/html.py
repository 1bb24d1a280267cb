"""A gallery's page as one static HTML file."""

from __future__ import annotations

from urllib.parse import quote

import jinja2

from memviz.gallery.layouts import LAYOUTS
from memviz.gallery.page import Page, number, signed

_FIELD_GLYPH_LEAST = 0.15  # a field of a few pixels still shows as a dot


def to_html(page: Page) -> str:
    """The page as one HTML file with its style inside; it refers only to pictures beside it."""
    pages = environment()
    body = pages.from_string(LAYOUTS[page.layout].body)
    return pages.get_template("page.html").render(page=page, body=body).lstrip()


def environment(package: str = "memviz.gallery") -> jinja2.Environment:
    """What templates of pages are read and filled in by; whatever is filled in is escaped.

    Args:
        package: whose templates come first, before the galleries'.
    """
    pages = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each) for each in dict.fromkeys((package, "memviz.gallery"))]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"number": number, "signed": signed, "glyph": _glyph, "paragraphs": _paragraphs, "url": quote}
    return pages


def _glyph(share: float) -> float:
    """The side of the inner square that shows a field's share of the picture's side."""
    return min(1.0, max(_FIELD_GLYPH_LEAST, share))


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
