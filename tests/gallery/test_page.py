from __future__ import annotations

import dataclasses
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from fakes import CARD, GROUP, NETWORK, PHOTO, page, page_of

from memviz.gallery.html import to_html
from memviz.gallery.page import Card, NetworkFacts, letters


def card(peak: float | None, best: float, state: str = "ok") -> Card:
    picture = CARD.picture if state in ("ok", "redirected") else None
    photos = (dataclasses.replace(PHOTO, value=best),)
    return dataclasses.replace(CARD, peak=peak, photos=photos, state=state, picture=picture)


@pytest.mark.parametrize(
    ("peak", "best", "state", "verdict", "succeeds"),
    [
        (4.6, 2.0, "ok", "2.3× the best photograph", True),
        (4.6, 2.0, "redirected", "2.3× the best photograph", True),
        (1.94, 2.0, "ok", "0.97× the best photograph, which excites it more", False),
        (0.5, -0.2, "ok", "Its picture excites it, no photograph does", True),
        (0.5, 0.0, "ok", "Its picture excites it, no photograph does", True),
        (-0.1, -0.2, "ok", "Neither picture nor photograph excites it", False),
        (-0.1, 2.0, "ok", "Photographs excite it, its picture does not", False),
        (3.0, 2.0, "not excited", "No picture excites it, photographs do", False),
        (0.0, -0.1, "not excited", "No picture excites it, and no photograph", False),
        (0.0, 2.0, "dead", "No picture excites it, photographs do", False),  # so it is not dead
    ],
)
def test_verdict(peak: float, best: float, state: str, verdict: str, succeeds: bool) -> None:
    made = card(peak, best, state)
    assert (made.verdict, made.succeeds) == (verdict, succeeds)


@pytest.mark.parametrize(
    ("peak", "best", "bar"),
    [
        (4.0, 2.0, {"left": 0, "width": 100, "best": 50, "zero": 0}),
        (1.0, 2.0, {"left": 0, "width": 50, "best": 100, "zero": 0}),
        (3.0, -1.0, {"left": 25, "width": 75, "best": 0, "zero": 25}),
        (-1.0, 3.0, {"left": 0, "width": 25, "best": 100, "zero": 25}),
        (-1.0, -2.0, {"left": 50, "width": 50, "best": 0, "zero": 100}),
        (0.0, 0.0, None),
    ],
)
def test_the_bar_starts_at_zero(peak: float, best: float, bar: dict[str, float] | None) -> None:
    assert card(peak, best).bar == bar


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
    html = to_html(page_of(CARD, layout=layout))
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
    html = to_html(page_of(CARD))
    assert "<i>" not in html
    assert "<T>" not in html
    (link,) = [a for a in Elements(html).all("a") if "activation" in (a.get("title") or "")]
    assert link["title"] == 'a "b" <i>&.jpg, activation 2.00, predicted memorability 0.81'


def test_a_unit_without_a_picture_says_why() -> None:
    tried = card(0.0, 1.0, "not excited")
    dead = dataclasses.replace(card(0.0, 1.0, "dead"), varies=False)
    for shown, words in ((tried, "No gradient reached the pictures"), (dead, "Its activation is the same on every")):
        html = to_html(page_of(shown))
        assert words in html
        assert "Synthetic picture" not in html
    assert dead.verdict == "Dead: nothing changes its activation"


def test_what_is_noted() -> None:
    html = to_html(page_of(card(4.6, 2.0, "redirected")))
    assert "redirected gradient" in html
    assert "2.3× the best photograph" in html
    assert "11 px" in html
    assert 'style="left:40.0%;top:60.0%"' in html
    assert "redirected gradient" not in to_html(page_of(CARD))


def test_the_page_says_what_was_compared() -> None:
    assert page(GROUP).compared in unescape(to_html(page_of(CARD)))
    for words in ("preprocessing", "227 × 227 px", "repeated", "whose field lies inside the picture."):
        assert words in page(GROUP).compared
    whole = dataclasses.replace(GROUP, interior=False)
    assert page(whole).compared.endswith("over all positions.")
    assert page(GROUP, whole).compared.endswith("or, in layers that have no such position, over all positions.")


def test_several_networks_are_told_apart() -> None:
    other = NetworkFacts("other", "cd" * 32, 8, (224, 224))
    groups = [dataclasses.replace(GROUP, network=name, target=f"{name} score") for name in ("net", "other")]
    html = to_html(page(*groups, layout="branches", networks=(NETWORK, other)))
    for name in ("net", "other"):
        assert f'<span class="network">{name}</span>' in html
        assert f"predicted {name} score 0.81" in html
    assert "cdcdcdcdcdcd" in html
    assert "227 × 227 px or 224 × 224 px" in html


def test_letters_after_z() -> None:
    assert (letters(703)[25:28], letters(703)[701:]) == (["z", "aa", "ab"], ["zz", "aaa"])


def test_an_inhibited_units_bar_does_not_look_like_success() -> None:
    html = to_html(page_of(card(-0.1, 2.0)))
    assert 'class="reached below"' in html
    assert 'class="zero"' in html
    assert 'class="zero"' not in to_html(page_of(CARD))


def test_what_a_checkup_found_is_said_of_the_layer_and_in_one_sentence() -> None:
    found = "weights at their random start; no effect on the score"
    one, other = (dataclasses.replace(GROUP, address=name, finding=found) for name in ("net.conv", "net.other"))
    shown = page(one, other, one, dataclasses.replace(GROUP, address="net.last"))
    assert shown.findings == [f"net.conv, net.other: {found}."]
    assert to_html(shown).count('<p class="finding">Weights at their random start; no effect on the score</p>') == 3
    assert page(GROUP).findings == []
    assert 'class="finding"' not in to_html(page(GROUP))


def test_the_drive_is_told_with_its_sign_and_explained() -> None:
    html = to_html(page_of(dataclasses.replace(CARD, drive=0.0213), dataclasses.replace(CARD, drive=-0.004)))
    assert "<dt>drive</dt><dd>+0.0213</dd>" in html
    assert "<dt>drive</dt><dd>−0.00400</dd>" in html
    assert "Drive</strong> says what the unit does to the score" in html
    assert "rive</" not in to_html(page_of(CARD))
