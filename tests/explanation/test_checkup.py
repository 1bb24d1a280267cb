"""Weights and effects of a network in one verdict, and as an artefact."""

import json

import pytest
import torch
from helpers import unchanged, undisturbed, write_noise
from PIL import Image
from torch import nn

import memviz
from memviz.errors import ImageError, StoreError
from memviz.explanation import checkup, load_checkup
from memviz.explanation.checkup import checkup_folder
from memviz.gallery import parse_recipe
from memviz.models import InputSpec

INPUTS = InputSpec(size=(16, 16), resize=16)


class TwoBranches(nn.Module):
    """One branch at random, which the head does not read; one whose filters are smooth, which is all it reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.idle = nn.Sequential(nn.Conv2d(3, 64, 7), nn.ReLU())
        self.busy = nn.Sequential(nn.Conv2d(3, 64, 7), nn.ReLU())
        self.head = nn.Linear(128, 1)
        with torch.no_grad():
            waves = torch.linspace(0, 3, 7).cos() * torch.linspace(0.5, 2, 64)[:, None]
            self.busy[0].weight.copy_(waves[:, None, :, None] * torch.ones(64, 3, 7, 7))
            self.head.weight[0, :64] = 0

    def forward(self, pictures):
        return self.head(torch.cat([self.idle(pictures).mean((2, 3)), self.busy(pictures).mean((2, 3))], dim=1))


@pytest.fixture
def model():
    return memviz.wrap(TwoBranches(), INPUTS, name="two", target="memorability", branches=("idle", "busy"))


@pytest.fixture
def photos(tmp_path):
    return write_noise(tmp_path / "photos", 16, 16)


def test_what_has_not_learned_and_does_not_matter_is_found(model, photos):
    with unchanged(model.module), undisturbed():
        found = checkup(model, photos, progress=False)
    idle = "weights at their random start; no effect on the score"
    assert found.finding("idle") == found.finding("idle.0") == idle
    assert found.finding("busy") == found.finding("busy.0") == found.finding("nowhere") == ""
    first, second = found.verdict
    assert first.startswith("idle: weights at their random start (0 of 1 layers have learned")
    assert "; no effect on the score, which moves by 0.0e+00 at most; 0 of 64 units are constant" in first
    assert second.startswith("busy: weights trained (1 of 1 layers have learned")
    assert "100.0% of the score's variance goes with it (95 %: 100.0% to 100.0%" in second
    assert str(found) == f"{first}\n{second}"


def test_without_photographs_only_weights_are_judged(model):
    found = checkup(model)
    assert found.effects is None
    assert found.finding("idle.0") == "weights at their random start"
    assert "score" not in str(found)
    table = found.frame().set_index("address")
    assert table.loc["idle.0", ["verdict", "start", "weights"]].tolist() == ["random start", "torch's default", 9408]
    assert table.loc["busy.0", "verdict"] == "trained"


def test_a_part_that_holds_both_is_counted(model):
    model = memviz.wrap(nn.Sequential(*model.module.idle, *nn.Sequential(model.module.busy)), INPUTS, name="mixed")
    assert str(checkup(model)).startswith("mixed: 1 of 2 layers at their random start (1 of 2 layers have learned")


def test_the_smoothness_of_a_first_convolution_is_named(model):
    busy = checkup(model).verdict[1]
    rows = {row.address: row for row in checkup(model).layers}
    maps = model.module.busy[0].weight.detach().double()
    pairs = [(maps[..., 1:, :], maps[..., :-1, :]), (maps[..., 1:], maps[..., :-1])]
    products = torch.cat([(one * other).flatten() for one, other in pairs])
    assert rows["busy.0"].neighbours == pytest.approx(float(products.mean() / maps.square().mean()), rel=1e-4)
    assert rows["busy.0"].neighbours_limit == pytest.approx(6 / len(products) ** 0.5)
    assert abs(rows["idle.0"].neighbours) < rows["idle.0"].neighbours_limit < rows["busy.0"].neighbours
    assert "neighbouring weights of the first convolution, busy.0, correlate by 0." in busy
    assert rows["head"].neighbours is None


def test_units_that_photographs_do_not_move_are_counted(model, photos, tmp_path):
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    with torch.no_grad():
        model.module.busy[0].weight[:3] = 0
        model.module.busy[0].bias[3:5] = -99
    with pytest.raises(StoreError, match="other weights"):
        checkup(model, index)
    index = memviz.build_index(model, photos, out=tmp_path / "other", progress=False)
    found = checkup(model, index, out=tmp_path / "out", progress=False)
    by_address = {each.address: each for each in found.silent}
    assert (by_address["busy.0"].constant, by_address["busy.0"].silent, by_address["busy.0"].photographs) == (3, 2, 16)
    assert by_address["idle.0"].constant == 0
    assert "3 of 64 units are constant over 16 photographs, and 2 of 61 are never above 0 before a ReLU." in str(found)
    assert (tmp_path / "out" / "units.csv").is_file()
    assert load_checkup(tmp_path / "out") == found
    assert checkup(model, photos, progress=False).silent == found.silent
    assert checkup(model).silent is None


def test_units_are_counted_without_branches(photos):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with torch.no_grad():
        network[0].weight[:3] = 0
    model = memviz.wrap(network, InputSpec(size=(16, 16), resize=16), name="net")
    assert "3 of 8 units are constant over 16 photographs" in str(checkup(model, photos, progress=False))
    bad = photos.parent / "bad"
    bad.mkdir()
    (bad / "none.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="None of the 1"):
        checkup(model, bad, progress=False)


def test_a_layer_that_was_asked_for(model, photos):
    found = checkup(model, photos, layers=["idle.0"], progress=False)
    assert [each.address for each in found.layer_effects.effects] == ["idle.0"] * 2
    assert found.layer_effects.effect("idle.0", "other").share.value == 0


def test_is_an_artefact(model, photos, tmp_path):
    out = tmp_path / "checkup"
    found = checkup(model, photos, out=out, progress=False)
    names = {"checkup.json", "checkup.pdf", "checkup.png", "effects.csv", "layers.csv", "manifest.json", "units.csv"}
    assert {path.name for path in out.iterdir()} - {".lock"} == names
    assert load_checkup(out) == found
    with Image.open(out / "checkup.png") as figure:
        assert figure.width == pytest.approx(180 / 25.4 * 300, abs=2)
        assert len(figure.convert("L").getcolors()) > 10
    before = (out / "checkup.json").stat().st_mtime_ns
    assert checkup(model, photos, out=out, progress=False) == found
    assert (out / "checkup.json").stat().st_mtime_ns == before
    with pytest.raises(StoreError, match="sample 200, not 12"):
        checkup(model, photos, sample=12, out=out, progress=False)
    (photos / "0.png").unlink()
    with pytest.raises(StoreError, match="its photographs are others"):
        checkup(model, photos, out=out, progress=False)


def test_one_that_is_damaged_unfinished_or_of_other_weights(model, tmp_path):
    out = tmp_path / "checkup"
    checkup(model, out=out)
    text = (out / "checkup.json").read_text()
    (out / "checkup.json").write_text(text.replace(model.fingerprint(), "0" * 64))
    with pytest.raises(StoreError, match="is of other weights"):
        load_checkup(out)
    (out / "checkup.json").write_text(text[:100])
    with pytest.raises(StoreError, match="checkup"):
        load_checkup(out)
    (out / "checkup.json").unlink()
    with pytest.raises(StoreError, match="not finished"):
        load_checkup(out)
    assert checkup(model, out=out).finding("idle.0")
    assert load_checkup(out).finding("idle.0")


def test_a_gallery_shows_the_one_beside_its_index(model, photos, tmp_path):
    index = memviz.build_index(model, photos, out=tmp_path / "runs" / "photos", progress=False)
    recipe = {"title": "t", "model": "two", "layout": "grid", "panels": [{"layer": "idle.0", "units": [0]}]}
    recipe = parse_recipe(recipe | {"render": {"size": 16, "steps": 2}})
    arguments = {"index": index, "models": [model], "progress": False}

    def shown(name):
        page = memviz.make_gallery(recipe, out=tmp_path / name, **arguments)
        return json.loads((page.parent / "gallery.json").read_text())["sections"][0]["groups"][0]["finding"]

    assert shown("before") == ""
    checkup(model, index, out=checkup_folder(index), progress=False)
    assert shown("after") == "weights at their random start; no effect on the score"


def test_the_published_resmem(resmem):
    found = checkup(resmem)
    assert found.finding("alexnet") == "weights at their random start"
    assert found.finding("resnet") == found.finding("resnet.layer3.20") == ""


@pytest.mark.filterwarnings("error")
def test_a_network_of_which_nothing_can_be_told(photos, tmp_path):
    """Too few weights, no branches with an effect, and one score for all."""
    network = nn.Sequential(nn.Conv2d(3, 1, 16), nn.Flatten())
    nn.init.zeros_(network[0].weight)
    model = memviz.wrap(network, INPUTS, name="flat", branches=("0",))
    found = checkup(model, photos, out=tmp_path / "out", progress=False)
    assert "all photographs have the same score" in str(found)
    model = memviz.wrap(nn.Sequential(nn.Conv2d(3, 1, 3)), INPUTS, name="small")
    found = checkup(model, out=tmp_path / "small")
    assert (
        str(found)
        == "small: nothing can be told of its weights (0 of 0 layers have learned; 1 have too little to tell; "
        f"neighbouring weights of the first convolution, 0, correlate by {found.layers[0].neighbours:z.2f}, where "
        "chance gives up to 1.00)."
    )
