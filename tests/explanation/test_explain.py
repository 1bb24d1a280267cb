"""Explanations of photographs, by networks of which it is known what raises their scores."""

import json
from dataclasses import replace

import additive
import numpy as np
import pytest
import tiny
import torch
from helpers import misnamed, unchanged, undisturbed
from PIL import Image
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explanation import ExplainConfig, checkup, explain, load_explanation, load_explanations
from memviz.explanation.checkup import checkup_folder
from memviz.explanation.choice import chosen_layers
from memviz.explanation.explainer import Explainer
from memviz.explanation.record import DATA, MAP
from memviz.explanation.reference import Candidates
from memviz.models import InputSpec, ScoreSpec

INPUTS = InputSpec(size=(16, 16), resize=(16, 16))
QUICK = ExplainConfig(method="expected-gradients", references=5, controls=4)


@pytest.fixture(scope="module")
def model():
    """The logit is 2 * red - 3 * green, whose branches have names."""
    network = additive.Additive(2.0, -3.0, after=nn.Sigmoid())
    return additive.wrapped(network, INPUTS, named={"red": ["redness"]})


@pytest.fixture(scope="module")
def index(model, colours, tmp_path_factory):
    return memviz.build_index(model, colours[0], out=tmp_path_factory.mktemp("index") / "index", layers=["green"])


def red_square(folder, name="square.png"):
    """Black, with a red square in the middle of it."""
    picture = Image.new("RGB", (16, 16))
    picture.paste((255, 0, 0), (6, 6, 10, 10))
    picture.save(folder / name)
    return folder / name


def logits(levels):
    return 2 * levels[:, 0] - 3 * levels[:, 1]


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def test_a_known_network_is_explained(model, index, colours):
    folder, levels = colours
    photo = folder / "07.png"
    with unchanged(model.module), undisturbed():
        [found] = explain(model, photo, index, config=QUICK, progress=False)
    assert found.score == pytest.approx(sigmoid(logits(levels)[7]), abs=1e-6)
    assert found.logit == pytest.approx(logits(levels)[7], abs=1e-5)
    drawn = levels[[int(name[:2]) for name in found.references.photographs]]
    assert len(drawn) == 5
    assert "07.png" not in found.references.photographs
    assert (found.references.source, found.references.among) == ("index", 29)
    assert found.references.logit == pytest.approx(logits(drawn).mean(), abs=1e-5)
    assert found.references.score == pytest.approx(sigmoid(logits(drawn)).mean(), abs=1e-5)
    scores = np.delete(logits(levels), 7)
    assert found.percentile == pytest.approx(100 * (scores < logits(levels)[7]).mean())
    assert found.ranked == 29
    [red], [green] = found.named, found.layers
    assert (red.address, green.address) == ("red", "green")
    for layer, channel, weight in ((red, 0, 2), (green, 1, -3)):
        [unit] = layer.raising or layer.lowering
        assert unit.contribution == pytest.approx(weight * (levels[7] - drawn.mean(0))[channel], abs=1e-5)
        assert unit.value == pytest.approx(levels[7, channel], abs=1e-5)
        assert unit.reference == pytest.approx(drawn[:, channel].mean(), abs=1e-5)
        assert layer.total == pytest.approx(unit.contribution)
        assert bool(layer.raising) == (unit.contribution > 0)
        assert unit.name == ("redness" if channel == 0 else "")
    assert found.complete
    assert found.total == pytest.approx(found.difference, abs=1e-4)
    assert f"higher than that of {found.percentile:.0f} % of the 29 photographs of the index" in found.standing
    assert f"{found.total:+.3f}".replace("-", "−") in found.completeness
    assert f"The 1 classes of red add {red.total:+.3f}.".replace("-", "−") in found.completeness
    ends = {
        0: "lower than that of all 29",
        100: "higher than that of all 29",
        0.4: "less than 1 %",
        99.6: "more than 99 %",
    }
    for percentile, words in ends.items():
        assert words in replace(found, percentile=percentile).standing
    table = found.frame()
    assert table["layer"].tolist() == ["red", "green"]
    assert table["contribution"].sum() == pytest.approx(found.difference, abs=1e-4)


