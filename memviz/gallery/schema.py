"""A recipe as TOML may hold it. What does not fit is a `RecipeError`: where, what was given, and what is valid."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from memviz.errors import RecipeError, did_you_mean, shown

# A recipe is written by hand: what is larger is something else. The time to read a dotted key grows with the square of
# its dots, which all stand in one line.
_MOST_BYTES, _MOST_DOTS = 100_000, 100
_WIDEST = 40  # pictures beside each other that are still seen on a page of 180 mm

_CHOICE = re.compile(r"(selective|drivers|raising|lowering):[1-9][0-9]{0,6}", re.ASCII)

Text = Annotated[str, msgspec.Meta(min_length=1)]
# Layers of the largest networks have some thousand channels.
Channel = Annotated[int, msgspec.Meta(ge=0, lt=10_000_000)]
Channels = Annotated[list[Channel], msgspec.Meta(min_length=1)]


class Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A TOML table without keys that nobody reads."""


class SourceTable(Table, kw_only=True):
    """Which network, its index, and where the index's photographs lie."""

    model: Text | None = None
    weights: Text | None = None
    mean: Text | None = None
    options: dict[str, str] = {}
    index: Text | None = None
    photos: Text | None = None


class PanelTable(SourceTable, kw_only=True):
    """Units of one layer, and the network where it is not the recipe's."""

    layer: Text
    units: Channels | str
    lowest: bool = False

    def __post_init__(self) -> None:
        # No msgspec.Meta(pattern=...): beside a list in a union, msgspec 0.22 frees it as if it were a type, and the
        # interpreter may end with a segmentation fault.
        if isinstance(self.units, str) and not _CHOICE.fullmatch(self.units):
            raise ValueError("units")


class LabelledTable(PanelTable, kw_only=True):
    """A panel that is a row by itself."""

    label: str = ""


class RowTable(Table, kw_only=True):
    """Panels side by side."""

    label: str = ""
    left: PanelTable | None = None
    right: PanelTable | None = None


class RecipeTable(SourceTable, kw_only=True):
    """A whole recipe; [render] is read by `RenderConfig`."""

    title: Text
    model: Text
    layout: Text
    panels: list[LabelledTable] = []
    rows: list[RowTable] = []
    columns: Annotated[int, msgspec.Meta(ge=1, le=_WIDEST)] = 5
    intro: str = ""
    caption: str = ""
    render: dict[str, Any] = {}


_KEYS = sorted({key for kind in (RecipeTable, RowTable, LabelledTable) for key in kind.__struct_fields__})
# What msgspec says of a union, a pattern or an array tells a person little.
_WORDS = {
    "units": 'a list of channel numbers, as [0, 5], or "selective:5" for the five most selective ones; "drivers:8", '
    '"raising:4" or "lowering:4" for those that drive the score',
    "lowest": "true or false",
    "panels": "a list of tables, each under [[panels]]",
    "rows": "a list of tables, each under [[rows]]",
}


def read_toml(path: Path) -> dict[str, Any]:
    """The document in a TOML file.

    Raises:
        RecipeError: it is missing, not TOML, or larger or deeper than a recipe ever is.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES or max(line.count(b".") for line in content.split(b"\n")) > _MOST_DOTS:
            raise RecipeError(f"{path} is no recipe: those have at most {_MOST_BYTES:,} bytes, and lines of few dots.")
        return tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        near = sorted(file.name for file in path.parent.glob("*.toml"))
        hint = f" {did_you_mean(path.name, near)}" if near else ""
        raise RecipeError(f"There is no recipe {path}.{hint}") from None
    except RecursionError as error:
        raise RecipeError(f"{path} cannot be read as TOML: it is nested too deeply.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}.") from error
    except ValueError as error:  # Python reads no number of thousands of digits
        raise RecipeError(f"{path} cannot be read as TOML: it holds a number of thousands of digits.") from error


def read_table(data: Mapping[str, Any], where: str) -> RecipeTable:
    """A document as a recipe's tables.

    >>> read_table({"title": "Edges", "model": "resmem", "layout": "grid", "columns": 0}, "edges.toml")
    Traceback (most recent call last):
    memviz.errors.RecipeError: edges.toml, columns is 0; it can be a whole number >= 1.
    """
    try:
        return msgspec.convert(data, RecipeTable)
    except RecursionError as error:
        raise RecipeError(f"{where} is nested too deeply.") from error
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise RecipeError(_explained(data, where, message, path.strip("`."))) from None


def _explained(data: Any, where: str, message: str, path: str) -> str:
    if message in _WORDS:  # what a table itself refuses is told as the key
        path = f"{path}.{message}"
    place = f"{where}, {path}" if path else where
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return f"{place}: unknown key {shown(found[1])}. {did_you_mean(found[1][:40], _KEYS, most=10)}"
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"{place}: {found[1]!r} is missing."
    for name, number in re.findall(r"(\w+)|\[(\d+)\]", path):
        data = data[name or int(number)]
    key = re.findall(r"[a-z]+", path)[-1]
    valid = message.removeprefix("Expected ").partition(", got ")[0].replace(" of length >= 1", "")
    for theirs, ours in (("int", "a whole number"), ("str", "text"), ("object", "a table"), ("array", "a list")):
        valid = valid.replace(f"`{theirs}`", ours).replace(f"`{theirs} | null`", ours)
    return f"{place} is {shown(data)}; it can be {_WORDS.get(key, valid)}."
