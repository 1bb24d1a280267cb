"""Photographs changed towards a higher or lower number, on networks of which it is known what raises it."""

import json

import pytest
import torch
from helpers import unchanged, undisturbed
from PIL import Image
from tiny import DataDependent
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError, RenderError, StoreError
from memviz.explanation import AccentuateConfig, accentuate, load_accentuation
from memviz.explanation.accentuate import DATA, near_layers
from memviz.explanation.subject import CUTS, Subject
from memviz.models import InputSpec
from memviz.models.score_spec import ScoreSpec

INPUTS = InputSpec(size=(16, 16), resize=(18, 18))
QUICK = AccentuateConfig(pictures=2, steps=4, strength=0.1)


class Redness(nn.Module):
    """How red a picture is: sigmoid of the mean red minus the mean blue, behind a convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.sigmoid = nn.Conv2d(3, 2, 1, bias=False), nn.Sigmoid()
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None])

    def forward(self, pictures):
        red, blue = self.conv(pictures).mean((2, 3)).unbind(1)
        return self.sigmoid((red - blue)[:, None])


@pytest.fixture
def model():
    return memviz.wrap(Redness().eval(), INPUTS, name="redness", target="memorability")


@pytest.fixture
def photo(tmp_path):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(60, 190, (24, 32, 3), generator=random, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(("direction", "sign"), [("up", 1), ("down", -1)])
def test_the_score_goes_the_way_that_was_asked_for(model, photo, direction, sign):
    with unchanged(model.module), undisturbed():
        found = accentuate(model, photo, direction, config=QUICK)
    before, *steps = (shot.measured.shown for shot in found.strip)
    assert sign * before < sign * steps[0] < sign * steps[1]
    opposite, *random = (shot.measured.shown for shot in found.controls)
    assert sign * opposite < sign * before
    assert all(sign * each < sign * steps[1] for each in random)
    assert found.scale == "logit"
    assert [shot.file for shot in found.strip] == ["before.png", "step-1.png", "step-2.png"]


def test_scores_of_ten_crops_and_of_a_small_photograph(tmp_path):
    """Also a network without a sigmoid, which cannot be traced, whose score is scaled and clipped."""
    Image.new("RGB", (9, 12), (120, 90, 110)).save(tmp_path / "small.png")
    inputs = InputSpec(size=(16, 16), resize=(18, 18), mean=(0.1, 0.2, 0.3), channels="bgr", crops="ten")
    network = DataDependent(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 1, 1)))
    spec = ScoreSpec(mean=0.1, scale=2.0, shift=0.5, clip=(0.0, 1.0))
    model = memviz.wrap(network.eval(), inputs, "ten", "memorability", score_spec=spec)
    with unchanged(network), undisturbed():
        found = accentuate(model, tmp_path / "small.png", "down", config=QUICK, out=tmp_path / "out")
    assert found.scale == "score"
    assert found.pictures["before.png"].size == (9, 12)
    table = model.score([tmp_path / "out" / shot.file for shot in found.shots])
    assert [shot.measured.score for shot in found.shots] == pytest.approx(table["memorability"].tolist(), abs=1e-6)
    assert found.strip[2].measured.score < found.strip[0].measured.score


def test_what_is_reported_is_measured_on_the_saved_files(model, photo, tmp_path):
    out = tmp_path / "out"
    found = accentuate(model, photo, "up", config=QUICK, out=out)
    table = model.score([out / shot.file for shot in found.shots]).set_index("path")
    for shot in found.shots:
        measured = shot.measured
        assert measured.score == pytest.approx(table.loc[str(out / shot.file), "memorability"], abs=1e-6)
        assert measured.logit == pytest.approx(torch.tensor(measured.score).logit().item(), abs=1e-5)
        assert measured.robust_low <= measured.robust <= measured.robust_high
    first, one, two = found.strip
    assert (first.measured.rms, first.measured.distance) == (0, 0)
    # 8 bits, and Pillow's resizing instead of torch's
    assert one.measured.distance == pytest.approx(0.05, abs=0.01)
    assert two.measured.distance == pytest.approx(0.1, abs=0.01)
    with Image.open(out / "before.png") as picture:
        assert picture.size == (24, 18)  # the photograph's proportions, no more than preprocessing leaves


def test_a_small_strength_leaves_the_photograph(model, photo):
    found = accentuate(model, photo, "up", config=AccentuateConfig(strength=1e-4, pictures=1, steps=1))
    assert found.strip[1].measured.rms < 0.1
    assert found.strip[1].measured.score == pytest.approx(found.strip[0].measured.score, abs=1e-4)


def test_a_units_mean(model, photo):
    found = accentuate(model, photo, "down", "conv:0", config=QUICK)
    assert found.scale == "mean"
    inputs = torch.stack([INPUTS.from_pil(found.pictures[shot.file]) for shot in found.strip])
    maps = model.module.conv(inputs)[:, 0].detach()
    for shot, own in zip(found.strip, maps, strict=True):
        assert shot.measured.mean == pytest.approx(float(own.mean()), abs=1e-5)
        assert shot.measured.peak == pytest.approx(float(own.max()), abs=1e-5)
        assert shot.measured.score is None
    assert found.strip[2].measured.mean < found.strip[0].measured.mean
    assert found.what == "mean activation of conv:0"


def test_the_same_cuts_are_made_of_all_pictures(model, photo):
    subject = Subject(model, None, ["conv"], 0)
    with Image.open(photo) as picture:
        before = subject.start(picture.convert("RGB"))
    assert subject.measure(before) == subject.measure(before)
    assert len(subject._boxes) == CUTS


def test_is_an_artefact(model, photo, tmp_path):
    out = tmp_path / "out"
    found = accentuate(model, photo, "up", config=QUICK, out=out)
    loaded = load_accentuation(out)
    assert loaded == found
    assert {name: each.tobytes() for name, each in loaded.pictures.items()} == {
        name: each.tobytes() for name, each in found.pictures.items()
    }
    assert "no proof that people" in json.loads((out / DATA).read_text())["caution"]
    before = (out / DATA).stat().st_mtime_ns
    assert accentuate(model, photo, "up", config=QUICK, out=out) == found
    assert (out / DATA).stat().st_mtime_ns == before
    with pytest.raises(StoreError, match="direction 'up', not 'down'"):
        accentuate(model, photo, "down", config=QUICK, out=out)
    (out / DATA).unlink()  # as an interrupted call leaves it
    with pytest.raises(StoreError, match="not finished"):
        load_accentuation(out)
    assert accentuate(model, photo, "up", config=QUICK, out=out) == found
    Image.new("RGB", (24, 18)).save(photo)
    with pytest.raises(StoreError, match="its photograph is another"):
        accentuate(model, photo, "up", config=QUICK, out=out)


def test_a_folder_of_something_else_is_refused_before_the_work(model, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Subject, "start", None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"it holds notes\.txt"):
        accentuate(model, photo, "up", config=QUICK, out=tmp_path / "other")
    with pytest.raises(StoreError, match="is a file"):
        accentuate(model, photo, "up", config=QUICK, out=tmp_path / "other" / "notes.txt")


def test_an_interruption_leaves_no_folder(model, photo, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Subject, "measure", interrupt)
    with unchanged(model.module), undisturbed(), pytest.raises(KeyboardInterrupt):
        accentuate(model, photo, "up", config=QUICK, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_refused(model, photo, tmp_path):
    with pytest.raises(ImageError, match=r"none\.png"):
        accentuate(model, tmp_path / "none.png", "up")
    with pytest.raises(RenderError, match="direction='sideways': give up or down"):
        accentuate(model, photo, "sideways")
    with pytest.raises(LayerError, match="units 0 to 1; given was 9"):
        accentuate(model, photo, "up", "conv:9")
    with pytest.raises(LayerError, match="no layer 'elsewhere'"):
        accentuate(model, photo, "up", config=AccentuateConfig(hold=("elsewhere",)))
    maps = memviz.wrap(nn.Sequential(nn.Conv2d(3, 2, 1)), INPUTS, name="maps")
    with pytest.raises(ModelError, match="does not give one number a picture"):
        accentuate(maps, photo, "up")
    with pytest.raises(LayerError, match="has no convolution to hold a photograph at"):
        accentuate(memviz.wrap(nn.Sequential(nn.Flatten(), nn.Linear(768, 1)), INPUTS), photo, "up")
    for wrong in ({"strength": 0}, {"strength": 2}, {"pictures": 0}, {"steps": 1, "pictures": 2}, {"parameters": "p"}):
        with pytest.raises(RenderError, match=next(iter(wrong))):
            AccentuateConfig(**wrong)
    for parameter in model.module.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(RenderError, match="The gradient on the photograph is 0"):
        accentuate(model, photo, "up", config=QUICK, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_distances_are_taken(resmem):
    assert near_layers(resmem) == ("alexnet.conv1", "resnet.layer1.1")
