import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from toys import bright
from trainings import SETTINGS, changed, run

from memviz.errors import StoreError, TrainingError
from memviz.images import Split, mixed, read_csv, split
from memviz.training import Runtime
from memviz.training.module import Regression

finishing = sys.modules["memviz.training.train"]


def test_photographs_that_were_replaced_meanwhile(table, tmp_path, monkeypatch):
    """Refused, unless nothing was learned yet or a file was only touched."""
    with monkeypatch.context() as patch:
        patch.setattr(Regression, "training_step", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out")
    Image.new("RGB", (24, 20), "red").save(table["path"][1])
    with monkeypatch.context() as patch:
        patch.setattr(finishing, "finish", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run(table, tmp_path / "out")
    os.utime(table["path"][2])
    content = Path(table["path"][3]).read_bytes()
    Image.new("RGB", (24, 20), "blue").save(table["path"][3])
    with pytest.raises(StoreError, match=r"replaced since .* 1 of them: bright/003\.png"):
        run(table, tmp_path / "out")
    Path(table["path"][3]).write_bytes(content)
    run(table, tmp_path / "out")


def test_near_duplicates_in_two_sources_stay_together(tmp_path, originals):
    """A photograph in both data sets, in the second at another quality, is in one subset."""
    doubled = ["coffee.png", "rocket.jpg", "chelsea.png", "astronaut.png"]
    for source, quality in (("one", 95), ("two", 60)):
        folder = tmp_path / source
        bright(folder, 12, source)
        rows = pd.read_csv(folder / f"{source}.csv")
        for number, name in enumerate(doubled):
            with Image.open(originals[name]) as image:
                image.convert("RGB").resize((200, 150)).save(folder / f"{name}.jpg", quality=quality)
            rows.loc[len(rows)] = [f"{name}.jpg", 0.1 * number]
        rows.to_csv(folder / f"{source}.csv", index=False)
    table = mixed(*(read_csv(tmp_path / source / f"{source}.csv") for source in ("one", "two")))
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        run(table, out, changed(epochs=1, split_seed=seed))
        subsets = pd.read_csv(out / "photographs.csv").set_index("name")["subset"]
        assert subsets.index.is_unique
        for name in doubled:
            assert subsets[f"one/{name}.jpg"] == subsets[f"two/{name}.jpg"]
        pairs = pd.read_csv(out / "near_duplicates.csv")
        assert len(pairs) >= len(doubled)


def test_too_few_photographs(table, tmp_path):
    with pytest.raises(TrainingError, match=r"The validation subset has 1 of 4 photographs; it needs 2 or more"):
        run(table.iloc[:4].reset_index(drop=True), tmp_path / "out", changed(fractions=(0.5, 0.25, 0.25)))


def test_no_test_subset(table, tmp_path):
    model = run(table, tmp_path / "out", changed(fractions=(0.5, 0.5, 0.0)))
    assert set(model.card.metrics) == {"val_spearman", "val_mse", "epoch"}
    assert not (tmp_path / "out" / "test").exists()


@pytest.mark.parametrize("given", [True, False])
def test_unreadable_photographs_are_left_out(table, tmp_path, given):
    """They do not count in the card either; the split has them, so that it fits the whole table."""
    drawn = split(table, fractions=SETTINGS.fractions)
    for subset in ("train", "validation", "test"):
        Path(tmp_path / "photos" / getattr(drawn, subset)[0].removeprefix("bright/")).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"3 unreadable files were skipped:\n.*\.png"):
        model = run(table, tmp_path / "out", split=drawn if given else None)
    saved = Split.load(tmp_path / "out" / "split.json")
    subsets = {name: saved.subset(table, name) for name in ("train", "validation", "test")}
    assert sum(map(len, subsets.values())) == 40
    if given:
        assert saved == drawn
    listed = pd.read_csv(tmp_path / "out" / "photographs.csv")["subset"].value_counts()
    assert model.card.data["photographs"] == listed.sum() == 37
    for subset in subsets:
        readable = sum(Path(path).read_bytes() != b"no picture" for path in subsets[subset]["path"])
        assert model.card.split[subset] == listed[subset] == readable
    assert len(pd.read_csv(tmp_path / "out" / "test" / "predictions.csv")) == listed["test"]


def test_a_cache_that_is_shared(table, tmp_path):
    for out in ("one", "two"):
        run(table, tmp_path / out, runtime=Runtime("cpu", cache=tmp_path / "cache"))
        assert not (tmp_path / out / "cache").exists()
    assert len(list((tmp_path / "cache").glob("*-*"))) == 2
