"""Depth profiles of networks of which it is known what their units look at."""

import importlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import unchanged, undisturbed
from PIL import Image
from torch import nn

import memviz
from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.explanation import DepthConfig, Estimate, depth, depth_result, load_depth
from memviz.explanation.concepts import conceptual_features
from memviz.explanation.depth_layers import choose_layers, count_convolutions
from memviz.explanation.depth_result import find_warnings
from memviz.images import list_images
from memviz.models import InputSpec

rooms = importlib.import_module("memviz.explanation.depth")  # the package has a function of that name
INPUTS = InputSpec(size=(16, 16), resize=16)
CONFIG = DepthConfig(components=8, folds=5)
COUNT = 60


class Branches(nn.Module):
    """`alexnet` takes red less green, `resnet` a code in the corner that says what is shown."""

    def __init__(self):
        super().__init__()
        self.alexnet = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), nn.ReLU())
        self.resnet = nn.Sequential(Corner(), nn.Conv2d(3, 2, 1))
        self.classes = nn.Linear(2, 2)
        with torch.no_grad():
            self.alexnet[0].weight[:] = torch.tensor([1.0, -1, 0]).view(3, 1, 1)
            self.alexnet[0].weight[1] *= -2
            self.resnet[1].weight.zero_()
            self.resnet[1].weight[:, 2] = torch.tensor([[[1.0]], [[-3.0]]])
            self.classes.weight[:] = torch.tensor([[1.0, 0], [0, 1.0]])

    def forward(self, pictures):
        maps = self.resnet(pictures)
        return self.classes(maps.mean((2, 3))) + self.alexnet(pictures).mean()


class Corner(nn.Module):
    def forward(self, pictures):
        return pictures[:, :, :1, :1]


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth_result, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Plain pictures of random colour, with a blue corner pixel of any level."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = np.empty((16, 16, 3), np.uint8)
        pixels[:] = random.integers(60, 200, 3)
        pixels[0, 0] = *pixels[1, 1, :2], random.integers(0, 256)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        network = Branches().eval()
    names = {"classes": ("low", "high")}
    return memviz.wrap(network, INPUTS, name="toy", branches=("alexnet", "resnet"), named=names)


@pytest.fixture(scope="module")
def index(model, photos, tmp_path_factory):
    layers = ["alexnet.0", "resnet.1"]
    return memviz.build_index(model, photos, layers=layers, out=tmp_path_factory.mktemp("i") / "x", progress=False)


@pytest.fixture(scope="module")
def found(model, index):
    with unchanged(model.module), undisturbed():
        return depth(model, index, config=CONFIG)


def test_what_explains_units_of_known_function(found):
    layers = {(layer.address, layer.twin): layer for layer in found.layers}
    assert list(layers) == [("alexnet.0", False), ("resnet.1", False), ("alexnet.0", True), ("resnet.1", True)]
    colour, shown = layers["alexnet.0", False], layers["resnet.1", False]
    assert (colour.units, colour.still, colour.convolutions) == (2, 0, 1)
    assert colour.perceptual.value > 0.9
    assert colour.only_perceptual.value > 0.9
    assert abs(colour.only_conceptual.value) < 0.05
    assert shown.conceptual.value > 0.99
    assert shown.only_conceptual.value > 0.5
    assert abs(shown.only_perceptual.value) < 0.01
    assert colour.similarity_perceptual.value > colour.similarity_conceptual.high
    assert shown.similarity_conceptual.value > shown.similarity_perceptual.high
    for layer in found.layers:
        assert layer.balance.value == pytest.approx(layer.only_conceptual.value - layer.only_perceptual.value)
        for name in ("perceptual", "balance", "similarity_conceptual"):
            each = getattr(layer, name)
            assert each.low <= each.value <= each.high
    branches = {each.branch: each for each in found.branches}
    assert branches["alexnet"].balance.high < 0 < branches["resnet"].balance.low
    assert branches["resnet"].learned.value == pytest.approx(
        branches["resnet"].balance.value - layers["resnet.1", True].balance.value
    )


