import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from experiments.fake_data.make import make_lamem, make_memcat
from memviz.errors import ImageError, StoreError
from memviz.images.lamem import lamem
from memviz.images.memcat import memcat
from memviz.images.scored import mixed, names
from memviz.images.split import SUBSETS, Split, split


@pytest.fixture
def table(tmp_path):
    """Bytes of its own for each file, in strata of 50, 30, 7, 3 and 1."""
    sizes = {("one", ""): 50, ("two", "a"): 30, ("two", "b"): 7, ("two", "c"): 3, ("three", ""): 1}
    rows = []
    for (source, category), size in sizes.items():
        for number in range(size):
            path = tmp_path / f"{source}{category}{number:02}.jpg"
            path.write_text(f"{source} {category} {number:02}".rjust(20))
            rows.append((str(path), 0.5, source, category, path.name))
    table = pd.DataFrame(rows, columns=["path", "score", "source", "category", "file"])
    table.attrs["dataset"] = {"name": "test"}
    return table


def copy(table, one, other):
    """Makes file `other` of the table identical to file `one`."""
    Path(table["path"][other]).write_bytes(Path(table["path"][one]).read_bytes())


def subset_of(drawn):
    return {name: subset for subset in SUBSETS for name in getattr(drawn, subset)}


def counts(drawn, table):
    strata = dict(zip(names(table), zip(table["source"], table["category"], strict=True), strict=True))
    found = Counter((*strata[name], subset) for name, subset in subset_of(drawn).items())
    return {stratum: tuple(found[(*stratum, subset)] for subset in SUBSETS) for stratum in sorted(set(strata.values()))}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_photograph_is_in_one_subset(table, seed):
    drawn = split(table, seed)
    listed = [*drawn.train, *drawn.validation, *drawn.test]
    assert sorted(listed) == sorted(names(table))
    assert all(list(getattr(drawn, subset)) == sorted(getattr(drawn, subset)) for subset in SUBSETS)


def test_counts_by_source_and_category(table):
    found = counts(split(table), table)
    assert found[("one", "")] == (40, 5, 5)
    assert found[("two", "a")] == (24, 3, 3)
    for (_source, _category), (train, validation, test) in found.items():
        size = train + validation + test
        assert all(
            abs(got - share * size) < 1 for got, share in zip((train, validation, test), (0.8, 0.1, 0.1), strict=True)
        )


def test_small_strata_take_turns_with_their_odd_photographs(table):
    drawn = split(table[:50].assign(category=[f"c{number // 5}" for number in range(50)]))
    assert (len(drawn.train), len(drawn.validation), len(drawn.test)) == (40, 5, 5)


@pytest.mark.parametrize("fractions", [(1, 0, 0), (0.5, 0.5, 0), (1 / 3, 1 / 3, 1 / 3), (0.29, 0.01, 0.7)])
def test_other_fractions(table, fractions):
    drawn = split(table, fractions=fractions)
    for subset, share in zip(SUBSETS, fractions, strict=True):
        assert len(getattr(drawn, subset)) == pytest.approx(91 * share, abs=1.5)
        assert share or not getattr(drawn, subset)
    assert drawn.fractions == fractions


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.7, 0.1, 0.1, 0.1)])
def test_impossible_fractions(table, fractions):
    with pytest.raises(ImageError, match="three that make 1"):
        split(table, fractions=fractions)


def test_the_order_of_rows_and_the_folder_do_not_matter(table, tmp_path):
    drawn = split(table)
    assert split(table.sample(frac=1, random_state=0)) == drawn
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    paths = [moved / file for file in table["file"]]
    for old, new in zip(table["path"], paths, strict=True):
        new.write_bytes(Path(old).read_bytes())
    assert split(table.assign(path=[str(path) for path in paths])) == drawn


def test_the_seed_matters_and_draws_at_random(table):
    tested = Counter(name for seed in range(100) for name in split(table[:50], seed).test)
    assert len(tested) == 50
    assert max(tested.values()) < 25  # 10 expected, standard deviation 3


