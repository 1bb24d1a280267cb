from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from memviz.gallery.page import Group, Page, Photo, Section, Unit, to_html

PHOTO = Photo("images/top1.jpg", 'a "b" <i>&.jpg', 2.0, 0.81234, ring=(40.0, 60.0))
UNIT = Unit("net.conv", 5, "net.conv:5", "a", "ok", "images/net.conv-0005.png", 4.6, 1.0, 2.0, (PHOTO,))


def unit(peak: float | None, best: float | None, state: str = "ok") -> Unit:
    return dataclasses.replace(UNIT, peak=peak, best=best, state=state)


def page(*units: Unit, layout: str = "grid") -> Page:
    group = Group("net.conv", "net@1", "Conv2d", False, 8, (9, 9), (11, 11), 0.05, units)
    sections = (Section("First", (group,)),)
    provenance = {"created": "2026-01-01T00:00:00+00:00", "versions": {"memviz": "0"}}
    return Page("<T>", layout, 5, "One.\n\nTwo & three.", "", "net", "ab" * 32, "memorability", 7, sections, provenance)


@pytest.mark.parametrize(
    ("peak", "best", "state", "verdict", "succeeds"),
    [
        (4.6, 2.0, "ok", "2.3× the best photograph", True),
        (4.6, 2.0, "redirected", "2.3× the best photograph", True),
        (1.94, 2.0, "ok", "0.97× the best photograph", False),
        (0.5, -0.2, "ok", "No photograph excites it, its picture does", True),
        (0.5, 0.0, "ok", "No photograph excites it, its picture does", True),
        (-0.1, -0.2, "ok", "Neither picture nor photograph excites it", False),
        (-0.1, 2.0, "ok", "Its own picture does not excite it", False),
        (0.5, None, "ok", "No photograph to compare with", False),
        (0.0, 2.0, "dead", "Dead: nothing to draw", False),
    ],
)
def test_verdict(peak: float, best: float | None, state: str, verdict: str, succeeds: bool) -> None:
    made = unit(peak, best, state)
    assert (made.verdict, made.succeeds) == (verdict, succeeds)


@pytest.mark.parametrize(
    ("peak", "best", "bar"),
    [
        (4.0, 2.0, {"left": 0, "width": 100, "best": 50}),
        (1.0, 2.0, {"left": 0, "width": 50, "best": 100}),
        (3.0, -1.0, {"left": 25, "width": 75, "best": 0}),
        (-1.0, 3.0, {"left": 0, "width": 25, "best": 100}),
        (-1.0, -2.0, {"left": 50, "width": 50, "best": 0}),
        (0.0, 0.0, None),
        (1.0, None, None),
    ],
)
def test_the_bar_starts_at_zero(peak: float, best: float | None, bar: dict[str, float] | None) -> None:
    assert unit(peak, best).bar == bar


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("layout", ["grid", "photographs", "branches"])
def test_html_is_whole_and_accessible(layout: str) -> None:
    html = to_html(page(UNIT, layout=layout))
    elements = Elements(html)
    assert all(picture["alt"] for picture in elements.all("img"))
    assert not re.search(r"https?://|<script|url\(|@import", html)
    identities = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert "net.conv:5" in identities
    assert len(identities) == len(set(identities))
    inner = {(a["href"] or "")[1:].replace("%3A", ":") for a in elements.all("a") if (a["href"] or "").startswith("#")}
    assert inner <= set(identities)
    assert len(elements.all("h1")) == 1


def test_names_are_escaped() -> None:
    html = to_html(page(UNIT))
    assert "<i>" not in html
    assert "<T>" not in html
    (link,) = [a for a in Elements(html).all("a") if "activation" in (a.get("title") or "")]
    assert link["title"] == 'a "b" <i>&.jpg, activation 2.00, predicted memorability 0.81'


def test_a_dead_unit_is_a_labelled_tile() -> None:
    dead = dataclasses.replace(UNIT, state="dead", picture=None, photos=())
    html = to_html(page(dead))
    assert "Dead unit" in html
    assert "<img" not in html


def test_what_is_noted() -> None:
    html = to_html(page(unit(4.6, 2.0, "redirected")))
    assert "redirected gradient" in html
    assert "2.3× the best photograph" in html
    assert "11 px" in html
    assert 'style="left:40.0%;top:60.0%"' in html
    assert "redirected gradient" not in to_html(page(UNIT))
