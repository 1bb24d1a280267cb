import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from indexes import FILES, same
from indexes import save_often as save_often

from memviz.artefacts import LOCK, locked, partial_folder
from memviz.errors import StoreError
from memviz.index import build, build_index, load_index
from memviz.index.scan import ScanState
from memviz.models import InputSpec, ScoreSpec


def interrupted(model, photos, out, monkeypatch, after=9, **options):
    """Ends a scan by Ctrl-C after some photographs."""
    seen = []

    def prepare(spec, image):
        seen.append(image)
        if len(seen) > after:
            raise KeyboardInterrupt
        return original(spec, image)

    original = InputSpec.pixels_from_pil
    with monkeypatch.context() as patch:
        patch.setattr(InputSpec, "pixels_from_pil", prepare)
        with pytest.raises(KeyboardInterrupt):
            build_index(model, photos, out=out, batch_size=2, workers=1, **options)
    assert not out.exists()


def test_interrupted_scan_continues_to_the_same_index(model, photos, tmp_path, monkeypatch):
    build_index(model, photos, out=tmp_path / "whole", batch_size=2, k=4)
    interrupted(model, photos, tmp_path / "index", monkeypatch, k=4)
    with pytest.raises(StoreError, match="interrupted"):
        load_index(tmp_path / "index")
    decoded = []
    original = InputSpec.pixels_from_pil
    monkeypatch.setattr(
        InputSpec, "pixels_from_pil", lambda spec, image: decoded.append(image) or original(spec, image)
    )
    build_index(model, photos, out=tmp_path / "index", batch_size=2, k=4)
    assert len(decoded) < 20
    assert same(tmp_path / "whole", tmp_path / "index")
    assert not (tmp_path / "index.partial").exists()


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import SIDE, Tiny
from memviz.index import build, build_index, scanner
from memviz.models import InputSpec, wrap
build.GIVE_EVERY_SECONDS = scanner.GIVE_EVERY_SECONDS = 0.0
scanner.BUFFER = 4
spec = InputSpec(size=(SIDE, SIDE), resize=28)
original = InputSpec.pixels_from_pil
def slow(self, image):
    time.sleep(0.1)
    return original(self, image)
InputSpec.pixels_from_pil = slow
model = wrap(Tiny(), spec, name="tiny", target="memorability")
build_index(model, {photos!r}, out={out!r}, k=4, batch_size=2, workers=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_scan_continues_to_the_same_index(model, photos, tmp_path):
    build_index(model, photos, out=tmp_path / "whole", batch_size=2, k=4)
    script = SCRIPT.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(tmp_path / "index"))
    process = subprocess.Popen([sys.executable, "-c", script])
    state = tmp_path / "index.partial" / "state.pt"
    try:
        while not state.exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "index").exists()
    assert 0 < ScanState.load(state).done < 20
    build_index(model, photos, out=tmp_path / "index", batch_size=2, k=4)
    assert same(tmp_path / "whole", tmp_path / "index")


def test_kill_while_the_index_is_written_leaves_nothing_under_its_name(model, photos, tmp_path, monkeypatch):
    def replace(source, target):
        if Path(target).name == "index":
            raise KeyboardInterrupt
        os.rename(source, target)

    build_index(model, photos, out=tmp_path / "whole", k=4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            build_index(model, photos, out=tmp_path / "index", k=4)
    assert not (tmp_path / "index").exists()
    build_index(model, photos, out=tmp_path / "index", k=4)
    assert same(tmp_path / "whole", tmp_path / "index")


def test_two_builders_of_one_index(model, photos, tmp_path):
    script = SCRIPT.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(tmp_path / "index"))
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        while not (tmp_path / "index.partial" / "state.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(StoreError, match="Another process is writing"):
            build_index(model, photos, out=tmp_path / "index", batch_size=2, k=4)
        assert process.wait() == 0
    finally:
        process.kill()
    assert build_index(model, photos, out=tmp_path / "index", k=4).result.photographs == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "photos"]


def test_leftovers_go_and_never_become_part_of_an_index(model, photos, tmp_path, monkeypatch):
    interrupted(model, photos, tmp_path / "index", monkeypatch, k=4)
    (tmp_path / "index.partial" / ".writing-0-1-x.parquet").touch()
    build_index(model, photos, out=tmp_path / "index", k=4, batch_size=2)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == sorted(["manifest.json", *FILES])
    # What a process leaves that was killed after another had published.
    shutil.copytree(tmp_path / "index", tmp_path / "index.partial")
    build_index(model, photos, out=tmp_path / "index", k=4)
    assert not (tmp_path / "index.partial").exists()


def test_damaged_state_is_an_error(model, photos, tmp_path, monkeypatch):
    interrupted(model, photos, tmp_path / "index", monkeypatch)
    (tmp_path / "index.partial" / "state.pt").write_bytes(b"PK")
    with pytest.raises(StoreError, match="damaged"):
        build_index(model, photos, out=tmp_path / "index", batch_size=2)


def test_the_lock_holds_until_the_index_is_there(model, photos, tmp_path, monkeypatch):
    out, publish = tmp_path / "index", build.publish

    def checked(folder):
        with pytest.raises(StoreError, match="Another process is writing"), locked(partial_folder(folder)):
            pass
        publish(folder)
        assert not (folder / LOCK).exists()

    monkeypatch.setattr(build, "publish", checked)
    build_index(model, photos, out=out, k=3)
    assert not partial_folder(out).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, photos: {"k": 5}, r"config\.k 4, not 5"),
        (lambda model, photos: {"layers": ["first"]}, r"config\.layers"),
        (lambda model, photos: (photos / "00.png").unlink(), "added, removed or changed"),
        (lambda model, photos: os.utime(photos / "00.png", (0, 0)), "added, removed or changed"),
        (lambda model, photos: model.module.first.bias.data.add_(1), "weights .*, not "),
        (
            lambda model, photos: setattr(model, "inputs", InputSpec(size=(24, 24), resize=30)),
            r"inputs\.resize 28, not 30",
        ),
        (
            lambda model, photos: setattr(model, "score_spec", ScoreSpec(scale=2.0)),
            r"config\.score_spec\.scale 1\.0, not 2\.0",
        ),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_index_of_something_else_is_refused(model, photos, tmp_path, monkeypatch, change, said, finished):
    if finished:
        build_index(model, photos, out=tmp_path / "index", k=4)
    else:
        interrupted(model, photos, tmp_path / "index", monkeypatch, k=4)
    changed = change(model, photos)
    options = {"k": 4} | (changed if isinstance(changed, dict) else {})
    with pytest.raises(StoreError, match=said) as caught:
        build_index(model, photos, out=tmp_path / "index", **options)
    assert "Give another folder" in str(caught.value)
