import csv

import numpy as np
import pytest
from PIL import Image

import memviz as library
from memviz.explanation.labels import labels_folder


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_prints_the_photographs(memviz, index):
    done = memviz("top", index, "alexnet.conv2:1")
    expected = library.load_index(index).top("alexnet.conv2:1")
    header, *lines = rows(done.out)
    assert done.code == 0
    assert header == list(expected.columns)
    assert [line[header.index("path")] for line in lines] == expected["path"].tolist()
    values = [float(line[header.index("value")]) for line in lines]
    np.testing.assert_allclose(values, expected["value"], atol=6e-4)
    assert values == sorted(values, reverse=True)


def test_an_ordinal_the_lowest_and_a_count(memviz, index):
    done = memviz("top", index, "alexnet@2:1", "--lowest", "--top", 3)
    expected = library.load_index(index).bottom("alexnet.conv2:1", 3)
    header, *lines = rows(done.out)
    assert [line[header.index("path")] for line in lines] == expected["path"].tolist()
    assert len(lines) == 3


@pytest.mark.parametrize("side", ["top", "bottom"])
def test_writes_crops_and_a_csv(memviz, index, tmp_path, side):
    lowest = ("--lowest",) if side == "bottom" else ()
    done = memviz(
        "top", index, "alexnet.conv2:1", "-k", 2, "--crops", tmp_path / "new/crops", "--csv", tmp_path / "top.csv",
        *lowest,
    )  # fmt: skip
    assert done.code == 0, done.err
    files = sorted(path.name for path in (tmp_path / "new/crops").iterdir())
    assert files == [f"alexnet.conv2-0001-{side}01.png", f"alexnet.conv2-0001-{side}02.png"]
    expected = library.load_index(index).crops("alexnet.conv2:1", 2, lowest=side == "bottom")
    for name, crop in zip(files, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "new/crops" / name)), np.asarray(crop))
    header, *lines = rows(done.out)
    with (tmp_path / "top.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [line[header.index("path")] for line in lines]


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("alexnet.conv22:1", "There is no layer 'alexnet.conv22'. Close names: alexnet.conv2"),
        ("alexnet.conv2:4", "units 0 to 3"),
    ],
)
def test_wrong_units(memviz, index, unit, message):
    done = memviz("top", index, unit)
    assert done.code == 1
    assert message in done.err


def test_more_than_is_kept_gives_what_is_kept(memviz, index):
    done = memviz("top", index, "alexnet.conv2:1", "-k", 100)
    assert done.code == 0
    assert len(rows(done.out)) == 1 + 9


def test_tells_the_units_label(memviz, index):
    folder = labels_folder(library.load_index(index))
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text("unit,label,by\nalexnet@2:1,stripes,AN\n")
    assert memviz("top", index, "alexnet.conv2:1").out.splitlines()[-1] == "alexnet.conv2:1: stripes (person, AN)"
    assert "person" not in memviz("top", index, "alexnet.conv2:2").out
