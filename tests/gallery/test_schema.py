from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memviz.errors import RecipeError
from memviz.gallery.recipe import load_recipe, parse_recipe

HEAD = 'title = "t"\nmodel = "resmem"\nlayout = "grid"\n'
PANEL = '[[panels]]\nlayer = "a"\nunits = [0]\n'


def document(**change: Any) -> dict[str, Any]:
    plain = {"title": "t", "model": "resmem", "layout": "grid", "panels": [{"layer": "a", "units": [0]}]} | change
    return {key: value for key, value in plain.items() if value is not None}


def panel(**change: Any) -> dict[str, Any]:
    return document(panels=[{"layer": "a", "units": [0]} | change])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (document(layuot="grid"), "r.toml: unknown key 'layuot'. Close names: layout"),
        (document(title=None), "r.toml: 'title' is missing"),
        (document(title=""), "r.toml, title is ''; it can be text"),
        (document(model=3), "r.toml, model is 3; it can be text"),
        (document(columns=0), "columns is 0; it can be a whole number >= 1"),
        (document(columns=1000000000), "columns is 1000000000; it can be a whole number <= 40"),
        (document(columns=True), "columns is True; it can be a whole number"),
        (document(columns=10**10000), "columns is a number of thousands of digits; it can be a whole number <= 40"),
        (document(render=3), "render is 3; it can be a table"),
        (document(panels={}), "panels is {}; it can be a list of tables, each under [[panels]]"),
        (document(panels=[3]), "panels[0] is 3; it can be a"),
        (document(rows=[{"lfet": {}}]), "r.toml, rows[0]: unknown key 'lfet'. Close names: left"),
        (document(panels=[{"layer": "a"}]), "r.toml, panels[0]: 'units' is missing"),
        (panel(units=[]), "panels[0].units is []; it can be a list of channel numbers, as [0, 5], or"),
        (panel(units="selective:0"), "panels[0].units is 'selective:0'; it can be a list of channel numbers"),
        (panel(units="selective:9999999999"), "units is 'selective:9999999999'; it can be"),
        (panel(lowest="yes"), "panels[0].lowest is 'yes'; it can be true or false"),
        (panel(units=[-1]), "panels[0].units[0] is -1; it can be a list of channel numbers"),
        (panel(units=[10**10000]), "units[0] is a number of thousands of digits; it can be"),
        (panel(layer=["a"]), "panels[0].layer is ['a']; it can be text"),
        (panel(options={"head": 3}), "panels[0].options"),
        (panel(lable="x"), "panels[0]: unknown key 'lable'. Close names: label"),
    ],
)
def test_what_does_not_fit_is_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(data, "r.toml")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 300


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize("key", ["render", "panels", "options", "units"])
def test_a_nested_document(key: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(document(**{key: nested(100_000)}))


@pytest.mark.parametrize(
    "text",
    [
        "title = ",
        "a = " + "[" * 50_000,
        "a = " + "{a = " * 50_000,
        "columns = " + "9" * 10_000,
        "columns = 0x" + "f" * 10_000 + "\n" + PANEL,
        "a" + ".a" * 40_000 + " = 1",
        "\n".join(f"[x{n}" + ".a" * 95 + "]" for n in range(450)),
        "intro = '" + "x" * 1_000_000 + "'",
        "intro = '\0'",
        PANEL + "options = { head = 3 }",
    ],
    ids=["nothing", "lists", "tables", "digits", "hex digits", "dots", "lines of dots", "large", "null", "option"],
)
def test_a_file_that_is_no_recipe_is_refused_quickly(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(HEAD + text)
    start = time.monotonic()
    with pytest.raises(RecipeError, match=r"r\.toml"):
        load_recipe(tmp_path / "r.toml")
    assert time.monotonic() - start < 5


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        load_recipe(tmp_path / "figure.toml")
    (tmp_path / "figure1.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(RecipeError, match=r"Close names: figure1\.toml"):
        load_recipe(tmp_path / "figure.toml")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for path in (tmp_path / "figure1.toml", tmp_path, tmp_path / "loop"):
        with pytest.raises(RecipeError, match="cannot be read as TOML"):
            load_recipe(path)


def test_a_process_that_has_read_a_recipe_ends_well(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(HEAD + PANEL)
    code = "import sys; from memviz.gallery.recipe import load_recipe; load_recipe(sys.argv[1])"
    # C's own allocator ends a process that frees what is not its own; Python's only sometimes does.
    checked = os.environ | {"PYTHONMALLOC": "malloc"}
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "r.toml"], env=checked, check=False)
    assert ended.returncode == 0