def test_the_sentences_say_whether_the_claim_holds_and_what_to_beware_of(found):
    claim, alexnet, resnet, own = found.verdict
    assert claim.startswith("The paper's claim, AlexNet perceptual and ResNet conceptual, holds for this network: ")
    assert alexnet.startswith("alexnet: perceptual on the whole; over 1 layers ")
    assert resnet.startswith("resnet: conceptual on the whole")
    assert "its twin with random weights" in resnet
    assert own.startswith("The concepts are toy's own class outputs")
    warned = replace(found, warnings={"alexnet": "weights at their random start"}, own_concepts=False)
    claim, alexnet, _ = warned.verdict
    assert "But of alexnet it says nothing about learning (weights at their random start)." in claim
    assert alexnet.endswith("Beware: weights at their random start.")
    turned = replace(found, branches=tuple(replace(each, balance=Estimate(0, -1, 1)) for each in found.branches))
    assert "does not hold for this network" in turned.claim
    assert "neither more perceptual nor more conceptual" in turned.verdict[1]
    one = replace(found, branches=(found.branches[0], turned.branches[1]))
    assert "holds for alexnet alone" in one.claim
    assert replace(found, branches=found.branches[:1]).claim == ""
    # Perceptual, conceptual, level, conceptual: it turns for good at the last.
    first, shown = found.layers[:2]
    level = replace(first, balance=Estimate(0, -1, 1))
    deep = replace(shown, branch="alexnet", address="alexnet.last", convolutions=9)
    turning = replace(found, layers=(first, replace(deep, address="alexnet.early"), level, deep))
    assert "; of these layers, conceptual from alexnet.last on (9 convolutions deep)" in turning._describe(
        found.branches[0]
    )
    assert "of these layers" not in alexnet


def test_the_published_branch_that_was_never_trained_is_told(resmem):
    warnings = find_warnings(resmem, resmem.fingerprint())
    assert warnings == {"alexnet": "weights at their random start; no effect on the score"}


def test_weights_of_an_unknown_network_are_judged():
    network = nn.Sequential(nn.Conv2d(3, 256, 5), nn.ReLU(), nn.Conv2d(256, 4, 1))
    model = memviz.wrap(network, INPUTS)
    assert find_warnings(model, model.fingerprint()) == {"": "weights at their random start"}


def test_another_network_names_the_concepts(model, index):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    other = memviz.wrap(network, INPUTS, name="colours", named={"2": list("abcd")})
    found = depth(model, index, concepts=other, config=replace(CONFIG, twin=False))
    assert (found.concepts, found.own_concepts) == ("colours", False)
    assert found.branches[0].twin is None
    # Mean colours are what it names, so nothing of them is unique to the perceptual features.
    assert found.layers[0].conceptual.value > 0.95
    assert found.layers[0].only_perceptual.value < 0.05


