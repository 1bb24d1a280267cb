"""A gallery is replaced in one step: the old one or the new one is there, and nothing else is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memviz
from memviz.artefacts import Manifest, locked, remove
from memviz.errors import StoreError
from memviz.gallery import Recipe, parse_recipe
from memviz.gallery import build as building
from memviz.index import Index

DATA: dict[str, Any] = {
    "title": "T",
    "model": "resmem",
    "layout": "grid",
    "render": {"size": 32, "steps": 128},
    "panels": [{"layer": "alexnet.conv2", "units": [5]}],
}
# Dies by SIGKILL when the old gallery has moved away, or in the middle of the first figure.
KILLED = """
import json, os, signal, sys
import memviz
from memviz.gallery import build, parse_recipe
real = os.replace
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def replace(source, target):
    real(source, target)
    if str(target).endswith(".previous"):
        die()
data, index, renders, out, when = sys.argv[1:]
if when == "renames":
    os.replace = replace
else:
    build.save_figures = die
memviz.build_gallery(parse_recipe(json.loads(data)), out=out, index=index, renders=renders)
"""


def recipe(**change: Any) -> Recipe:
    return parse_recipe(DATA | change)


@pytest.fixture(scope="module")
def built(index: Index, renders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "g"
    return Path(memviz.build_gallery(recipe(), out=out, index=index, renders=renders)).parent


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "g"))


def title(out: Path) -> str:
    return str(Manifest.read(out, building.KIND, building.FORMAT).config["title"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_again_replaces_the_gallery(out: Path, index: Index, renders: Path, tmp_path: Path) -> None:
    (out / "images" / "old.png").touch()
    (out / ".writing-from-a-killed-run").touch()
    memviz.build_gallery(recipe(title="Another"), out=out, index=index, renders=renders)
    assert title(out) == "Another"
    assert not (out / "images" / "old.png").exists()
    assert names(out) == ["figure.pdf", "figure.png", "gallery.json", "images", "index.html", "manifest.json"]
    assert names(tmp_path) == ["g"]


def test_an_interruption_leaves_what_was_there(
    out: Path, index: Index, renders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "save_figures", interrupted)
    for each in (tmp_path / "new", out):
        with pytest.raises(KeyboardInterrupt):
            memviz.build_gallery(recipe(title="Another"), out=each, index=index, renders=renders)
    assert names(tmp_path) == ["g"]
    assert title(out) == "T"


@pytest.mark.parametrize("when", ["renames", "figures"])
def test_the_next_call_heals_what_a_killed_one_left(
    when: str, out: Path, index: Index, renders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.dumps(DATA | {"title": "Killed"})
    arguments = [data, str(index.path), str(renders), str(out), when]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = ["g.partial", "g.previous"] if when == "renames" else ["g", "g.partial"]
    assert names(tmp_path) == left
    # Also a call that fails brings the old one back.
    with monkeypatch.context() as patch:
        patch.setattr(building, "save_figures", fails)
        with pytest.raises(OSError, match="disk"):
            memviz.build_gallery(recipe(), out=out, index=index, renders=renders)
    assert names(tmp_path) == ["g"]
    assert title(out) == "T"
    memviz.build_gallery(recipe(title="Next"), out=out, index=index, renders=renders)
    assert names(tmp_path) == ["g"]
    assert title(out) == "Next"


def fails(*_: Any) -> None:
    raise OSError("the disk is full")


def test_two_processes_do_not_build_it_at_once(out: Path, index: Index, renders: Path, tmp_path: Path) -> None:
    partial = tmp_path / "g.partial"
    partial.mkdir()
    with locked(partial), pytest.raises(StoreError, match="Another process is writing"):
        memviz.build_gallery(recipe(), out=out, index=index, renders=renders)
    assert title(out) == "T"


def test_a_kill_while_the_old_one_is_deleted(out: Path, built: Path, index: Index, renders: Path) -> None:
    """Its manifest goes last, by which it is known."""
    previous = Path(shutil.copytree(built, out.with_name("g.previous")))
    removed: list[str] = []

    def killed(path: Path) -> None:
        removed.append(path.name)
        if len(removed) == 5:
            raise KeyboardInterrupt
        real(path)

    real = Path.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(previous)
    assert removed[-1] == "manifest.json"
    memviz.build_gallery(recipe(), out=out, index=index, renders=renders)
    assert names(out.parent) == ["g"]


@pytest.mark.parametrize("place", ["g", "g.partial", "g.previous"])
def test_folders_that_hold_something_else_are_kept(place: str, index: Index, renders: Path, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for foreign in ("index.html", "notes.txt"):
        (folder / foreign).write_text("mine")
        with pytest.raises(StoreError, match=f"is no gallery: it holds {foreign}"):
            memviz.build_gallery(recipe(), out=tmp_path / "g", index=index, renders=renders)
        (folder / foreign).unlink() if foreign == "index.html" else None
    assert (folder / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == [place]


@pytest.mark.parametrize("place", ["g", "g.partial"])
def test_files_are_kept(place: str, index: Index, renders: Path, tmp_path: Path) -> None:
    (tmp_path / place).write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        memviz.build_gallery(recipe(), out=tmp_path / "g", index=index, renders=renders)
    with pytest.raises(StoreError, match="is a file"):
        memviz.build_gallery(recipe(), out=tmp_path / place / "below", index=index, renders=renders)
    assert (tmp_path / place).read_text() == "mine"


def test_another_kind_of_result_is_kept(index: Index, renders: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(index.path, tmp_path / "index", ignore=shutil.ignore_patterns("drivers"))
    with pytest.raises(StoreError, match="holds images"):
        memviz.build_gallery(recipe(), out=copy, index=index, renders=renders)
    for path in copy.glob("*.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match="is a 'memviz-index', not a 'memviz-gallery'"):
        memviz.build_gallery(recipe(), out=copy, index=index, renders=renders)


def test_what_the_gallery_is_made_of_is_kept(index: Index, renders: Path) -> None:
    for needed in (renders, index.path):
        with pytest.raises(StoreError, match="lies in it"):
            memviz.build_gallery(recipe(), out=needed, index=index, renders=renders)


def test_a_link_stays(out: Path, index: Index, renders: Path, tmp_path: Path) -> None:
    os.symlink(out, tmp_path / "link")
    page = memviz.build_gallery(recipe(title="Linked"), out=tmp_path / "link", index=index, renders=renders)
    assert page == tmp_path / "link" / "index.html"
    assert (tmp_path / "link").is_symlink()
    assert title(out) == "Linked"
    assert names(tmp_path) == ["g", "link"]
