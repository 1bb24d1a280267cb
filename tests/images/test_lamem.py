import pytest

from memviz.errors import ImageError
from memviz.images.lamem import lamem


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "splits").mkdir()
    for split in range(1, 6):
        files = [f"{(number + split) % 6 + 1:08}.jpg" for number in range(6)]
        parts = {"train": files[:3], "val": files[3:4], "test": files[4:]}
        for part, listed in parts.items():
            lines = "".join(f"{file} 0.{file[7]}\n" for file in listed)
            (tmp_path / "splits" / f"{part}_{split}.txt").write_text(lines)
    return tmp_path


def test_all_photographs(folder):
    table = lamem(folder)
    assert list(table) == ["path", "score", "source", "category", "file"]
    assert sorted(table["file"]) == [f"0000000{number}.jpg" for number in range(1, 7)]
    assert dict(zip(table["file"], table["score"], strict=True))["00000004.jpg"] == 0.4
    assert table["path"][0] == f"{folder}/images/{table['file'][0]}"
    assert set(table["source"]) == {"lamem"}
    assert table.attrs["dataset"]["name"] == "lamem"
    assert "ICCV 2015" in table.attrs["dataset"]["citation"]


@pytest.mark.parametrize("split", [1, 2, 5])
def test_official_parts(folder, split):
    table = lamem(folder, split)
    assert table["part"].tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    lines = (folder / "splits" / f"val_{split}.txt").read_text().split()
    assert table.loc[table["part"] == "val", "file"].tolist() == lines[:1]


def test_blank_lines_and_windows_line_ends(folder):
    (folder / "splits/val_1.txt").write_bytes(b"00000009.jpg 0.5\r\n\r\n")
    assert lamem(folder, 1).query("part == 'val'")["score"].tolist() == [0.5]


@pytest.mark.parametrize("split", [0, 6])
def test_unknown_split(folder, split):
    with pytest.raises(ImageError, match="from 1 to 5"):
        lamem(folder, split)


@pytest.mark.parametrize("missing", ["images", "splits/val_3.txt"])
def test_other_layout_shows_the_expected_one(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(ImageError, match=r"(?s)not laid out as LaMem is.*images/00000001\.jpg.*splits/train_1\.txt"):
        lamem(folder, 3)


def test_damaged_lists_are_named(folder):
    path = folder / "splits/test_1.txt"
    path.write_text("00000001.jpg 0.5\n00000002.jpg\n")
    with pytest.raises(ImageError, match=r"test_1\.txt, line 2: '00000002\.jpg'"):
        lamem(folder)
    path.write_text("00000001.jpg 75\n")
    with pytest.raises(ImageError, match=r"00000001\.jpg \(75\)"):
        lamem(folder)
    path.write_text((folder / "splits/train_1.txt").read_text())
    with pytest.raises(ImageError, match="listed twice"):
        lamem(folder)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ImageError, match="not a text file"):
        lamem(folder)
