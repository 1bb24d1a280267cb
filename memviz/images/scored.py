"""Tables of photographs with memorability scores, whatever data set they come from.

A table is a `pandas.DataFrame` with a row a photograph and the columns `path` (absolute), `score` (in [0, 1]), `source`
(the data set), `category` (empty if there is none) and `file` (the name in the data set, with `/`). `source/file` is
the photograph's name in every machine's tables: splits are recorded by it. `table.attrs["dataset"]` says what it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from memviz.errors import ImageError
from memviz.files import MISNAMED, utf8_name

COLUMNS = ["path", "score", "source", "category", "file"]

# A CSV's column of scores: our own name for it, or, as `memviz score` writes it, that of what a model predicts.
TARGETS = ("score", "memorability", "false_alarm_rate")
# A file in the folder of a synthetic data set, so that no result on it is taken for a real one.
SYNTHETIC = "SYNTHETIC.txt"


def read_csv(path: str | Path, folder: str | Path | None = None, target: str | None = None) -> pd.DataFrame:
    """Reads the columns `path` and `target` of a CSV file as a table of scored photographs.

    Without a `target` it is the first of `score`, `memorability` and `false_alarm_rate` that the file has, so that what
    `memviz score` writes can be read. Relative paths are relative to `folder`, by default the CSV's own. The columns
    `source` and `category` are kept where there are any; else the source is the CSV's name without its extension.

    Raises `ImageError` for a file that is not such a CSV, a score that is no number from 0 to 1, or a path that occurs
    twice.

    >>> path = getfixture("tmp_path") / "faces.csv"
    >>> _ = path.write_text("path,score\\na.jpg,0.5\\nb/c.jpg,1\\n")
    >>> read_csv(path)[["score", "source", "file"]].values.tolist()
    [[0.5, 'faces', 'a.jpg'], [1.0, 'faces', 'b/c.jpg']]
    """
    path = Path(path)
    folder = path.parent if folder is None else Path(folder)
    given = read_columns(path, ["path", *([target] if target else [])])
    target = target or next((name for name in TARGETS if name in given), None)
    if target is None:
        raise ImageError(
            f"{path} has no column {', '.join(TARGETS)}; its columns are {', '.join(given.columns)}. Name the one with "
            "the scores: target='NAME', on the command line csv=FILE:NAME."
        )
    return scored(
        folder,
        "",
        files=given["path"],
        scores=given[target],
        sources=given.get("source", path.stem),
        categories=given.get("category", ""),
        dataset={"name": path.stem, "target": target, "citation": ""},
    )


def read_columns(path: Path, needed: list[str]) -> pd.DataFrame:
    """Reads a CSV file as text; one that cannot be read or lacks a `needed` column is an `ImageError`."""
    try:
        # As text: pandas would take a file called NA for a missing one, and 000123 for a number.
        given = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    except (ValueError, pd.errors.ParserError) as error:  # pandas' own errors, and text that is not UTF-8
        raise ImageError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if missing := [name for name in needed if name not in given]:
        raise ImageError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(given.columns)}.")
    return given


def scored(
    folder: Path,
    pictures: str,
    *,
    files: pd.Series,
    scores: pd.Series,
    sources: pd.Series | str,
    categories: pd.Series | str,
    dataset: dict[str, Any],
) -> pd.DataFrame:
    """Makes and checks the table of a data set in `folder`, whose `files` lie in its subfolder `pictures`."""
    if utf8_name(root := os.path.abspath(folder / pictures)) != root:
        raise ImageError(f"The photographs lie in {utf8_name(root)}: {MISNAMED}.")
    numbers = pd.to_numeric(scores, errors="coerce")
    table = pd.DataFrame({"score": numbers.astype("float64"), "source": sources, "category": categories})
    table["file"] = files.str.replace("\\", "/")
    table.insert(0, "path", [os.path.abspath(os.path.join(root, file)) for file in table["file"]])
    if wrong := [f"{row.file} ({scores[row.Index]})" for row in table[~numbers.between(0, 1)].itertuples()]:
        raise ImageError(f"Scores must be numbers from 0 to 1. {first_of(wrong)}.")
    if slashed := sorted({source for source in table["source"] if "/" in source or not source}):
        raise ImageError(f"A source needs a name without a slash, unlike {slashed[0]!r}.")
    if table.empty:
        raise ImageError(f"The data set {dataset['name']} has no photographs: its list is empty.")
    _refuse_duplicates(table)
    table.attrs["dataset"] = {**dataset, "synthetic": (folder / SYNTHETIC).exists()}
    return table


def mixed(*tables: pd.DataFrame) -> pd.DataFrame:
    """Concatenates `tables` into one, such as LaMem + MemCat in the paper.

    In `attrs["dataset"]` the names are joined by " + "; `sets` holds each table's own description.
    Raises `ImageError` where a file, or a name `source/file`, occurs twice.

    >>> folder = getfixture("tmp_path")
    >>> for name in ("one", "two"):
    ...     _ = (folder / f"{name}.csv").write_text(f"path,score\\n{name}.jpg,0.5\\n")
    >>> names(mixed(read_csv(folder / "one.csv"), read_csv(folder / "two.csv"))).tolist()
    ['one/one.jpg', 'two/two.jpg']
    """
    if not tables:
        raise ImageError("No data sets were given: name at least one.")
    sets = [table.attrs["dataset"] for table in tables]
    whole = pd.concat([table[COLUMNS] for table in tables], ignore_index=True)
    _refuse_duplicates(whole)
    whole.attrs = {
        "dataset": {
            name: " + ".join(each[name] for each in sets if each[name]) for name in ("name", "target", "citation")
        }
        | {"synthetic": any(each["synthetic"] for each in sets), "sets": sets}
    }
    return whole


def names(table: pd.DataFrame) -> pd.Series:
    """`source/file` of each row, the photograph's machine-independent name."""
    return table["source"] + "/" + table["file"]


def check_readable(table: pd.DataFrame) -> None:
    """Raises `ImageError` that counts the missing photographs and names the first five.

    Files are not decoded here: damaged ones are reported when they are read.
    """
    if missing := [path for path in table["path"] if not os.path.isfile(path)]:
        raise ImageError(f"Of {len(table)} photographs in the table, files are missing. {first_of(missing)}.")


def _refuse_duplicates(table: pd.DataFrame) -> None:
    for column in (table["path"], names(table)):
        if doubled := sorted(set(column[column.duplicated()])):
            raise ImageError(f"Photographs are listed twice, perhaps with two scores. {first_of(doubled)}.")


def first_of(wrong: list[str]) -> str:
    """How many there are, and the first five of them, for an error's message."""
    return f"{len(wrong)} of them: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
