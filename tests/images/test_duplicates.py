import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from memviz.errors import ImageError
from memviz.images.duplicates import _close, near_duplicates
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


def test_only_between_sources(table):
    same = table.assign(source="one")
    assert near_duplicates(same).empty
    assert list(near_duplicates(same)) == ["path_a", "path_b", "distance"]
    three = table.assign(source=[f"set {row % 3}" for row in range(len(table))])
    sources = dict(zip(three["path"], three["source"], strict=True))
    pairs = near_duplicates(three, distance=63)
    assert len(pairs) > 50
    assert all(sources[one] != sources[other] for one, other in zip(pairs["path_a"], pairs["path_b"], strict=True))


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


def test_close_pairs_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 2**64, size, dtype=np.uint64) for size in (200, 90))
    other[7] = one[150] ^ np.uint64(2**63 + 1)
    expected = [
        (a, b, bits) for a in range(200) for b in range(90) if (bits := (int(one[a]) ^ int(other[b])).bit_count()) <= 20
    ]
    assert list(_close(one, other, 20)) == expected
    assert (150, 7, 2) in expected


def test_lamem_and_memcat_are_compared_in_seconds():
    rng = np.random.default_rng(0)
    lamem, memcat = (rng.integers(0, 2**64, size, dtype=np.uint64) for size in (58_741, 10_000))
    start = time.perf_counter()
    assert list(_close(lamem, memcat, 4)) == []
    assert time.perf_counter() - start < 60  # 3 seconds when nothing else runs
