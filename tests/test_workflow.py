"""One call from a recipe to its page: what is missing is rendered, with the network that each panel names."""

import json

import pytest
import torch
from helpers import unchanged, undisturbed, write_noise
from tiny import built
from torch import nn

import memviz
from memviz.errors import RecipeError, StoreError
from memviz.gallery import load_recipe, parse_recipe, plan_gallery
from memviz.models import InputSpec
from memviz.models.registry import ARCHITECTURES, Architecture
from memviz.rendering import engine as engines
from memviz.rendering import load_renders

INPUTS = InputSpec(size=(16, 16), resize=18)


class Single(nn.Module):
    """One branch, as the original MemNet."""

    branches = ()

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 1)

    def forward(self, pictures):
        return self.head(self.left(pictures).mean((2, 3)))


@pytest.fixture
def photos(tmp_path):
    return write_noise(tmp_path / "photos", 10, 18)


@pytest.fixture
def both():
    return memviz.wrap(built("Branches"), INPUTS, target="memorability", name="both")


@pytest.fixture
def single():
    torch.manual_seed(1)
    return memviz.wrap(Single(), INPUTS, target="vividness", name="single")


@pytest.fixture
def indexes(both, single, photos, tmp_path):
    return {model.name: memviz.build_index(model, photos, out=tmp_path / model.name, k=9) for model in (both, single)}


@pytest.fixture
def recipe(indexes):
    left = {"model": "single", "index": str(indexes["single"].path), "layer": "left.0", "units": [0, 2]}
    rows = [
        {"label": "First convolutions", "left": left, "right": {"layer": "nearest:right", "units": "selective:1"}},
        {"right": {"layer": "left.2", "units": [1]}},
    ]
    data = {"title": "Side by side", "model": "both", "layout": "branches", "render": {"size": 16, "steps": 2}}
    return parse_recipe(data | {"rows": rows})


@pytest.fixture
def drawn(monkeypatch):
    drawn = []
    draw = engines.Engine.draw
    monkeypatch.setattr(
        engines.Engine,
        "draw",
        lambda self, chosen, *args: drawn.extend((self, str(each)) for each in chosen) or draw(self, chosen, *args),
    )
    return drawn


def test_one_networks_branch_beside_anothers(recipe, indexes, both, single, tmp_path, drawn):
    arguments = {"out": tmp_path / "page", "index": indexes["both"], "models": [single, both], "progress": False}
    with unchanged(both.module), unchanged(single.module), undisturbed():
        page = memviz.make_gallery(recipe, **arguments)
    assert len(drawn) == 4
    shown = json.loads((page.parent / "gallery.json").read_text())
    (left, right), (below,) = (section["groups"] for section in shown["sections"])
    assert [(group["network"], group["address"]) for group in (left, right, below)] == [
        ("single", "left.0"), ("both", "right.1.conv1"), ("both", "left.2"),
    ]  # fmt: skip
    assert (left["target"], right["target"]) == ("vividness", "memorability")
    # Each side shows its own network's picture and photographs, under names of their own.
    for group, model in ((left, single), (right, both), (below, both)):
        # Together, as the gallery draws them: alone, a pixel may round to the other of two neighbours among 8 bits.
        units, config = [card["channel"] for card in group["cards"]], memviz.RenderConfig(size=16, steps=2)
        records = memviz.render(model, group["address"], units, config=config).records
        reached = {record.unit: record for record in records}
        for card in group["cards"]:
            unit = f"{group['address']}:{card['channel']}"
            top = indexes[model.name].top(unit, 9)
            assert [photo["value"] for photo in card["photos"]] == pytest.approx(list(top["value"]))
            assert card["peak"] == pytest.approx(reached[card["channel"]].peak, rel=1e-5)
            assert (page.parent / card["picture"]).is_file()
    pictures = [card["picture"] for group in (left, right, below) for card in group["cards"]]
    assert len(set(pictures)) == 4
    html = page.read_text()
    assert '<span class="network">single</span> left.<wbr>0' in html
    assert "16 × 16 px" in html

    drawn.clear()
    assert memviz.make_gallery(recipe, **arguments | {"models": ()}) == page
    assert drawn == []


def test_the_same_layer_of_two_networks(indexes, both, single, tmp_path):
    side = {"layer": "left.0", "units": [1]}
    left = side | {"model": "single", "index": str(indexes["single"].path)}
    data = {"title": "T", "model": "both", "layout": "branches", "rows": [{"left": left, "right": side}]}
    recipe = parse_recipe(data | {"render": {"size": 16, "steps": 2}})
    renders = tmp_path / "renders"
    memviz.make_gallery(
        recipe, out=tmp_path / "page", index=indexes["both"], renders=renders, models=[both, single], progress=False
    )
    manifests = [load_renders(folder).manifest for folder in sorted(renders.glob("*/left.0"))]
    assert [(each.model, each.weights) for each in manifests] == [
        ("both", both.fingerprint()),
        ("single", single.fingerprint()),
    ]


