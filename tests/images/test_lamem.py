import pytest

from memviz.errors import ImageError
from memviz.images.lamem import lamem, lamem_split
from memviz.images.split import Split


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
def test_official_subsets(folder, split):
    table = lamem(folder, split)
    assert table["subset"].tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
    lines = (folder / "splits" / f"val_{split}.txt").read_text().split()
    assert table.loc[table["subset"] == "validation", "file"].tolist() == lines[:1]


def test_blank_lines_and_windows_line_ends(folder):
    (folder / "splits/val_1.txt").write_bytes(b"00000009.jpg 0.5\r\n\r\n")
    assert lamem(folder, 1).query("subset == 'validation'")["score"].tolist() == [0.5]


@pytest.mark.parametrize("read", [lamem, lamem_split])
@pytest.mark.parametrize("split", [0, 6])
def test_unknown_split(folder, read, split):
    with pytest.raises(ImageError, match="from 1 to 5"):
        read(folder, split)


@pytest.fixture
def holed(folder):
    """The first training and the only validation photograph of split 2 have no score."""
    for part, old, new in (("train", " 0.3\n", " 0\n"), ("val", " 0.6\n", " 0.000\n")):
        path = folder / f"splits/{part}_2.txt"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return folder


def test_zeros_are_missing_scores(holed):
    table = lamem(holed, 2)
    assert table["file"].tolist() == ["00000004.jpg", "00000005.jpg", "00000001.jpg", "00000002.jpg"]
    assert table["subset"].tolist() == ["train", "train", "test", "test"]
    assert table.attrs["dataset"]["zeros_left_out"] == 2
    assert lamem(holed).attrs["dataset"]["zeros_left_out"] == 0, "the lists of split 1 are as they were"


def test_zeros_can_be_kept(holed):
    table = lamem(holed, 2, zeros="keep")
    assert table["score"].tolist() == [0, 0.4, 0.5, 0, 0.1, 0.2]
    assert table.attrs["dataset"]["zeros_left_out"] == 0
    with pytest.raises(ImageError, match=r"zeros='zap'.*'drop' or 'keep'"):
        lamem(holed, zeros="zap")


def test_nothing_but_zeros(holed):
    for part in ("train", "val", "test"):
        (holed / f"splits/{part}_1.txt").write_text(f"{part}.jpg 0\n")
    with pytest.raises(ImageError, match="no photographs"):
        lamem(holed)


def test_official_split(folder, tmp_path):
    official = lamem_split(folder, 3)
    files = {part: (folder / f"splits/{part}_3.txt").read_text().split()[::2] for part in ("train", "val", "test")}
    named = {part: tuple(sorted(f"lamem/{file}" for file in listed)) for part, listed in files.items()}
    assert (official.train, official.validation, official.test) == (named["train"], named["val"], named["test"])
    assert (official.seed, official.fractions) == (3, (3 / 6, 1 / 6, 2 / 6))
    assert official.subset(lamem(folder), "validation")["file"].tolist() == files["val"]
    official.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == official


def test_official_split_of_what_has_a_score(holed):
    official = lamem_split(holed, 2)
    assert (official.train, official.validation) == (("lamem/00000004.jpg", "lamem/00000005.jpg"), ())
    assert official.fractions == (0.5, 0.0, 0.5)
    assert len(official.subset(lamem(holed, 2), "test")) == 2


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
