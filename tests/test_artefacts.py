import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memviz.artefacts import (
    MANIFEST,
    Manifest,
    add_shard,
    check_folder,
    claim,
    heal,
    inside,
    locked,
    partial_folder,
    publish,
    shards,
)
from memviz.errors import StoreError
from memviz.files import write_json

HERE = Manifest("memviz-things", 1, "resmem", "a" * 64, {"size": (227, 227)}, {"steps": 3, "deep": {"k": 1}}, 0)


def changed(**fields):
    return Manifest(**{**{name: getattr(HERE, name) for name in HERE.__dataclass_fields__}, **fields})


def test_a_new_folder_is_claimed_and_the_same_claim_continues_it(tmp_path):
    made = claim(tmp_path / "out", HERE)
    assert made.created
    assert made.versions["memviz"]
    assert claim(tmp_path / "out", HERE) == made
    assert Manifest.read(tmp_path / "out", "memviz-things", 1) == made


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"config": {"steps": 4, "deep": {"k": 1}}}, "config.steps 3, not 4"),
        ({"config": {"steps": 3, "deep": {"k": 2}}}, "config.deep.k 1, not 2"),
        ({"weights": "b" * 64}, "weights aaaaaaaaaaaa..., not bbbbbbbbbbbb..."),
        ({"inputs": {"size": (224, 224)}}, "inputs.size"),
        ({"model": "memnet"}, "'resmem', not 'memnet'"),
        ({"seed": 1}, "seed 0, not 1"),
    ],
)
def test_another_result_is_refused_with_the_field(tmp_path, fields, said):
    claim(tmp_path, HERE)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match=said.replace(".", r"\.")):
        claim(tmp_path, changed(**fields))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_what_tells_nobody_anything_gets_words(tmp_path):
    claim(tmp_path, HERE)
    with pytest.raises(StoreError, match="made from other weights"):
        claim(tmp_path, changed(weights="b" * 64), {"weights": "made from other weights"})


def test_versions_and_result_are_not_compared(tmp_path):
    claim(tmp_path, HERE).finished(images=3).write(tmp_path)
    again = claim(tmp_path, changed(result={"images": 5}, created="today"))
    assert again.result == {"images": 3}


def test_other_folders_and_files_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StoreError, match=r"holds notes\.txt"):
        claim(tmp_path, HERE)
    with pytest.raises(StoreError, match="is a file"):
        claim(tmp_path / "notes.txt", HERE)
    with pytest.raises(StoreError, match="is a file"):
        check_folder(tmp_path / "notes.txt" / "below" / "it")
    claim(tmp_path / "out", HERE)
    with pytest.raises(StoreError, match="is a 'memviz-things'"):
        claim(tmp_path / "out", changed(kind="memviz-others"))
    with pytest.raises(StoreError, match="has format 1 of"):
        claim(tmp_path / "out", changed(format=2))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"kind": "memviz-things", "format": ' + b"9" * 10_000 + b"}",
        b'{"kind": "memviz-things", "format": 1, "config": ' + b'{"a":' * 50_000,
        b'{"kind": "memviz-things", "format": 1, "config": 3}',
        b'{"kind": "memviz-things", "format": 1, "weights": []}',
        b'{"kind": "memviz-things", "format": 1, "seed": 1.5}',
    ],
)
def test_damaged_manifests_are_store_errors(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError):
        claim(tmp_path, HERE)


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    code = (
        "import os, signal, sys\nfrom memviz.files import replacing\n"
        "with replacing(sys.argv[1] + '/shards/one.txt') as path:\n"
        "    path.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    claim(tmp_path, HERE)
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    killed = os.listdir(tmp_path / "shards")
    assert len(killed) == 1
    mine = tmp_path / "shards" / killed[0].replace(killed[0].split("-")[2], str(os.getpid()))
    mine.touch()
    assert shards(tmp_path) == []
    claim(tmp_path, HERE)
    assert os.listdir(tmp_path / "shards") == [mine.name]


def test_a_second_writer_is_told(tmp_path):
    with locked(tmp_path):
        with pytest.raises(StoreError, match="Another process is writing"), locked(tmp_path):
            pass
        code = "import sys, pathlib\nfrom memviz.artefacts import locked\nwith locked(pathlib.Path(sys.argv[1])): pass"
        other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
        assert "Another process is writing" in other.stderr
    with locked(tmp_path):
        pass


def test_many_claims_at_once_make_one_manifest(tmp_path):
    made, failed = [], []

    def work():
        try:
            made.append(claim(tmp_path / "out", HERE))
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(made) == 8
    assert all(manifest == made[0] for manifest in made)


def test_shards_are_immutable(tmp_path):
    add_shard(tmp_path, "b.txt", lambda path: path.write_text("first"))
    add_shard(tmp_path, "b.txt", lambda path: path.write_text("second"))
    add_shard(tmp_path, "a.txt", lambda path: path.write_text("other"))
    assert [path.name for path in shards(tmp_path)] == ["a.txt", "b.txt"]
    assert (tmp_path / "shards" / "b.txt").read_text() == "first"


def test_publishing_replaces_and_a_kill_between_is_healed(tmp_path):
    out = tmp_path / "out"
    for text in ("old", "new"):
        partial_folder(out).mkdir()
        write_json(partial_folder(out) / MANIFEST, {})
        (partial_folder(out) / "page").write_text(text)
        publish(out)
        assert (out / "page").read_text() == text
        assert os.listdir(tmp_path) == ["out"]
    os.replace(out, tmp_path / "out.previous")  # where a kill between the two renames leaves it
    heal(out)
    assert (out / "page").read_text() == "new"
    (tmp_path / "out.previous").mkdir()  # and one after them
    heal(out)
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / "out.previous").mkdir()
    (tmp_path / "out.previous" / "notes").write_text("somebody's own")
    heal(out)
    assert sorted(os.listdir(tmp_path)) == ["out", "out.previous"]


def test_the_lock_holds_until_the_result_is_in_its_place(tmp_path, monkeypatch):
    out = tmp_path / "out"
    partial_folder(out).mkdir()
    real = os.replace

    def replace(source, target):
        with pytest.raises(StoreError, match="Another process"), locked(Path(source)):
            pass
        real(source, target)

    with locked(partial_folder(out)):
        monkeypatch.setattr(os, "replace", replace)
        publish(out)
    assert os.listdir(out) == []


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "link/x", "\0"])
def test_names_from_files_stay_inside(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(StoreError):
        inside(tmp_path / "in", name)
    assert inside(tmp_path, "in/a.png") == tmp_path / "in" / "a.png"


def test_the_manifest_is_plain_json(tmp_path):
    claim(tmp_path, HERE)
    assert json.loads((tmp_path / "manifest.json").read_text())["config"] == {"steps": 3, "deep": {"k": 1}}


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with pytest.raises(StoreError, match=r"caf\\xe9 is not UTF-8. Give another folder"):
        claim(folder, Manifest("memviz-test", 1))
    assert not folder.exists()