@pytest.mark.parametrize(("score", "percentile"), [(0.1, 0), (0.2, 12.5), (0.7, 75), (0.75, 100), (0.9, 100)])
def test_percentiles(score, percentile):
    scores = np.array([0.2, 0.3, 0.7, 0.7, 0.99, np.nan], dtype=np.float32).astype(np.float64)
    candidates = Candidates("index", tuple("abcdef"), tuple("abcdef"), scores, (0,), None)
    assert candidates.percentile(score, "e") == (percentile, 4)
    assert replace(candidates, source="package").percentile(score, "e") is None


def test_the_check_in_words_is_right_where_it_is_known(model, tmp_path):
    photo = red_square(tmp_path)
    config = replace(QUICK, against="blurred", share=16 / 256, controls=20)
    [found] = explain(model, photo, config=config)
    [raises] = [each for each in found.regions if each.side == "raises"]
    # The square is 16 of 256 pixels: the logit is 2 * 16 / 256, and 0 without it.
    assert raises.share == pytest.approx(16 / 256)
    assert (raises.before.logit, raises.before.score) == pytest.approx((0.125, sigmoid(0.125)), abs=1e-6)
    assert (raises.filled.logit, raises.filled.score) == pytest.approx((0.0, 0.5), abs=1e-6)
    assert raises.stronger == 0
    assert "it falls from 0.531 to 0.500" in raises.sentence
    assert "None of the 20 random regions lowers it as far." in raises.sentence
    assert raises.sentence in found.sentences
    # Nothing outside of the square differs from its blurred surroundings but near it, and nothing is green.
    frame = found.region_frame()
    assert frame[frame["side"] == "raises"]["region"].tolist() == ["none", "marked", *["random"] * 20]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[6:10, 6:10] = True
    assert found.map[inside.numpy()].min() > 0
    assert found.map[~inside.numpy()].max() <= 0


def test_without_an_index_it_is_said_plainly(model, colours):
    photo = colours[0] / "07.png"
    [found] = explain(model, photo, config=QUICK)
    assert (found.percentile, found.ranked, found.references.source) == (None, 0, "package")
    assert "5 photographs drawn at random from the 17 that come with scikit-image" in found.standing
    assert "index" not in found.standing
    [itself] = explain(model, photo, config=replace(QUICK, against="blurred"))
    assert "the same photograph, blurred until its details are gone, has" in itself.standing
    assert itself.difference == pytest.approx(0, abs=1e-5)  # it is plain
    with Image.open(photo) as picture:
        assert itself.picture.size == (16, 13)  # as wide as the input, in the proportions of 5 x 4
        assert picture.convert("RGB").getpixel((0, 0)) == itself.picture.getpixel((0, 0))


def test_what_is_saved_is_read_again(model, index, colours, tmp_path, monkeypatch):
    out, photos = tmp_path / "out", [colours[0] / "03.png", colours[0] / "04.png"]
    first = explain(model, photos, index, config=QUICK, out=out)
    places = sorted(out.glob("0*"))
    assert [place.name[:3] for place in places] == ["03-", "04-"]
    assert [load_explanation(place) for place in places] == first == list(load_explanations(out).values())
    assert np.array_equal(load_explanation(places[0]).map, first[0].map)
    assert load_explanation(places[0]).picture.tobytes() == first[0].picture.tobytes()
    assert str(tmp_path) not in (places[0] / DATA).read_text()
    before = [(place / DATA).stat().st_mtime_ns for place in places]
    with monkeypatch.context() as patched:
        patched.setattr(Explainer, "explain", None)
        assert explain(model, photos, index, config=QUICK, out=out) == first
    # Another photograph joins them.
    explain(model, colours[0] / "05.png", index, config=QUICK, out=out)
    assert len(load_explanations(out)) == 3
    assert [(place / DATA).stat().st_mtime_ns for place in places] == before
    monkeypatch.setattr(Explainer, "explain", None)  # what follows is refused before the work is done
    with pytest.raises(StoreError, match=r"config\.share 0\.2, not 0\.3"):
        explain(model, photos, index, config=replace(QUICK, share=0.3), out=out)
    with pytest.raises(StoreError, match="seed 0, not 1"):
        explain(model, photos, index, config=QUICK, seed=1, out=out)
    with pytest.raises(StoreError, match="the index is another"):
        explain(model, photos, config=replace(QUICK, layers=("green",)), out=out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"it holds notes\.txt"):
        explain(model, photos, index, config=QUICK, out=tmp_path / "other")
    with pytest.raises(StoreError, match="is a file"):
        explain(model, photos, index, config=QUICK, out=tmp_path / "other" / "notes.txt")


