"""The one widget: it shows fragments of HTML, and knows which unit somebody chose."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from memviz.errors import LayerError, MemvizError, did_you_mean
from memviz.layers.unit import Unit
from memviz.notebook.view import View, fill


class Widget(anywidget.AnyWidget):
    """Units of a network, for people to look at.

    Where no front end shows it, as on GitHub or in what nbconvert makes, it is static: what it showed when it was
    displayed.

    Attributes:
        unit: the unit that is shown, as "resnet.layer3.20:5"; somebody chooses it, or it is set.
        other: the second one where two are compared; else empty.

    Raises:
        LayerError: `unit` or `other` is set to one that is not among those shown.
    """

    _esm = fill("widget.js")
    _css = fill("widget.css")
    unit = traitlets.Unicode().tag(sync=True)
    other = traitlets.Unicode().tag(sync=True)
    _body = traitlets.Unicode().tag(sync=True)
    _detail = traitlets.Unicode().tag(sync=True)

    def __init__(self, view: View) -> None:
        self._view = view
        self._words = ""
        super().__init__(_body=view.body(True), **dict(zip(("unit", "other"), view.chosen, strict=False)))

    @traitlets.validate("unit", "other")
    def _known(self, proposal: Any) -> str:
        name, place = str(proposal["value"]), ("unit", "other").index(proposal["trait"].name)
        choices = self._view.choices[place] if place < len(self._view.choices) else {}
        if name not in choices:
            which = did_you_mean(name, choices) if choices else "There is no unit to choose."
            raise LayerError(f"{name!r} is not among the {len(choices):,} units of {self._view.title!r}. {which}")
        return name

    @traitlets.observe("unit", "other")
    def _show(self, _: Any) -> None:
        try:
            self._detail, self._words = self._view.detail(self._chosen)
        except MemvizError as error:
            # Errors in a callback are told in a log that few people see; the message may name the maker's folders.
            self._detail = fill("failed.html", kind=type(error).__name__)
            raise

    @property
    def _chosen(self) -> tuple[Unit, ...]:
        names = (self.unit, self.other)
        return tuple(choices[name] for name, choices in zip(names, self._view.choices, strict=False) if name)

    def to_html(self) -> str:
        """What it shows now, as HTML that needs no script and no file."""
        return fill("static.html", title=self._view.title, body=self._view.body(False), detail=self._detail)

    def __repr__(self) -> str:
        return f"memviz: {self._view.title}{f'. {self._words}' if self._words else ''}"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return data | {"text/plain": repr(self), "text/html": self.to_html()}, metadata
