"""The built site: whole, by itself, and about everything that is public."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import memviz

ROOT = Path(__file__).parents[2]
ROOMS = ["models", "layers", "images", "evaluation", "training", "rendering", "index", "explanation", "gallery"]
ROOMS += ["site", "notebook", "app", "cluster"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as CONTRIBUTING says; a broken link, or a parameter that there is not, ends it."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "docs/mkdocs.yml", "-d", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Requests(HTMLParser):
    """What a page loads: not where its links lead."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        place = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if place and attributes.get("rel") != "canonical":
            self.found.append(place)


def test_no_page_asks_another_host(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text())
        assert requests.found
        assert not [place for place in requests.found if re.match(r"(https?:)?//", place)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_each_public_name(site, room):
    page = (site / f"reference/{'photographs' if room == 'index' else room}.html").read_text()
    described = {each.rpartition(".")[2] for each in re.findall(r'<h2 id="(memviz\.[^"]+)"', page)}
    assert described == set(importlib.import_module(f"memviz.{room}").__all__)


def test_the_reference_begins_with_what_memviz_itself_has(site):
    page = (site / "reference/index.html").read_text()
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    assert set(re.findall(r"<td><a [^>]+><code>(\w+)</code>", table)) == set(memviz.__all__)


def test_the_page_of_the_command_line_has_each_command(site):
    from memviz.cli.commands import app

    page = (site / "reference/commands.html").read_text()
    names = {each.name or each.callback.__name__ for each in app.registered_commands}
    assert set(re.findall(r'<h2 id="([^"]+)"', page)) == names
    assert "--max-steps" in page


def test_a_docstring_keeps_its_sections_and_examples(site):
    page = (site / "reference/explanation.html").read_text()
    assert "<blockquote>" not in page  # what Markdown makes of a doctest
    assert "doctest:" not in page
    for room in ROOMS:
        text = (site / f"reference/{'photographs' if room == 'index' else room}.html").read_text()
        assert not re.search(r"<p>(Args|Returns|Raises|Attributes|Examples?):", text), room
