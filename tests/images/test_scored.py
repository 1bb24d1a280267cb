import pandas as pd
import pytest
from helpers import misnamed

from memviz.errors import ImageError
from memviz.images.scored import check_readable, mixed, names, read_csv


def csv(folder, text, name="set.csv"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_columns_and_paths(tmp_path):
    table = read_csv(csv(tmp_path, f"score,path,extra\n0.25,a b/é.jpg,9\n1,{tmp_path}/x/NA,9\n"))
    assert list(table) == ["path", "score", "source", "category", "file"]
    assert table["path"].tolist() == [f"{tmp_path}/a b/é.jpg", f"{tmp_path}/x/NA"]
    assert table["file"].tolist() == ["a b/é.jpg", f"{tmp_path}/x/NA"]
    assert table["score"].tolist() == [0.25, 1.0]
    assert set(table["source"]) == {"set"}
    assert set(table["category"]) == {""}
    assert table.attrs["dataset"] == {"name": "set", "target": "score", "citation": "", "synthetic": False}


def test_paths_are_absolute_where_the_csv_is_named_relatively(tmp_path, monkeypatch):
    csv(tmp_path, "path,score\na.jpg,0.5\n")
    monkeypatch.chdir(tmp_path)
    assert read_csv("set.csv")["path"].tolist() == [f"{tmp_path}/a.jpg"]


def test_folder_target_source_and_category_are_taken(tmp_path):
    path = csv(tmp_path, "path,hits,source,category\n001.jpg,0.5,figrim,airport\n002.jpg,0.6,things,\n")
    table = read_csv(path, folder=tmp_path / "photos", target="hits")
    assert table["path"].tolist() == [f"{tmp_path}/photos/001.jpg", f"{tmp_path}/photos/002.jpg"]
    assert names(table).tolist() == ["figrim/001.jpg", "things/002.jpg"]
    assert table["category"].tolist() == ["airport", ""]
    assert table.attrs["dataset"]["target"] == "hits"


@pytest.mark.parametrize("target", ["memorability", "false_alarm_rate"])
def test_what_memviz_score_writes(tmp_path, target):
    table = read_csv(csv(tmp_path, f"path,{target},error\na.jpg,0.5,\n"))
    assert table["score"].tolist() == [0.5]
    assert table.attrs["dataset"]["target"] == target


def test_byte_order_mark_of_spreadsheets(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfpath,score\na.jpg,0.5\n")
    assert read_csv(tmp_path / "a.csv")["file"].tolist() == ["a.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,scores\na.jpg,0.5\n", r"no column score, .*its columns are path, scores\. Name .*csv=FILE:NAME"),
        ("path,score\na.jpg,0.5\nb.jpg,1.01\n", r"1 of them: b.jpg \(1.01\)"),
        ("path,score\na.jpg,\n", r"numbers from 0 to 1. 1 of them: a.jpg \(\)"),
        ("path,score\na.jpg,high\n", r"a.jpg \(high\)"),
        ("path,score\na.jpg,0.5\n./a.jpg,0.6\n", "listed twice"),
        ("path,score,source\na.jpg,0.5,x/y\n", "'x/y'"),
        ("path,score\n", "no photographs"),
        ("", "not a CSV"),
        ('path,score\n"a.jpg,0.5\n', "not a CSV"),
    ],
)
def test_wrong_csv_says_what_is_wrong(tmp_path, text, message):
    with pytest.raises(ImageError, match=message):
        read_csv(csv(tmp_path, text))


def test_unreadable_csv_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.csv: No such file"):
        read_csv(tmp_path / "gone.csv")
    (tmp_path / "a.csv").write_bytes(b"path,score\n\xff\xfe,0.5\n")
    with pytest.raises(ImageError, match=r"a\.csv is not a CSV file in UTF-8"):
        read_csv(tmp_path / "a.csv")


def test_mixed_keeps_every_row_and_the_descriptions(tmp_path):
    one = read_csv(csv(tmp_path / "one", "path,score\na.jpg,0.1\nb.jpg,0.2\n", "one.csv"))
    two = read_csv(csv(tmp_path / "two", "path,score\na.jpg,0.3\n", "two.csv")).assign(part="train")
    table = mixed(one, two)
    assert names(table).tolist() == ["one/a.jpg", "one/b.jpg", "two/a.jpg"]
    assert table["score"].tolist() == [0.1, 0.2, 0.3]
    assert "part" not in table
    assert table.attrs["dataset"]["name"] == "one + two"
    assert table.attrs["dataset"]["sets"] == [one.attrs["dataset"], two.attrs["dataset"]]


def test_mixed_refuses_the_same_file_or_the_same_name(tmp_path):
    one = read_csv(csv(tmp_path, "path,score\na.jpg,0.1\n", "one.csv"))
    other_name = read_csv(csv(tmp_path, "path,score\na.jpg,0.1\n", "two.csv"))
    other_folder = read_csv(csv(tmp_path / "x", "path,score\na.jpg,0.1\n", "one.csv"))
    for other in (one, other_name, other_folder):
        with pytest.raises(ImageError, match=r"listed twice.*a\.jpg"):
            mixed(one, other)
    with pytest.raises(ImageError, match="No data sets"):
        mixed()


def test_check_readable_names_the_missing(tmp_path):
    table = read_csv(csv(tmp_path, "path,score\n" + "".join(f"{number}.jpg,0.5\n" for number in range(8))))
    (tmp_path / "0.jpg").touch()
    with pytest.raises(ImageError, match=r"Of 8 .* 7 of them: .*1\.jpg, .*5\.jpg \.\.\.") as caught:
        check_readable(table)
    assert "6.jpg" not in str(caught.value)
    for number in range(1, 8):
        (tmp_path / f"{number}.jpg").touch()
    check_readable(table)


def test_large_tables_are_quick(tmp_path):
    rows = pd.DataFrame({"path": [f"{number:08}.jpg" for number in range(60_000)], "score": 0.5})
    rows.to_csv(tmp_path / "a.csv", index=False)
    assert len(mixed(read_csv(tmp_path / "a.csv"))) == 60_000


def test_a_folder_whose_name_is_not_utf8_is_refused_at_once(tmp_path):
    folder = misnamed(tmp_path, csv(tmp_path, "path,score\na.jpg,0.5\n"))
    folder.unlink()
    folder.mkdir()
    with pytest.raises(ImageError, match=r"The photographs lie in .*caf\\xe9.png: its name is not UTF-8"):
        read_csv(csv(folder, "path,score\na.jpg,0.5\n"))
