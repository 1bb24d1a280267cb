"""The quality of pictures of units of which it is known what they want, by eyes that see it, or nothing, or guess."""

import importlib
import json
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
from memviz.explanation import Estimate, QualityConfig, load_quality, quality
from memviz.explanation.quality_layer import over_units
from memviz.explanation.quality_result import PathSimilarity
from memviz.models import InputSpec
from memviz.rendering import RenderConfig, load_renders

rooms = importlib.import_module("memviz.explanation.quality_study")
INPUTS = InputSpec(size=(16, 16), resize=16)
CONFIG = QualityConfig(explanations=4)
QUICK = RenderConfig(size=16, steps=32, transforms=None)
COUNT = 60
# Units: red against green, green against blue, blue against red, blue, one that nothing moves, one always inhibited.
WANTED = [[1, -1, 0], [0, 1, -1], [-1, 0, 1], [0, 0, 1], [0, 0, 0], [-1, -1, -1]]


class Opponents(nn.Module):
    """Six units of which it is known what colour they want; their layer is an untrained one's successor."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.units = nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(6, 1)
        with torch.no_grad():
            self.first.weight[:, :, 0, 0] = torch.eye(3)
            self.units.weight[:, :, 0, 0] = torch.tensor(WANTED, dtype=torch.float)
            self.units.bias[:] = torch.tensor([0.0, 0, 0, 0, 0, -0.5])

    def forward(self, pictures):
        return self.head(self.units(self.first(pictures)).mean((2, 3)))


class Colours:
    """Sees mean colours, and counts what it has seen."""

    name, licence = "colours", "none"

    def __init__(self):
        self.seen = 0

    def pictures(self, pictures):
        self.seen += len(pictures)
        return np.stack([np.asarray(picture).mean((0, 1)) / 127.5 - 1 for picture in pictures])


class Blind(Colours):
    name = "blind"

    def pictures(self, pictures):
        return np.ones((len(pictures), 2))


class Guessing(Colours):
    name = "guessing"

    def pictures(self, pictures):
        return np.random.default_rng(self.seen + super().pictures(pictures).sum().view(np.uint64)).normal(
            size=(len(pictures), 30)
        )


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        return memviz.wrap(Opponents().eval(), INPUTS, name="opponents", target="memorability")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Plain pictures of random colour, which no unit likes as much as its own."""
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(np.random.default_rng(0).integers(30, 226, (COUNT, 3))):
        Image.new("RGB", (16, 16), tuple(int(level) for level in colour)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def built(model, photos, tmp_path_factory):
    return memviz.build_index(model, photos, out=tmp_path_factory.mktemp("built") / "index", progress=False)


@pytest.fixture
def index(built, tmp_path):
    """A copy, beside which nothing was measured yet."""
    shutil.copytree(built.path, tmp_path / "index")
    return memviz.load_index(tmp_path / "index")


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Figures take a second each, so one test draws them, and the others do not."""
    if request.function is not test_the_result_is_kept_and_read_again:
        monkeypatch.setattr("memviz.evaluation.plots.save", lambda *_: None)


@pytest.fixture(scope="module")
def drawn(model, tmp_path_factory):
    """Folders of pictures: of what all units want, the same with another seed, and what they want least."""
    folder = tmp_path_factory.mktemp("drawn")
    for name, seed, objective in (("one", 0, "excitation"), ("two", 1, "excitation"), ("low", 0, "inhibition")):
        memviz.render(model, "units", objective=objective, config=QUICK, seed=seed, out=folder / name)
    return folder


@pytest.fixture
def found(model, index, drawn):
    with unchanged(model.module), undisturbed():
        return quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG)


def by_kind(found):
    return {choice.kind: choice for choice in found.layers[0].choices}


def test_who_wins(found, index, drawn):
    layer = found.layers[0]
    records = load_renders(drawn / "one" / "units").units
    best = index.stats("units").set_index("channel")["peak"]
    assert (layer.address, layer.units) == ("units", 6)
    assert layer.live == 4  # not the one that nothing moves, and not the one that all photographs inhibit
    assert layer.wins == sum(records[unit].peak > best[unit] for unit in range(4)) == 4
    assert layer.share.value == layer.share.high == 1
    assert layer.share.low == pytest.approx(4 / (4 + 1.959964**2))  # Wilson's, where all succeed
    assert layer.ratio == pytest.approx(np.median([records[unit].peak / best[unit] for unit in range(4)]))


def test_eyes_that_see_what_units_want_solve_every_choice(found):
    choices = by_kind(found)
    assert list(choices) == ["photographs", "alike", "renders"]
    assert (choices["photographs"].positives, choices["photographs"].negatives) == (4, 4)
    assert (choices["alike"].positives, choices["alike"].negatives) == (1, 0)
    assert (choices["renders"].positives, choices["renders"].negatives) == (1, 0)
    assert choices["photographs"].accuracy.value > 0.97
    assert choices["renders"].accuracy.value > 0.9
    for choice in choices.values():
        assert choice.accuracy.low <= choice.accuracy.value <= choice.accuracy.high
        assert choice.score.value > 0.6
        assert choice.gain.value == pytest.approx(choice.accuracy.value - choice.shuffled.value)
        assert choice.gain.low > 0
        assert choice.told == "better than chance"
    difference = choices["renders"].accuracy.value - choices["alike"].accuracy.value
    assert found.layers[0].difference.value == pytest.approx(difference)


@pytest.mark.parametrize("eyes", [Blind, Guessing])
def test_eyes_that_see_nothing_are_at_chance(model, index, drawn, eyes):
    config = replace(CONFIG, tasks=200)
    found = quality(model, drawn / "one", index, encoder=eyes(), config=config)
    for choice in found.layers[0].choices:
        assert choice.accuracy.value == pytest.approx(0.5, abs=0 if eyes is Blind else 0.2)
        assert choice.gain.value == pytest.approx(0, abs=0 if eyes is Blind else 0.2)
        assert choice.told == "not better than chance" or eyes is Guessing


@pytest.mark.parametrize("folders", [["one"], ["one", "two", "low"]])
def test_each_units_figures_are_those_of_the_definition(model, index, drawn, tmp_path, folders):
    """One choice after the other, one cosine after the other, of pictures read from their files."""
    eyes = Colours()
    config = replace(CONFIG, tasks=3)
    found = quality(model, [drawn / name for name in folders], index, encoder=eyes, config=config, out=tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "units.parquet").set_index("unit")
    assert table["asked"].tolist() == [True] * 4 + [False, True]
    paths = [index.photos / name for name in index.ranked["path"]]

    def see(path):
        with Image.open(path) as image:
            vector = eyes.pictures([image.convert("RGB")])[0]
        return vector / np.linalg.norm(vector)

    photographs = [see(path) for path in paths]
    values = memviz.explanation.responses(model, index, {"units": None}).values["units"]
    sides = {name: load_renders(drawn / name / "units") for name in folders}
    for unit in (0, 1, 2, 3, 5):
        pictures = {name: see(saved.path(saved.units[unit])) for name, saved in sides.items()}
        positive = [vector for name, vector in pictures.items() if name != "low"]
        negative = [vector for name, vector in pictures.items() if name == "low"]
        tasks = rooms_tasks(values[:, unit], config, unit)
        for kind, explained in {
            "renders": (positive, negative),
            "alike": (
                [photographs[place] for place in tasks.most[: len(positive)]],
                [photographs[place] for place in tasks.least[: len(negative)]],
            ),
            "photographs": ([photographs[p] for p in tasks.most], [photographs[p] for p in tasks.least]),
        }.items():
            solved, soft = [], []
            for high, low in zip(tasks.high, tasks.low, strict=True):
                evidence = 0.0
                for sign, query in ((1, photographs[high]), (-1, photographs[low])):
                    evidence += sign * np.mean([query @ each for each in explained[0]])
                    evidence -= sign * np.mean([query @ each for each in explained[1]]) if explained[1] else 0
                solved.append(float(evidence > 0))
                soft.append(1 / (1 + np.exp(-evidence / config.temperature)))
            assert table.loc[unit, f"accuracy_{kind}"] == pytest.approx(np.mean(solved)), (unit, kind)
            assert table.loc[unit, f"score_{kind}"] == pytest.approx(np.mean(soft), abs=1e-5), (unit, kind)
    choice = by_kind(found)["renders"]
    assert (choice.positives, choice.negatives) == ((1, 0) if len(folders) == 1 else (2, 1))
    assert choice.accuracy.value == pytest.approx(table["accuracy_renders"].mean())
    best = max((saved.units[0].peak for name, saved in sides.items() if name != "low"))
    assert table.loc[0, "peak"] == best


def rooms_tasks(values, config, unit):
    """The tasks of a unit of the layer "units", which depend on the seed and on it alone."""
    import zlib

    from memviz.explanation.forced_choice import set_tasks

    random = np.random.default_rng([0, zlib.crc32(b"units"), unit])
    return set_tasks(values, config.explanations, config.tasks, config.quantile, random)


def test_a_units_figures_do_not_depend_on_the_others(model, index, drawn, tmp_path):
    memviz.render(model, "units", [3, 1], config=QUICK, out=tmp_path / "few")
    quality(model, tmp_path / "few", index, encoder=Colours(), config=CONFIG, out=tmp_path / "a")
    quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG, out=tmp_path / "b")
    few, all_of_them = (pd.read_parquet(tmp_path / name / "units.parquet").set_index("unit") for name in "ab")
    names = ["peak", "succeeds", "accuracy_photographs", "score_photographs", "accuracy_renders", "score_renders"]
    pd.testing.assert_frame_equal(few[names], all_of_them.loc[[1, 3], names])


def test_pictures_take_the_path_of_photographs(found):
    """A picture of a plain colour is to the layer as a photograph of that colour."""
    (first, units) = found.layers[0].path
    assert (first.address, units.address) == ("first", "units")
    assert units.same > units.other
    assert found.layers[0].own.low > 0.3
    assert found.path_frame().columns[:5].tolist() == ["address", "at", "synthetic", "same", "other"]


def test_the_result_is_kept_and_read_again(model, index, drawn, tmp_path):
    eyes = Colours()
    found = quality(model, drawn / "one", index, encoder=eyes, config=CONFIG, out=tmp_path / "out")
    assert eyes.seen == COUNT + 5  # the unit that nothing moves has no picture
    again = quality(model, drawn / "one", index, encoder=eyes, config=CONFIG, out=tmp_path / "out")
    assert again == found == load_quality(tmp_path / "out")
    assert eyes.seen == COUNT + 5
    names = {"quality.json", "quality.png", "quality.pdf", "layers.csv", "path.csv", "units.parquet", "manifest.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".lock"} == names
    with pytest.raises(StoreError, match=r"holds another result: config\.tasks 20, not 7"):
        quality(model, drawn / "one", index, encoder=eyes, config=replace(CONFIG, tasks=7), out=tmp_path / "out")
    with pytest.raises(StoreError, match="its renders are others"):
        quality(model, drawn / "two", index, encoder=eyes, config=CONFIG, out=tmp_path / "out")


def test_photographs_are_measured_once_whatever_the_pictures(model, index, drawn, monkeypatch):
    """Also after an interruption; another encoder sees them anew."""
    eyes, measured = Colours(), []
    run = rooms.responses

    def count(model, paths, layers, **options):
        measured.append(len(paths))
        return run(model, paths, layers, **options)

    def interrupted(pictures):
        raise KeyboardInterrupt

    monkeypatch.setattr(rooms, "responses", count)
    monkeypatch.setattr(rooms, "SHARD", 25)
    with monkeypatch.context() as patch:
        patch.setattr(eyes, "pictures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quality(model, drawn / "one", index, encoder=eyes, config=CONFIG)
    assert measured == [25]
    quality(model, drawn / "one", index, encoder=eyes, config=CONFIG)
    quality(model, drawn / "two", index, encoder=eyes, config=CONFIG)
    assert measured == [25, 25, 10, 5, 5]
    assert eyes.seen == COUNT + 5 + 5
    quality(model, drawn / "two", index, encoder=Blind(), config=CONFIG)
    assert measured[-1] == 5
    assert len({path.parent for path in index.path.parent.glob("quality-photographs/*/shards/*.npy")}) == 1


def test_a_damaged_measurement_is_told(model, index, drawn):
    quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG)
    (path,) = index.path.parent.glob("quality-photographs/*/shards/units-0000000.npy")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"units-0000000\.npy is damaged .* Delete it"):
        quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG)
    np.save(path, np.zeros((3, 6), np.float32))
    with pytest.raises(StoreError, match="is of other photographs"):
        quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG)


def test_a_layers_own_folder_and_strange_neighbours(model, index, drawn, found, tmp_path):
    assert quality(model, drawn / "one" / "units", index, encoder=Colours(), config=CONFIG) == found
    shutil.copytree(drawn / "one", tmp_path / "more")
    memviz.render(model, objective=memviz.objectives.Score(), config=QUICK).save(tmp_path / "more" / "score")
    shutil.copytree(index.path, tmp_path / "more" / "index")
    assert quality(model, tmp_path / "more", index, encoder=Colours(), config=CONFIG) == found


def test_wrong_questions(model, index, drawn, photos, tmp_path):
    def ask(renders=drawn / "one", index=index, model=model, config=CONFIG, **options):
        return quality(model, renders, index, encoder=Colours(), config=config, out=tmp_path / "out", **options)

    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(StoreError, match=r"holds no pictures of units\. Draw some: memviz render opponents LAYER"):
            ask(folder)
    with pytest.raises(StoreError, match="Of units there are but pictures of what its units want least"):
        ask(drawn / "low")
    with pytest.raises(ImageError, match="60 photographs are too few"):
        ask(config=QualityConfig(explanations=15))
    with pytest.raises(ImageError, match="sample=0"):
        ask(config=replace(CONFIG, sample=0))
    with pytest.raises(ModelError, match="tasks=0"):
        QualityConfig(tasks=0)
    with torch.random.fork_rng():
        other = memviz.wrap(Opponents().eval(), INPUTS, name="opponents", target="memorability")
    with torch.no_grad():
        other.module.units.bias += 1
    with pytest.raises(StoreError, match="was built with other weights"):
        ask(model=other)
    memviz.render(other, "units", [0], config=QUICK, out=tmp_path / "other")
    with pytest.raises(StoreError, match="holds pictures of opponents with weights"):
        ask(tmp_path / "other")
    few = memviz.build_index(model, photos, layers=["first"], out=tmp_path / "few", progress=False)
    with pytest.raises(LayerError, match="units"):
        ask(index=few)
    coarse = memviz.wrap(model.module, InputSpec(size=(16, 16), resize=20), name="opponents", target="memorability")
    with pytest.raises(StoreError, match="another preprocessing"):
        ask(model=coarse)
    assert not (tmp_path / "out").exists()


def test_a_changed_photograph_is_refused(model, photos, drawn, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    index = memviz.build_index(model, tmp_path / "photos", out=tmp_path / "index", progress=False)
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "07.png")
    with pytest.raises(StoreError, match=r"07\.png is gone, or is not the photograph"):
        quality(model, drawn / "one", index, encoder=Colours(), config=CONFIG)


def test_a_sample_of_the_photographs(model, index, drawn):
    eyes = Colours()
    found = quality(model, drawn / "one", index, encoder=eyes, config=replace(CONFIG, sample=40), seed=3)
    assert (found.photographs, eyes.seen) == (40, 45)
    assert found.layers[0].wins == 4  # against all photographs


def test_the_sentences(found):
    (told,) = found.verdict
    assert told.startswith("units: 4 of 4 live units, 100% (95 %: 51% to 100%), prefer their picture to the best ")
    assert "Seen by colours, its 4 best and 4 lowest photographs tell what excites a unit in" in told
    assert "1 picture of what it wants tells what excites a unit in" in told
    assert told.count("better than chance") == 2
    assert "of the way from photographs of other units to those of the same one" in told
    layer = found.layers[0]
    few = replace(layer, asked=4)
    assert "4 units that can be asked about are too few to say more" in replace(found, layers=(few,)).verdict[0]
    dead = replace(few, share=None, ratio=None, live=0)
    assert replace(found, layers=(dead,)).verdict[0].startswith("units: no photograph excites any of its units.")
    level = Estimate(0.0, -0.1, 0.1)
    choices = tuple(replace(choice, gain=level) for choice in layer.choices)
    told = replace(found, layers=(replace(layer, choices=choices),)).verdict[0]
    assert "better than a coin, but not than with the explanations of the layer's other units" in told
    worse = tuple(replace(choice, accuracy=Estimate(0.52, 0.47, 0.57)) for choice in layer.choices)
    told = replace(found, layers=(replace(layer, choices=worse),)).verdict[0]
    assert told.count("not better than chance") == 2  # though with those of others it would be worse still
    path = (PathSimilarity("units", 0.1, 0.2, 0.2, None),)
    told = replace(found, layers=(replace(layer, path=path),)).verdict[0]
    assert "photographs of one unit are no more alike than those of different ones" in told
    told = replace(found, warnings={"": "weights at their random start"}).verdict[0]
    assert told.endswith(" Beware: weights at their random start.")


def test_one_unit(model, index, drawn, tmp_path):
    memviz.render(model, "units", [1], config=QUICK, out=tmp_path / "one")
    found = quality(model, tmp_path / "one", index, encoder=Colours(), config=CONFIG, out=tmp_path / "out")
    (choice, *_), path = found.layers[0].choices, found.layers[0].path
    assert choice.accuracy.value > 0.9
    assert (choice.shuffled, choice.gain, path) == (None, None, ())
    assert "too few to say more" in str(found)
    assert json.loads((tmp_path / "out" / "quality.json").read_text())["layers"][0]["asked"] == 1


def test_a_layer_without_a_picture(model, index, tmp_path):
    memviz.render(model, "units", [4], config=QUICK, out=tmp_path / "dead")
    layer = quality(model, tmp_path / "dead", index, encoder=Colours(), config=CONFIG, out=tmp_path / "out").layers[0]
    assert (layer.units, layer.live, layer.wins, layer.share, layer.asked, layer.choices) == (1, 0, 0, None, 0, ())


def test_an_interval_over_units_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = over_units(values, np.random.default_rng(0))
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.25)
