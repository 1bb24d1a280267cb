"""Labels that a person writes: a CSV, or a TOML file, with the fields unit, label, by and note.

As CSV, from a spreadsheet or by hand, in UTF-8, with commas or semicolons, columns in any order, others ignored::

    unit,label,by,note
    resnet.layer3.20:5,dog faces,AN,
    resnet@139:7,none,AN,"looked at 16 crops, ""nothing"" in common"

As TOML::

    [[label]]
    unit = "resnet.layer3.20:5"
    label = "dog faces"
    by = "AN"

A label of `none` says that a person looked and found no name; an empty one, that nobody did. What a person wrote is
never changed: `add_entries` writes new lines below it.
"""

from __future__ import annotations

import csv
import io
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from memviz.errors import LabelError, LayerError, did_you_mean, shown
from memviz.files import replacing
from memviz.layers import LayerTable
from memviz.layers.unit import Unit

FIELDS = ("unit", "label", "by", "note")
NONE = "none"
_Row = tuple[int, Mapping[str, str]]


@dataclass(frozen=True)
class Entry:
    """What a person wrote of a unit.

    Attributes:
        unit: which.
        label: in words; `none` where the person looked and found no name, empty where nothing was written.
        by: who wrote it.
        note: anything else.
        line: of the file, from 1; 0 where it comes from none.
    """

    unit: Unit
    label: str
    by: str = ""
    note: str = ""
    line: int = 0


def read_entries(path: str | os.PathLike[str], layers: LayerTable) -> dict[Unit, Entry]:
    """The entries of a person's file, by unit, in its order; those without a label too.

    Args:
        path: a file that ends in .csv or .toml.
        layers: of the index that they are about, which know the units.

    Raises:
        LabelError: the file cannot be read, is no such file, names a unit that the index does not watch, or a unit
            twice; the message names the line.

    Example:
        >>> from memviz.layers import Layer
        >>> layers = LayerTable([Layer("conv", "Conv2d", 8, 1, 1, None, None, None, "@1", False)])
        >>> path = getfixture("tmp_path") / "labels.csv"
        >>> _ = path.write_text('unit,label\\nconv:3,"stripes, upright"\\n@1:4,none\\n')
        >>> [(str(entry.unit), entry.label) for entry in read_entries(path, layers).values()]
        [('conv:3', 'stripes, upright'), ('conv:4', 'none')]
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".toml": _read_toml}
    if path.suffix.lower() not in readers:
        raise LabelError(f"{path}: labels are in a .csv or a .toml file. Give one of these.")
    entries: dict[Unit, Entry] = {}
    for line, row in readers[path.suffix.lower()](path, _read_text(path)):
        try:
            unit = Unit.parse(row["unit"].strip(), layers)
        except LayerError as error:
            raise LabelError(f"{path}, line {line}: {error}") from error
        if unit in entries:
            raise LabelError(
                f"{path}, line {line}: {unit} was labelled in line {entries[unit].line} already. Keep one of the two."
            )
        label, by, note = (row.get(name, "") for name in FIELDS[1:])
        entries[unit] = Entry(unit, label if label.strip() else "", by, note, line)
    return entries


def add_entries(path: str | os.PathLike[str], entries: Iterable[Entry]) -> None:
    """Writes entries below what is in a CSV file, which stays as it is; makes the file where there is none.

    Raises:
        LabelError: the file cannot be read, or is no CSV of labels.
    """
    path, entries = Path(path), list(entries)
    before = _read_text(path) if path.exists() else ""
    header, delimiter = list(FIELDS), ","
    if before.strip():
        header, delimiter = _header(path, before)
        if lacking := [name for name in FIELDS if name not in header and any(getattr(each, name) for each in entries)]:
            raise LabelError(f"{path} has no column {', '.join(lacking)}, which new labels need. Add it to line 1.")
        if not before.endswith(("\n", "\r")):
            before += "\r\n"
    below = io.StringIO()
    writer = csv.DictWriter(below, header, restval="", extrasaction="ignore", delimiter=delimiter)
    if not before:
        writer.writeheader()
    for each in entries:
        writer.writerow({name: str(getattr(each, name)) for name in FIELDS})
    with replacing(path) as temporary:
        # With a byte order mark, without which a spreadsheet takes UTF-8 for something else; and line ends as they are.
        temporary.write_bytes((before + below.getvalue()).encode("utf-8-sig"))


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{path} is not in UTF-8 ({error}). Save it again as UTF-8.") from error


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """The columns of a CSV file, and what stands between them: spreadsheets of many countries write semicolons."""
    first = text.split("\n")[0].strip("\r")
    delimiter = max(",;\t", key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    for name in ("unit", "label"):
        if name not in header:
            raise LabelError(
                f"{path}, line 1: there is no column {name!r} in {shown(first)}. Begin with {','.join(FIELDS)}."
            )
        if header.count(name) > 1:
            raise LabelError(f"{path}, line 1: the column {name!r} occurs twice. Keep one of the two.")
    return header, delimiter


def _read_csv(path: Path, text: str) -> Iterator[_Row]:
    if not text.strip():
        raise LabelError(f"{path} is empty. Begin with {','.join(FIELDS)}.")
    header, delimiter = _header(path, text)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    line = 1
    try:
        for row in rows:
            first, line = line, rows.line_num + 1  # a cell in quotes may go over several lines
            if first == 1 or not any(cell.strip() for cell in row):
                continue
            if len(row) > len(header) and any(row[len(header) :]):
                raise LabelError(
                    f"{path}, line {first}: {len(row)} cells, where line 1 has {len(header)} columns. Put text with a "
                    f"{delimiter!r} into double quotes."
                )
            yield first, dict(zip(header, [*row, *[""] * len(header)], strict=False))
    except csv.Error as error:
        raise LabelError(f"{path}, line {line}: {error}. Write a quote in a text as two double quotes.") from error


def _read_toml(path: Path, text: str) -> Iterator[_Row]:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LabelError(f"{path} is no TOML file: {error}.") from error
    tables = content.pop("label", [])
    if content:
        raise LabelError(f"{path}: {shown(next(iter(content)))} is unknown. Begin each label with [[label]].")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise LabelError(f"{path}: begin each label with a line [[label]].")
    places = _find_lines(path, text, len(tables))
    for line, table in zip(places, tables, strict=True):
        if unknown := [name for name in table if name not in FIELDS]:
            raise LabelError(f"{path}, line {line}: {shown(unknown[0])} is unknown. {did_you_mean(unknown[0], FIELDS)}")
        if wrong := [name for name in ("unit", "label") if name not in table]:
            raise LabelError(f"{path}, line {line}: the {wrong[0]} is missing.")
        if texts := [name for name, value in table.items() if not isinstance(value, str)]:
            raise LabelError(f"{path}, line {line}: {texts[0]} = {shown(table[texts[0]])} is no text in quotes.")
        yield line, table


def _find_lines(path: Path, text: str, count: int) -> list[int]:
    """The lines of a TOML file at which its labels begin; tomllib does not tell them."""
    lines = text.split("\n")
    heads = [number for number, line in enumerate(lines, 1) if "".join(line.split()).startswith("[[label]]")]
    if len(heads) > count:  # some are within a text: up to one of these, the file is not whole
        known: dict[int, int] = {}
        for number in heads:
            with suppress(tomllib.TOMLDecodeError):
                known.setdefault(len(tomllib.loads("\n".join(lines[:number]))["label"]), number)
        heads = list(known.values())
    if len(heads) != count:
        raise LabelError(f"{path}: begin each label with a line [[label]].")
    return heads
