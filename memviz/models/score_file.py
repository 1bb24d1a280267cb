"""Scores in a CSV file, of which an interrupted or failed pass loses nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from memviz.artefacts import claim, locked, partial_folder
from memviz.files import check_file, replacing
from memviz.images import find_images, state
from memviz.models.model import Model, Scored, score_table, warn_unreadable

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-scores", 1
ROWS = "rows.jsonl"


def score_to_csv(
    model: Model,
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Scores photographs as `Model.score` does, and writes the table as a CSV file.

    Each batch's scores are kept in `<out>.partial` as they come. A pass that ends early, by Ctrl-C or an error, writes
    the CSV file of what was scored until then; the same call then continues, whatever ended the pass, and scores only
    what is missing, could not be read, or was changed since. Paths are absolute, so that `memviz.images.read_csv` reads
    the file wherever it lies, and quoted where they hold commas, quotes or line breaks (RFC 4180).

    Raises:
        StoreError: `<out>.partial` is of another model or of other weights, or another process writes there.
        ModelError, ImageError: as `Model.score` does.

    Example:
        >>> import memviz
        >>> score_to_csv(memviz.load_model("resmem"), "photos/", "scores.csv")  # doctest: +SKIP
    """
    check_file(out)
    given = [sources] if isinstance(sources, str | Path) else sources
    out, paths = Path(out), find_images([os.path.abspath(source) for source in given])
    # Before anything is read: a file that is changed later is scored again.
    states = {path: _read_state(path) for path in paths}
    partial = partial_folder(out)
    config = {"score_spec": model.score_spec.to_dict(), "target": model.target}
    claim(partial, model.manifest(KIND, FORMAT, config))
    with locked(partial):
        found = {
            path: Scored(path, score) for path, score, known in _read_rows(partial / ROWS) if states.get(path) == known
        }
        left = [path for path in states if path not in found]
        try:
            with (partial / ROWS).open("a", encoding="utf-8") as file:
                for batch in model.iter_scores(left, batch_size, workers, progress) if left else ():
                    for each in batch:
                        found[each.path] = each
                        if each.score is not None:
                            file.write(json.dumps([each.path, each.score, states[each.path]]) + "\n")
                    file.flush()
        finally:
            table = score_table((replace(found[path], place=0) for path in states if path in found), model.target)
            if len(table) or len(found) == len(states):
                _write_table(table, out)
        shutil.rmtree(partial)
    warn_unreadable(table.attrs["unreadable"])
    return table


def _read_state(path: str) -> list[int] | None:
    try:
        return [*state(path)]
    except OSError:  # reported as unreadable when its turn comes
        return None


def _read_rows(path: Path) -> list[tuple[str, float, list[int]]]:
    """The rows of an earlier pass. What does not end in a whole line, as a killed process leaves it, is cut off."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = []
    for line in whole.splitlines():
        with suppress(msgspec.MsgspecError):  # a line that is damaged, or has no number, is scored again
            rows.append(msgspec.json.decode(line, type=tuple[str, float, list[int]]))
    return rows


def _write_table(table: pd.DataFrame, out: Path) -> None:
    # Python's csv module quotes a name with a carriage return only from 3.13 on.
    odd = any("\r" in path for path in table["path"])
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL)
