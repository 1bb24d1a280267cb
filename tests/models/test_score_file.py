import os

import pandas as pd
import pytest
import torch
from helpers import misnamed
from PIL import Image
from torch import nn

import memviz
from memviz.errors import StoreError
from memviz.models import InputSpec, Model
from memviz.models.score_file import score_to_csv


class Mean(nn.Module):
    def __init__(self, bias=0.0):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, pictures):
        return pictures.mean((1, 2, 3), keepdim=True).flatten(1) + self.bias


def brightness(bias=0.0):
    return memviz.wrap(Mean(bias), InputSpec(size=(4, 4), resize=(4, 4)), target="memorability")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for grey in range(6):
        Image.new("RGB", (5, 5), (grey * 51,) * 3).save(folder / f"{grey}.png")
    return folder


@pytest.fixture
def stops(monkeypatch):
    """Lets passes fail after so many batches, and counts the photographs that they run."""
    run, seen = Model.run_pixels, []

    class Stops:
        after = 2
        scored = seen

    def counted(model, network, crops):
        if len(seen) == Stops.after:
            raise KeyboardInterrupt
        seen.extend(crops)
        return run(model, network, crops)

    monkeypatch.setattr(Model, "run_pixels", counted)
    return Stops


EXPECTED = [round(grey * 0.2, 6) for grey in range(6)]


def test_the_table_and_the_file(photos, tmp_path):
    table = score_to_csv(brightness(), photos, tmp_path / "scores.csv")
    assert table["memorability"].round(6).tolist() == pytest.approx(EXPECTED)
    written = pd.read_csv(tmp_path / "scores.csv", dtype={"memorability": "float32"})
    assert written.equals(table.astype({"path": written["path"].dtype}))
    assert sorted(os.listdir(tmp_path)) == ["photos", "scores.csv"]


def test_an_interrupted_pass_is_continued(photos, tmp_path, stops):
    out = tmp_path / "scores.csv"
    with pytest.raises(KeyboardInterrupt):
        score_to_csv(brightness(), photos, out, batch_size=1)
    assert pd.read_csv(out)["memorability"].tolist() == pytest.approx(EXPECTED[:2])
    stops.after = None
    table = score_to_csv(brightness(), photos, out, batch_size=1)
    assert table["memorability"].tolist() == pytest.approx(EXPECTED)
    assert table["path"].tolist() == sorted(map(str, photos.iterdir()))
    assert len(stops.scored) == 6  # none twice
    assert not (tmp_path / "scores.csv.partial").exists()


def test_a_killed_pass_is_continued_and_its_torn_line_is_not_read(photos, tmp_path, stops):
    out, rows = tmp_path / "scores.csv", tmp_path / "scores.csv.partial/rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score_to_csv(brightness(), photos, out, batch_size=1)
    damaged = b'["2.png", NaN, [1, 2]]\nnonsense\n[3]\n\xff\n["photos/2.pn'
    rows.write_bytes(rows.read_bytes() + damaged)
    stops.after = 4
    with pytest.raises(KeyboardInterrupt):
        score_to_csv(brightness(), photos, out, batch_size=1)
    assert len(stops.scored) == 4
    stops.after = None
    assert score_to_csv(brightness(), photos, out)["memorability"].tolist() == pytest.approx(EXPECTED)
    assert len(stops.scored) == 6


def test_a_photograph_that_was_changed_meanwhile_is_scored_again(photos, tmp_path, stops):
    out = tmp_path / "scores.csv"
    with pytest.raises(KeyboardInterrupt):
        score_to_csv(brightness(), photos, out, batch_size=1)
    Image.new("RGB", (9, 5), "white").save(photos / "0.png")
    stops.after = None
    table = score_to_csv(brightness(), photos, out, batch_size=1)
    assert table["memorability"].tolist() == pytest.approx([1, *EXPECTED[1:]])


def test_what_another_model_began_is_refused(photos, tmp_path, stops):
    with pytest.raises(KeyboardInterrupt):
        score_to_csv(brightness(), photos, tmp_path / "scores.csv", batch_size=1)
    with pytest.raises(StoreError, match="holds another result: weights"):
        score_to_csv(brightness(0.1), photos, tmp_path / "scores.csv")


@pytest.mark.filterwarnings("ignore:1 unreadable")
def test_one_photograph_that_takes_all_memory_does_not_end_the_pass(photos, tmp_path, monkeypatch):
    crops = InputSpec.pixels_from_pil

    def greedy(spec, image):
        if image.getpixel((0, 0)) == (51, 51, 51):
            raise MemoryError
        return crops(spec, image)

    monkeypatch.setattr(InputSpec, "pixels_from_pil", greedy)
    table = score_to_csv(brightness(), photos, tmp_path / "scores.csv")
    assert len(table) == 5
    assert table.attrs["unreadable"] == {f"{photos}/1.png": "too large for the memory that is free"}


@pytest.mark.filterwarnings("ignore:1 unreadable")
def test_names_that_are_not_utf8_are_unreadable(photos, tmp_path):
    strange = misnamed(photos, photos / "5.png")
    reasons = {str(strange): "its name is not UTF-8: rename it"}
    for table in (score_to_csv(brightness(), photos, tmp_path / "scores.csv"), brightness().score(photos)):
        assert table["memorability"].tolist() == pytest.approx(EXPECTED)
        assert table.attrs["unreadable"] == reasons
