import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from memviz.errors import ImageError
from memviz.images import duplicates
from memviz.images.duplicates import _find_close, near_duplicates
from memviz.images.samples import sample_photos
from memviz.images.split import SUBSETS, split

COPIES = {
    "astronaut": lambda image: image,
    "china": lambda image: image.resize((image.width // 2, image.height // 2)),
    "coffee": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "rocket": lambda image: image.convert("L"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return {path.stem: path for path in sample_photos(folder) if "_crop" not in path.stem}


@pytest.fixture
def table(photos, tmp_path):
    """All whole sample photographs as set one; changed copies of four of them, and a damaged file, as set two."""
    rows = [(str(path), "one", path.name) for path in photos.values()]
    for name, change in COPIES.items():
        with Image.open(photos[name]) as image:
            change(image).save(tmp_path / f"copy of {name}.jpg", quality=50)
        rows.append((str(tmp_path / f"copy of {name}.jpg"), "two", f"copy of {name}.jpg"))
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    rows.append((str(tmp_path / "damaged.jpg"), "two", "damaged.jpg"))
    return pd.DataFrame(rows, columns=["path", "source", "file"]).assign(score=0.5, category="")


def test_copies_are_found_and_nothing_else(table, photos, tmp_path):
    pairs = near_duplicates(table)
    assert list(pairs) == ["path_a", "path_b", "distance"]
    expected = {(str(photos[name]), str(tmp_path / f"copy of {name}.jpg")) for name in COPIES}
    assert set(zip(pairs["path_a"], pairs["path_b"], strict=True)) == expected
    assert pairs["distance"].is_monotonic_increasing
    assert pairs["distance"].between(0, 4).all()


def test_damaged_files_are_named(table):
    [reason] = near_duplicates(table).attrs["unreadable"]
    assert "damaged.jpg" in reason


def test_copies_within_one_source_stay_in_one_subset(photos, tmp_path):
    """A compilation, as LaMem is: 60 photographs, each beside its copy at 3/4 of the size."""
    rows = []
    for path in sorted(next(iter(photos.values())).parent.iterdir())[:60]:
        with Image.open(path) as image:
            image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(tmp_path / path.name, quality=85)
        rows += [(str(path), f"a/{path.name}"), (str(tmp_path / path.name), f"b/{path.name}")]
    table = pd.DataFrame(rows, columns=["path", "file"]).assign(source="lamem", category="", score=0.5)
    pairs = near_duplicates(table)
    found = set(zip(pairs["path_a"], pairs["path_b"], strict=True))
    assert {(one, other) for (one, _), (other, _) in zip(rows[::2], rows[1::2], strict=True)} <= found
    drawn = split(table, near_duplicates=pairs)
    assert len(drawn.test) == 12
    copies = {name.replace("/a/", "/b/") if "/a/" in name else name.replace("/b/", "/a/") for name in drawn.test}
    assert copies == set(drawn.test)


def test_a_split_keeps_them_together(table):
    readable = table[:-1]
    pairs = near_duplicates(readable)
    for seed in range(5):
        drawn = split(readable, seed, fractions=(0.5, 0.25, 0.25), near_duplicates=pairs)
        for name in COPIES:
            assert len({subset for subset in SUBSETS for file in getattr(drawn, subset) if f"{name}.jpg" in file}) == 1


@pytest.mark.parametrize("distance", [-1, 64])
def test_impossible_distance(table, distance):
    with pytest.raises(ImageError, match=f"distance={distance}"):
        near_duplicates(table, distance)


def test_close_pairs_are_those_of_the_definition(monkeypatch):
    monkeypatch.setattr(duplicates, "ROWS", 7)
    monkeypatch.setattr(duplicates, "COLUMNS", 30)
    hashes = np.random.default_rng(0).integers(0, 2**64, 200, dtype=np.uint64)
    hashes[150] = hashes[7] ^ np.uint64(2**63 + 1)
    expected = {(a, b, (int(hashes[a]) ^ int(hashes[b])).bit_count()) for a in range(200) for b in range(a + 1, 200)}
    expected = sorted(pair for pair in expected if pair[2] <= 20)
    assert sorted(_find_close(hashes, 20)) == expected
    assert (7, 150, 2) in expected


def test_all_of_lamem_are_compared_in_seconds():
    hashes = np.random.default_rng(0).integers(0, 2**64, 58_741, dtype=np.uint64)
    hashes[50_000] = hashes[123]
    start = time.perf_counter()
    assert list(_find_close(hashes, 4)) == [(123, 50_000, 0)]
    assert time.perf_counter() - start < 60  # 3 seconds when nothing else runs


def test_pictures_of_one_colour_are_no_copies_of_one_another(tmp_path):
    paths = []
    for number, colour in enumerate(("white", "red", "#777777", "black")):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (40, 30), colour).save(paths[-1])
    assert near_duplicates(pd.DataFrame({"path": paths})).empty