def test_the_split_is_the_same_on_every_machine(table):
    drawn = split(table[:50]).test
    assert [int(name.removeprefix("one/one").removesuffix(".jpg")) for name in drawn] == [2, 9, 25, 38, 39]


def test_identical_files_stay_together(table):
    plain = subset_of(split(table))
    files = names(table)
    in_train = next(row for row in range(50) if plain[files[row]] == "train")
    in_test = next(row for row in range(50, 80) if plain[files[row]] == "test")
    copy(table, in_train, in_test)
    drawn = split(table)
    now = subset_of(drawn)
    assert now[files[in_train]] == now[files[in_test]]
    assert counts(drawn, table)[("one", "")] == (40, 5, 5)
    assert counts(drawn, table)[("two", "a")] == (24, 3, 3)


def test_near_duplicates_and_copies_of_them_stay_together(table):
    chain = [0, 10, 55, 70, 85]
    copy(table, 10, 55)
    near = pd.DataFrame({"path_a": table["path"][[0, 55, 85]].tolist(), "path_b": table["path"][[10, 70, 70]].tolist()})
    files = names(table)
    apart = 0
    for seed in range(10):
        now = subset_of(split(table, seed, near_duplicates=near))
        assert len({now[files[row]] for row in chain}) == 1
        apart += len({subset_of(split(table, seed))[files[row]] for row in chain}) > 1
    assert apart > 0


def test_a_group_larger_than_any_subset_stays_together(table):
    for row in range(1, 50):
        copy(table, 0, row)
    now = subset_of(split(table))
    assert {now[name] for name in names(table)[:50]} == {"train"}


def test_missing_files_are_named(table):
    table.loc[3, "path"] = "/nowhere/a.jpg"
    with pytest.raises(ImageError, match=r"/nowhere/a\.jpg"):
        split(table)


def test_saved_and_loaded(table, tmp_path):
    drawn = split(table, seed=7)
    drawn.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == drawn
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["seed"] == 7
    assert content["fractions"] == [0.8, 0.1, 0.1]
    assert content["versions"]["memviz"]


@pytest.mark.parametrize(
    "change", [{"kind": "x"}, {"format": 2}, {"fractions": [1]}, {"seed": "0"}, {"train": None}, {"test": ["x"] * 2}]
)
def test_other_files_are_refused(table, tmp_path, change):
    split(table).save(tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text()) | change
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"split\.json"):
        Split.load(tmp_path / "split.json")


def test_no_photograph_in_two_subsets():
    with pytest.raises(ImageError, match=r"two subsets.* 1 of them: one/b\.jpg"):
        Split(0, (0.8, 0.1, 0.1), ("one/a.jpg", "one/b.jpg"), ("one/b.jpg",), ())


def test_subset_of_a_table(table):
    drawn = split(table)
    test = drawn.subset(table, "test")
    assert list(names(test)) == [name for name in names(table) if name in drawn.test]
    assert test.attrs == table.attrs
    assert sum(len(drawn.subset(table, subset)) for subset in SUBSETS) == len(table)
    one_source = table[table["source"] == "two"]
    assert set(names(drawn.subset(one_source, "train"))) == {name for name in drawn.train if name.startswith("two/")}


def test_subset_of_another_table_is_refused(table):
    drawn = split(table)
    with pytest.raises(ImageError, match=r"1 of them: one/new\.jpg"):
        drawn.subset(table.assign(file=["new.jpg", *table["file"][1:]]), "test")
    with pytest.raises(ImageError, match=r"does not have. 1 of them: one/one00\.jpg"):
        drawn.subset(table[1:], "test")
    with pytest.raises(ImageError, match="train, validation, test"):
        drawn.subset(table, "val")


def test_lamem_and_memcat_mixed(tmp_path):
    table = mixed(lamem(make_lamem(tmp_path / "lamem", 40)), memcat(make_memcat(tmp_path / "memcat", 50)))
    found = counts(split(table), table)
    assert found[("lamem", "")] == (32, 4, 4)
    assert [found[("memcat", category)] for category in ("animal", "vehicle")] == [(8, 1, 1)] * 2
