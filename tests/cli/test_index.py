import pytest

import memviz as library


def test_makes_an_index(memviz, index, photos):
    opened = library.load_index(index)
    model = library.load_model("tiny", weights=None)
    assert [layer.address for layer in opened.layers] == [layer.address for layer in model.layers.watched()]
    assert opened.manifest.weights == model.fingerprint()
    assert opened.result.photographs == 12
    assert len(opened.top("alexnet.conv2:1")) == 9


def test_says_what_it_holds(memviz, tiny, photos, tmp_path):
    done = memviz(
        "index", tiny, photos, "--out", tmp_path / "x", "--layers", "alexnet.conv1, alexnet@3", "--weights", "random"
    )  # fmt: skip
    assert done.code == 0
    assert done.out == f"12 photographs, 2 layers, 8 units: {tmp_path / 'x'}\n"
    assert [layer.address for layer in library.load_index(tmp_path / "x").layers] == ["alexnet.conv1", "alexnet.conv3"]


def test_running_again_is_quick_and_changes_nothing(memviz, tiny, index, photos, monkeypatch):
    stamps = {path: path.stat().st_mtime_ns for path in index.iterdir()}
    monkeypatch.setattr("memviz.index.build.work", None)  # would be called
    done = memviz("index", tiny, photos, "--out", index, "-k", 9, "--weights", "random")
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in index.iterdir()} == stamps


@pytest.mark.filterwarnings("default::UserWarning")
def test_unreadable_photographs_are_named_and_not_counted(memviz, tiny, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    done = memviz("index", tiny, photos, "--out", tmp_path / "x", "--weights", "random")
    assert done.code == 0
    assert done.out.startswith("12 photographs (left out: 1 unreadable), ")
    assert "broken.jpg" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "alexnet.conv9"), "There is no layer 'alexnet.conv9'. Close names: alexnet.conv"),
        (("-k", "0"), "Invalid value for '--top'"),
    ],
)
def test_wrong_arguments(memviz, tiny, photos, tmp_path, arguments, message):
    done = memviz("index", tiny, photos, "--out", tmp_path / "x", "--weights", "random", *arguments)
    assert done.code in (1, 2)
    assert message in done.err
    assert not (tmp_path / "x").exists()


def test_no_photographs(memviz, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    done = memviz("index", tiny, tmp_path / "empty", "--out", tmp_path / "x", "--weights", "random")
    assert done.code == 1
    assert "empty" in done.err
    assert "Traceback" not in done.err
