import json
import os
import stat
import subprocess
import sys
from datetime import datetime

import pytest

from memviz.errors import StoreError
from memviz.files import provenance, read_json, replacing, write_json


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "deep" / "er" / "notes.json"
    path.parent.mkdir(parents=True)
    path.write_text("old")
    return path


def test_takes_the_place_in_the_end_and_not_before(target):
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_all_is_as_before(error, target):
    def interrupted():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == [target.name]


def test_after_a_kill_the_target_is_as_before(target):
    code = f"""
import os, signal
from memviz.files import replacing
with replacing({str(target)!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode < 0
    assert target.read_text() == "old"


def test_makes_the_folder(tmp_path):
    with replacing(tmp_path / "a" / "b" / "new.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "new.txt").read_text() == "x"


def test_others_may_read_it_as_if_open_had_made_it(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "ours"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


def test_json_round_trip_in_plain_text(tmp_path):
    content = {"größe": [1, 2.5, None, True], "b": {"c": "ü"}}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content
    assert "größe" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_what_is_no_json_leaves_the_old_file(target):
    with pytest.raises(TypeError):
        write_json(target, {"a": object()})
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"{} {}"])
def test_damaged_json_is_named(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.json is damaged .*Delete it"):
        read_json(tmp_path / "x.json")


def test_missing_json_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"x\.json does not exist"):
        read_json(tmp_path / "x.json")


def test_provenance_says_when_where_and_with_what():
    found = json.loads(json.dumps(provenance()))
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(found["created"])).total_seconds()) < 60
    assert {"memviz", "torch", "torchvision", "python"} <= set(found["versions"])
    assert all(found["versions"].values())
    assert sys.platform in found["platform"]
