import csv

import pytest

import memviz as library
from memviz.explanation import load_labels
from memviz.explanation.labels import labels_folder
from memviz.layers.unit import Unit


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch):
    monkeypatch.setattr("memviz.explanation.naming.SHUFFLED", 500)


@pytest.fixture
def sorted_photos(photos):
    """48 photographs in two folders, by whether they are dark."""
    from PIL import Image

    for path in sorted(photos.iterdir()):
        picture = Image.open(path)
        path.unlink()
        for level in (30, 80, 180, 230):
            folder = photos / ("dark" if level < 128 else "light")
            folder.mkdir(exist_ok=True)
            Image.blend(picture, Image.new("RGB", picture.size, (level,) * 3), 0.8).save(folder / f"{level}{path.name}")
    return photos


@pytest.fixture
def dark_and_light(memviz, tiny, sorted_photos, tmp_path):
    assert memviz("index", tiny, sorted_photos, "--out", tmp_path / "two", "-k", 9, "--weights", "random").code == 0
    return tmp_path / "two"


def run(memviz, index, *arguments):
    done = memviz("label", "tiny", "--weights", "random", "--index", index, *arguments)
    assert done.code == 0, done.err
    return done.out


def test_automatic_labels_by_folder(memviz, dark_and_light, tmp_path):
    arguments = ["--auto", "--categories", "folders", "--layer", "alexnet.conv1", "--csv", tmp_path / "all.csv"]
    out = run(memviz, dark_and_light, *arguments)
    labels = load_labels(library.load_index(dark_and_light))
    texts = [labels.text(Unit("alexnet.conv1", channel)) for channel in range(4)]
    assert set(texts) <= {"dark", "light", None} != {None}
    named = sum(text is not None for text in texts)
    assert f"alexnet.conv1: {named} of 4 units (shuffled 0" in out
    assert out.splitlines()[-1].split() == ["alexnet.conv1", "4", "0", str(named), str(4 - named)]
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] or None for row in rows] == texts
    assert all(row["source"] == "folders" and row["measure"] == "correlation" for row in rows)


def test_a_sheet_is_filled_in_and_taken_over(memviz, index, tmp_path):
    sheet = tmp_path / "sheet"
    assert "No unit has a label yet" in run(memviz, index)
    run(memviz, index, "--layer", "alexnet@1", "--layer", "resnet.conv1", "--most", 3, "--sheet", sheet)
    page = (sheet / "index.html").read_text()
    assert page.count("<img") == 6
    assert "<code>none</code>" in page
    assert all((sheet / f"images/alexnet.conv1-000{channel}.jpg").is_file() for channel in range(3))
    filled = (sheet / "labels.csv").read_text().replace("alexnet.conv1:1,,", 'alexnet.conv1:1,"stripes, ""thin""",AN')
    (sheet / "labels.csv").write_text(filled.replace("resnet.conv1:0,", "resnet.conv1:0,none"))
    run(memviz, index, "--layer", "alexnet@1", "--layer", "resnet.conv1", "--most", 3, "--sheet", tmp_path / "other")
    out = run(memviz, index, "--read", sheet / "labels.csv")
    assert out.startswith("2 new labels: ")
    assert [line.split() for line in out.splitlines()[-2:]] == [
        ["alexnet.conv1", "4", "1", "0", "3"],
        ["resnet.conv1", "4", "1", "0", "3"],
    ]
    labels = load_labels(library.load_index(index))
    assert labels.text(Unit("alexnet.conv1", 1)) == 'stripes, "thin"'
    assert str(labels[Unit("resnet.conv1", 0)]) == "none (person)"
    assert run(memviz, index, "--read", sheet / "labels.csv").startswith("0 new labels: ")

    (sheet / "labels.csv").write_text(filled.replace("stripes", "bars"))
    done = memviz("label", "tiny", "--index", index, "--read", sheet / "labels.csv")
    assert done.code == 1
    assert "alexnet.conv1:1 is 'bars, \"thin\"' here and 'stripes, \"thin\"' in line 2 of a file in" in done.err


def test_what_was_filled_in_stays(memviz, index, tmp_path):
    for _ in range(2):
        run(memviz, index, "--layer", "alexnet.conv1", "--sheet", tmp_path / "sheet")
        (tmp_path / "sheet/labels.csv").write_text("unit,label\nalexnet.conv1:0,mine\n")
    assert (tmp_path / "sheet/labels.csv").read_text() == "unit,label\nalexnet.conv1:0,mine\n"
    done = memviz("label", "tiny", "--index", index, "--layer", "alexnet.conv2", "--sheet", tmp_path / "sheet")
    assert "its units are others" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--layer", "alexnet.conv9"], 1, "There is no layer 'alexnet.conv9'. Close names"),
        (["--sheet", "sheet"], 1, "No unit to label: name layers with --layer"),
        (["--read", "none.csv"], 1, "none.csv: No such file"),
        (["--categories", "folders"], 2, "--categories and --words go with --auto"),
        (["--auto", "--categories", "folders", "--words", "x"], 2, "Give --categories or --words, not both"),
        (["--auto", "--words", "none.txt"], 1, "none.txt: No such file"),
        (["--auto"], 1, "tiny has no named outputs to label units with"),
        (["--auto", "--categories", "none.csv"], 1, "none.csv: No such file"),
        (["--auto", "--categories", "folders"], 1, "need 40 photographs or more"),
    ],
)
def test_errors(memviz, index, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    done = memviz("label", "tiny", "--weights", "random", "--index", index, *arguments)
    assert (done.code, message in done.err) == (code, True), done.err
    assert not list(labels_folder(library.load_index(index)).glob("*"))
    assert not (tmp_path / "sheet").exists()


def test_a_broken_file_names_its_line(memviz, index):
    folder = labels_folder(library.load_index(index))
    folder.mkdir(parents=True)
    (folder / "labels.toml").write_text('\n[[label]]\nunit = "alexnet.conv1:99"\nlabel = "x"\n')
    done = memviz("label", "tiny", "--index", index)
    assert done.code == 1
    assert "labels.toml, line 2: alexnet.conv1 has units 0 to 3; given was 99." in done.err


def test_another_model(memviz, index):
    done = memviz("label", "resmem", "--index", index)
    assert done.code == 1
    assert "is of tiny, not of resmem" in done.err
