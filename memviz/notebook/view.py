"""What a widget shows, apart from how a front end shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2

from memviz.errors import NotebookError
from memviz.gallery.html import environment
from memviz.layers.unit import Unit
from memviz.notebook.saved import UnitFacts

if TYPE_CHECKING:
    from memviz.notebook.widget import Widget

Choices = Mapping[str, Unit]
"""The units that may be chosen, by their names, in the order shown."""


@dataclass(frozen=True)
class View:
    """A widget's content, as HTML of which everything that was filled in is escaped.

    Attributes:
        title: what it shows, in a line.
        choices: of the trait `unit`, and of `other` where two are shown side by side.
        chosen: of each, the one that is shown first; none where there are no units.
        body: what stays while units change; for a front end, or static.
        detail: of the chosen units, what is shown, and the same in words.
    """

    title: str
    choices: tuple[Choices, ...]
    chosen: tuple[str, ...]
    body: Callable[[bool], str]
    detail: Callable[[tuple[Unit, ...]], tuple[str, str]]


def show(view: View) -> Widget:
    """The widget that shows a view.

    Raises:
        NotebookError: the extra `notebook` is not installed.
    """
    try:
        from memviz.notebook.widget import Widget
    except ModuleNotFoundError as error:
        if error.name != "anywidget":
            raise
        raise NotebookError("Widgets need the package anywidget: pip install 'memviz[notebook]'.") from error
    return Widget(view)


def cards(*units: UnitFacts, notes: tuple[str, ...] = ()) -> tuple[str, str]:
    """Units side by side, as HTML and in words, with sentences below."""
    words = ". ".join((*(each.sentence for each in units), *notes))
    return fill("cards.html", units=units, notes=notes), words


def fill(template: str, **values: Any) -> str:
    """A template of this room, filled in."""
    return _pages().get_template(template).render(**values).strip()


@cache
def _pages() -> jinja2.Environment:
    return environment("memviz.notebook")