def test_categories_are_concepts(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4))
    model = memviz.wrap(network.eval(), INPUTS, name="plain")
    random = np.random.default_rng(0)
    for kind, level in (("a", 40), ("b", 160), ("few", 255)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(4 if kind == "few" else 40):
            pixels = random.integers(level, level + 40, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{number:02d}.png")
    index = memviz.build_index(model, tmp_path / "photos", out=tmp_path / "index", progress=False)
    found = depth(model, index, config=replace(CONFIG, components=2))
    assert [each.branch for each in found.branches] == [""]
    assert found.layers[0].conceptual.value > 0.5
    features = conceptual_features(model, list_images(tmp_path / "photos"))
    assert features.names == ("a", "b")
    assert features.values.sum(0).tolist() == [40, 40]


def assert_equal(one, other):
    """Equal up to the rounding of passes that several threads share.

    It decides the similarity of the toy's layers: two units correlate by 1 or by -1.
    """
    frames = [each.frame().filter(regex="^(?!similarity)") for each in (one, other)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-5, atol=1e-6)
    assert (one.verdict, one.warnings) == (other.verdict, other.warnings)


def test_result_on_disk(model, index, found, tmp_path):
    out = tmp_path / "depth"
    made = depth(model, index, config=CONFIG, out=out)
    assert made == load_depth(out) == depth(model, index, config=CONFIG, out=out)
    assert_equal(made, found)
    names = {"depth.json", "depth.pdf", "depth.png", "layers.csv", "manifest.json", "units.parquet"}
    assert set(os.listdir(out)) - {".lock"} == names
    table = pd.read_csv(out / "layers.csv")
    assert table["balance_low"].tolist() == pytest.approx([layer.balance.low for layer in found.layers])
    units = pd.read_parquet(out / "units.parquet")
    assert len(units) == sum(layer.units for layer in found.layers)
    first = units[(units["address"] == "alexnet.0") & ~units["twin"]]
    assert first["only_perceptual"].mean() == pytest.approx(found.layers[0].only_perceptual.value)
    with pytest.raises(StoreError, match=r"config\.units 64, not 1"):
        depth(model, index, config=replace(CONFIG, units=1), out=out)


def test_what_was_measured_before_an_interruption_is_kept(model, index, found, tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "random_twin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        depth(model, index, config=CONFIG, out=tmp_path / "depth")
    with pytest.raises(StoreError, match="is not finished"):
        load_depth(tmp_path / "depth")
    monkeypatch.undo()
    monkeypatch.setattr(rooms, "perceptual_features", None)  # is not called again
    assert_equal(depth(model, index, config=CONFIG, out=tmp_path / "depth"), found)


def test_the_sample_of_photographs_and_units(model, index):
    config = replace(CONFIG, sample=50, units=1, twin=False)
    one, same, other = (depth(model, index, config=config, seed=seed) for seed in (1, 1, 2))
    assert_equal(one, same)
    assert one.photographs == 50
    assert {layer.units for layer in one.layers} == {1}
    assert one.layers[0].perceptual != other.layers[0].perceptual


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": ("resnet.0",)}, LayerError, "does not watch 'resnet.0'"),
        ({"layers": ("resnet.9",)}, LayerError, "There is no layer 'resnet.9'"),
        ({"layers": ()}, LayerError, "No layer"),
        ({"components": 50}, ImageError, "60 photographs are too few to fit 100 components"),
        ({"sample": 12}, ImageError, "12 photographs are too few"),
        ({"sample": 0}, ImageError, "sample=0"),
        ({"statistic": "median"}, LayerError, "'mean' or 'peak'"),
        ({"units": 0}, LayerError, "units=0"),
    ],
)
def test_wrong_questions_leave_nothing(model, index, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        depth(model, index, config=replace(CONFIG, **options), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_of_other_weights(index):
    network = Branches()
    network.alexnet[0].weight.data += 1
    with pytest.raises(StoreError, match="other weights"):
        depth(memviz.wrap(network.eval(), INPUTS, branches=("alexnet", "resnet")), index)


def test_nothing_conceptual(model, index, tmp_path):
    nameless = memviz.wrap(model.module, INPUTS, name="toy", branches=("alexnet", "resnet"))
    with pytest.raises(ModelError, match="toy names no classes"):
        depth(nameless, index, config=CONFIG, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_twin_can_be_made(photos, tmp_path):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, pictures):
            return pictures * self.by

    network = nn.Sequential(Scale(), nn.Conv2d(3, 2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = memviz.wrap(network, INPUTS, named={"3": ["a", "b"]})
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    with pytest.raises(ModelError, match="0 has parameters and no reset_parameters"):
        depth(model, index, config=CONFIG, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert depth(model, index, config=replace(CONFIG, twin=False)).branches[0].learned is None


def test_a_photograph_that_changed(model, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    index = memviz.build_index(model, tmp_path / "photos", layers=["alexnet.0"], out=tmp_path / "index", progress=False)
    shutil.copy(photos / "01.png", tmp_path / "photos" / "00.png")
    with pytest.raises(StoreError, match=r"00\.png is gone, or is not the photograph"):
        depth(model, index, config=CONFIG, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_photographs_do_not_move(photos, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 4), nn.Conv2d(2, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    network[1].weight.data[:3] = 0
    names = {"3": list("abcd")}
    model = memviz.wrap(network, INPUTS, name="flat", named=names)
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    found = depth(model, index, config=replace(CONFIG, twin=False))
    assert [(layer.units, layer.still) for layer in found.layers] == [(2, 0), (1, 3)]
    assert found.layers[1].similarity_perceptual is None
    assert "similarity_perceptual_low" in found.frame()
    network[1].weight.data[:] = 0
    model = memviz.wrap(network, INPUTS, name="flat", named=names)
    index = memviz.build_index(model, photos, out=tmp_path / "another", progress=False)
    with pytest.raises(LayerError, match="No unit of 1 is moved"):
        depth(model, index, config=CONFIG)


def test_by_default_layers_are_spread_over_each_branch(resmem, index):
    class Watching:
        path, layers = index.path, resmem.layers.watched()

    chosen = [layer.address for layer in choose_layers(resmem, Watching, None)]
    assert chosen[:5] == [f"alexnet.conv{number}" for number in range(1, 6)]
    assert len(chosen) == 5 + 14
    assert (chosen[5], chosen[-1]) == ("resnet.conv1", "resnet.layer4.2")
    depths = [count_convolutions(resmem.layers, address) for address in chosen[5:]]
    assert depths == sorted(depths)
    assert (depths[0], depths[-1]) == (1, 151)