def test_an_interruption_leaves_what_is_finished(model, index, colours, tmp_path, monkeypatch):
    photos, out = [colours[0] / "03.png", colours[0] / "04.png"], tmp_path / "out"
    plain = Explainer.explain

    def interrupted(self, picture, name, *rest):
        if name == "04.png":
            raise KeyboardInterrupt
        return plain(self, picture, name, *rest)

    monkeypatch.setattr(Explainer, "explain", interrupted)
    with unchanged(model.module), undisturbed(), pytest.raises(KeyboardInterrupt):
        explain(model, photos, index, config=QUICK, out=out)
    assert [name[:3] for name in load_explanations(out)] == ["03-"]
    monkeypatch.setattr(Explainer, "explain", plain)
    whole = explain(model, photos, index, config=QUICK, out=out)
    [place] = out.glob("04-*")
    (place / DATA).unlink()  # as a process that is killed leaves it
    (place / MAP).write_bytes(b"half")
    with pytest.raises(StoreError, match="not finished"):
        load_explanation(place)
    assert list(load_explanations(out)) == [next(out.glob("03-*")).name]
    assert explain(model, photos, index, config=QUICK, out=out) == whole
    (place / MAP).write_bytes(b"half")
    with pytest.raises(StoreError, match=r"map\.npy is missing or damaged"):
        load_explanation(place)
    data = json.loads((place / DATA).read_text())
    (place / DATA).write_text(json.dumps(data | {"weights": "0" * 64}))
    with pytest.raises(StoreError, match="of other weights"):
        load_explanation(place)