def test_models_are_loaded_as_the_recipe_names_them(recipe, photos, tmp_path, monkeypatch, drawn):
    for name in ("first", "second"):
        monkeypatch.setitem(ARCHITECTURES, name, Architecture(name, name, Single, INPUTS, "memorability"))
        memviz.build_index(memviz.load_model(name, None), photos, out=tmp_path / f"{name}-random", k=9)
    text = """
        title = "T"
        model = "first"
        weights = "random"
        layout = "branches"
        index = "first-random"
        [render]
        size = 16
        steps = 2
        [[rows]]
        left = { model = "second", weights = "random", index = "second-random", layer = "left.0", units = [0] }
        right = { layer = "left.0", units = [0] }
    """
    (tmp_path / "r.toml").write_text(text)
    assert memviz.make_gallery(tmp_path / "r.toml", out=tmp_path / "page", progress=False).is_file()
    assert len(drawn) == 2
    # The renders lie beside the indexes, where the next gallery finds them.
    assert all(job.folder.is_dir() for job in plan_gallery(load_recipe(tmp_path / "r.toml")).jobs.values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": "mine.safetensors"}, memviz.MemvizError, "mine.safetensors"),
        ({"options": {"device": "cuda"}}, RecipeError, "'device' is no option of the architecture 'first'"),
        ({"weights": "random", "seed": 1}, StoreError, "was built with other weights"),
        ({"weights": "random", "inputs": {"scale": 255.0}}, StoreError, "made with another preprocessing"),
    ],
)
def test_a_model_that_is_not_the_indexs(change, error, message, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "first", Architecture("first", "", Single, INPUTS, "memorability"))
    model = memviz.load_model("first", None, seed=change.pop("seed", 0))
    if inputs := change.pop("inputs", None):
        model.inputs = InputSpec.from_dict(INPUTS.to_dict() | inputs)
    index = memviz.build_index(model, photos, out=tmp_path / "index", k=9)
    data = {"title": "T", "model": "first", "layout": "grid", "panels": [{"layer": "left.0", "units": [0]}]} | change
    with pytest.raises(error, match=message):
        memviz.make_gallery(parse_recipe(data), out=tmp_path / "page", index=index, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "photos"]


def test_nothing_is_rendered_for_an_out_that_cannot_be(recipe, indexes, both, single, tmp_path, drawn):
    (tmp_path / "page").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        memviz.make_gallery(recipe, out=tmp_path / "page", index=indexes["both"], models=[both, single])
    assert drawn == []


def test_what_a_unit_wants_most_and_least(single, photos, tmp_path):
    """The last layer's one unit is the score: its pictures are the most and the least memorable."""
    index = memviz.build_index(single, photos, out=tmp_path / "score", layers=["left.0", "head"], k=9, progress=False)
    panels = [{"layer": "head", "units": [0]}, {"layer": "head", "units": [0], "lowest": True}]
    panels.append({"layer": "left.0", "units": [1], "lowest": True})
    recipe = {"title": "t", "model": "single", "layout": "photographs", "panels": panels}
    plan = plan_gallery(parse_recipe(recipe | {"render": {"steps": 40}}), index=index)
    assert [job.job.objective for job in plan.jobs.values()] == ["excitation", "inhibition", "inhibition"]
    with unchanged(single.module), undisturbed():
        page = memviz.make_gallery(plan, out=tmp_path / "page", models=[single], progress=False)
    sections = json.loads((page.parent / "gallery.json").read_text())["sections"]
    most, least, unit = (section["groups"][0]["cards"][0] for section in sections)
    assert (most["anchor"], least["anchor"], unit["anchor"]) == ("head:0", "head:0-lowest", "left.0:1-lowest")
    scores = index.images["prediction"].sort_values()
    assert [photo["prediction"] for photo in least["photos"]] == pytest.approx(scores.iloc[:9].tolist())
    assert [photo["prediction"] for photo in most["photos"]] == pytest.approx(scores.iloc[:-10:-1].tolist())
    assert least["peak"] < least["photos"][0]["value"] < most["photos"][0]["value"] < most["peak"]
    assert [photo["name"] for photo in unit["photos"]] == index.bottom("left.0:1", 9)["path"].tolist()
    html = page.read_text()
    assert html.count("Lower than on any photograph") >= 1
    assert html.count("<dt>lowest photograph</dt>") == 2
    assert "marks units that are shown the other way round" in html
    again = memviz.make_gallery(plan, out=tmp_path / "page", progress=False)  # nothing is missing
    assert again.read_text() == html