def test_files_that_are_no_photographs_are_named(model, index, colours, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    latin = misnamed(tmp_path, colours[0] / "03.png")
    with pytest.warns(UserWarning, match=r"2 unreadable files were skipped:\n.*broken\.png: not a picture"):
        found = explain(model, [tmp_path / "broken.png", latin, colours[0] / "03.png"], index, config=QUICK)
    assert [each.photograph for each in found] == ["03.png"]
    with pytest.raises(ImageError, match=r"None of the 1 photographs can be read \(.*broken\.png: not a picture"):
        explain(model, tmp_path / "broken.png", index, config=QUICK, out=tmp_path / "out")
    with pytest.raises(ImageError, match=r"none\.png does not exist"):
        explain(model, tmp_path / "none.png", index, config=QUICK, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_explained_is_refused(model, index, colours, tmp_path):
    photo, out = colours[0] / "03.png", tmp_path / "out"
    other = additive.wrapped(nn.Sequential(nn.Conv2d(3, 1, 16), nn.Flatten()), INPUTS, ())
    with pytest.raises(StoreError, match="was built with other weights"):
        explain(other, photo, index, out=out)
    with pytest.raises(LayerError, match="does not watch 'red'"):
        explain(model, photo, index, config=replace(QUICK, layers=("red",)), out=out)
    with pytest.raises(LayerError, match="There is no layer 'rad'"):
        explain(model, photo, config=replace(QUICK, layers=("rad",)), out=out)
    with pytest.raises(LayerError, match="no layer was given"):
        explain(model, photo, config=replace(QUICK, layers=()), out=out)
    with pytest.raises(ModelError, match="does not give one number a picture"):
        explain(memviz.wrap(nn.Sequential(nn.Conv2d(3, 2, 3)), INPUTS), photo, out=out)
    [alone] = [memviz.build_index(model, photo, out=tmp_path / "alone", layers=["green"])]
    with pytest.raises(StoreError, match="no other photograph"):
        explain(model, photo, alone, config=QUICK, out=out)
    assert not out.exists()
    wrong = ({"units": 0}, {"classes": 2000}, {"references": 0}, {"steps": 65}, {"share": 0.6}, {"against": "x"})
    for each in (*wrong, {"method": "magic"}, {"controls": 0}):
        with pytest.raises(ModelError, match=next(iter(each))):
            ExplainConfig(**each)


def test_other_networks_and_files(tmp_path):
    """Ten crops, a score without a sigmoid that is clipped, another order of channels; grey, 16-bit and tiny files."""
    inputs = InputSpec(size=(12, 12), resize=(14, 14), mean=(0.1, 0.2, 0.3), channels="bgr", crops="ten")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 1, 1))
    spec = ScoreSpec(mean=0.1, scale=2.0, shift=0.5, clip=(0.0, 1.0))
    model = memviz.wrap(network.eval(), inputs, "ten", "memorability", score_spec=spec)
    noise = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray((noise // 257).astype(np.uint8)).save(tmp_path / "a-grey.png")
    Image.fromarray(noise).save(tmp_path / "b-sixteen.png")
    Image.new("RGB", (3, 3), (9, 99, 199)).save(tmp_path / "c-tiny.png")
    Image.new("RGBA", (1, 40), (9, 99, 199, 80)).save(tmp_path / "d-long.png")
    files = sorted(tmp_path.glob("*.png"))
    with unchanged(network), undisturbed():
        found = explain(model, files, config=replace(QUICK, method="grad-cam"), out=tmp_path / "out")
    table = model.score(files)
    assert [each.score for each in found] == pytest.approx(table["memorability"].tolist(), abs=1e-6)
    assert {(each.scale, each.crops) for each in found} == {("score", 10)}
    assert all(each.complete for each in found)
    assert [each.layers[0].address for each in found] == ["0"] * 4
    for each in found:
        for check in each.regions:
            assert check.before.logit == pytest.approx(each.logit, abs=1e-5)
            assert check.before.score == pytest.approx(np.clip(each.logit, 0, 1), abs=1e-5)
    assert len(load_explanations(tmp_path / "out")) == 4


def test_branches_without_effect_are_left_out_and_said(tmp_path, colours):
    network = tiny.built("Branches")
    with torch.no_grad():
        network.head.weight[0, :4] = 0
    model = memviz.wrap(network, InputSpec(size=(12, 12), resize=12), "two", "memorability", ("left", "right"))
    index = memviz.build_index(model, colours[0], out=tmp_path / "index")
    addresses = [layer.address for layer in chosen_layers(model, index, None, model.fingerprint())]
    assert addresses == ["left.0", "left.2", "right.1", "right.2"]
    checkup(model, index, out=checkup_folder(index), progress=False)
    [found] = explain(model, colours[0] / "03.png", index, config=QUICK)
    assert [each.address for each in found.layers] == ["right.1", "right.2"]
    config = replace(QUICK, layers=("left@1", "right.2"))
    left, right = explain(model, colours[0] / "03.png", index, config=config)[0].layers
    assert (left.address, right.address) == ("left.0", "right.2")
    assert "no effect on the score" in left.finding
    assert (left.raising, left.lowering, left.total) == ((), (), 0)
    assert "no effect" not in right.finding


def test_the_published_resmem(resmem):
    layers = chosen_layers(resmem, None, None, resmem.fingerprint())
    assert [layer.address for layer in layers] == [
        "resnet.layer1.2", "resnet.layer2.7", "resnet.layer3.35", "resnet.layer4.2",
    ]  # fmt: skip
