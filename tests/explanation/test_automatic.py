import shutil

import numpy as np
import pytest
import torch
from helpers import unchanged, undisturbed
from PIL import Image
from torch import nn

import memviz
from memviz.errors import ImageError, LabelError, LayerError, StoreError
from memviz.explanation import naming
from memviz.explanation.automatic import label_units
from memviz.explanation.labellers import Categories, NamedOutputs, folder_categories, group, read_categories
from memviz.explanation.labels import labels_folder, load_labels
from memviz.explanation.responses import Responses, find_photographs, responses
from memviz.layers.unit import Unit

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch):
    monkeypatch.setattr(naming, "SHUFFLED", 2000)


class Colours(nn.Module):
    """Units 0 to 2 are red, green and blue, 3 is constant, 4 to 9 look at pixels of noise; outputs name the colours."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)
        self.fc = nn.Linear(3, 3)
        with torch.no_grad():
            self.conv.weight.normal_(0, 1, generator=torch.Generator().manual_seed(0))
            self.conv.weight -= self.conv.weight.mean((2, 3), keepdim=True)
            self.conv.weight[:4] = 0
            self.conv.bias.zero_()
            for colour in range(3):
                self.conv.weight[colour, colour] = 1
            self.fc.weight.copy_(4 * torch.eye(3))
            self.fc.bias.zero_()

    def forward(self, pictures):
        return self.fc(self.conv(pictures)[:, :3].mean((2, 3)))


def model_of(network=None, named=True):
    names = {"fc": list(COLOURS)} if named else None
    return memviz.wrap((network or Colours()).eval(), memviz.InputSpec(size=(6, 6), resize=6), "colours", named=names)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """90 noisy pictures, in a folder a colour, and their index."""
    folder = tmp_path_factory.mktemp("labels")
    random = np.random.default_rng(0)
    for number in range(90):
        name = list(COLOURS)[number % 3]
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.array(COLOURS[name]) + random.integers(-20, 26, (6, 6, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"photos/{name}/{number:02d}.png")
    memviz.build_index(model_of(), folder / "photos", out=folder / "index", k=4)
    return folder


@pytest.fixture
def index(made, tmp_path):
    shutil.copytree(made / "index", tmp_path / "index")
    return memviz.load_index(tmp_path / "index")


def texts(layer):
    return [label.text for label in layer.labels]


def test_units_get_the_names_of_the_outputs_that_they_answer_to(index):
    model = model_of()
    with unchanged(model.module), undisturbed():
        (found,) = label_units(model, index)
    assert texts(found) == ["red", "green", "blue", *[None] * 7]
    assert (found.labelled, found.address) == (3, "conv")
    assert found.shuffled < 0.05
    red = found.labels[0]
    assert red.source == "outputs of fc"
    assert red.figure > 0.9 > found.threshold == red.threshold >= 0.3
    assert all(path.startswith("red/") for path in red.evidence)
    labels = load_labels(index)
    assert labels.automatic == {label.unit: label for label in found.labels}
    assert labels.text(Unit("conv", 1)) == "green"
    assert str(labels[Unit("conv", 5)]).startswith("none (outputs of fc, correlation ")


def test_the_figure_is_measured_on_the_photographs_that_did_not_choose(index):
    (found,) = label_units(model_of(), index, seed=4)
    measured = responses(model_of(), index, {"conv": None, "fc": None}, statistic="mean")
    judging = naming.halves(90, 4)[1]
    probabilities = torch.tensor(measured.values["fc"]).softmax(1).numpy()
    for place, colour in enumerate(COLOURS):
        wanted = np.corrcoef(measured.values["conv"][judging, place], probabilities[judging, place])[0, 1]
        assert (found.labels[place].text, found.labels[place].figure) == (colour, pytest.approx(wanted, abs=1e-5))
    names = {measured.paths[place].relative_to(index.photos).as_posix() for place in judging}
    assert all(set(label.evidence) <= names for label in found.labels)


def test_categories_of_folders_and_of_a_table_name_units_too(index, tmp_path):
    paths = find_photographs(index)[0]
    (found,) = label_units(model_of(named=False), index, labeller=Categories(folder_categories(paths, index.photos)))
    assert texts(found) == ["red", "green", "blue", *[None] * 7]
    assert found.labels[0].source == "categories"
    rows = [
        f"{path.relative_to(index.photos).as_posix()},{'warm' if path.parent.name == 'red' else ''}" for path in paths
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,kind", *rows]))
    table = Categories(read_categories(tmp_path / "table.csv", index.photos, "kind"), "kinds")
    (other,) = label_units(model_of(named=False), index, labeller=table)
    assert (other.labels[0].text, other.labels[4].text) == ("warm", None)
    # Of both, the label with the higher figure is shown; here they are equal, or red's category is.
    assert load_labels(index).text(Unit("conv", 2)) == "blue"


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(index, monkeypatch):
    (first,) = label_units(model_of(), index)
    monkeypatch.setattr("memviz.explanation.automatic.responses", None)
    assert label_units(model_of(), index, ["conv"]) == [first]
    with pytest.raises(StoreError, match="seed 0, not 1"):
        label_units(model_of(), index, seed=1)


def test_a_named_layer_has_names_of_its_own(made, tmp_path):
    model = model_of()
    index = memviz.build_index(model, made / "photos", layers=["conv", "fc"], out=tmp_path / "new", k=2)
    found = label_units(model, index, ["fc"])[0]
    assert [str(label) for label in found.labels] == [f"{name} (named output)" for name in COLOURS]
    assert (found.threshold, found.shuffled) == (None, None)


def test_a_random_network_is_not_named(index, made, tmp_path):
    """Its filters see neither colour nor brightness, and no label is forced on them."""
    network = Colours()
    with torch.no_grad():
        network.conv.weight[:3] = network.conv.weight[4:7]
        network.fc.weight.copy_(100 * torch.eye(3))
    model = model_of(network)
    other = memviz.build_index(model, made / "photos", out=tmp_path / "random", k=2)
    paths = find_photographs(other)[0]
    (found,) = label_units(model, other, labeller=Categories(folder_categories(paths, other.photos)))
    assert texts(found) == [None] * 10


def test_errors(index, made, tmp_path):
    with pytest.raises(StoreError, match="was built with other weights"):
        label_units(model_of(nn.Sequential(nn.Conv2d(3, 2, 3)), named=False), index)
    with pytest.raises(LayerError, match="There is no layer 'convs'"):
        label_units(model_of(), index, ["convs"])
    with pytest.raises(LabelError, match="colours has no named outputs to label units with"):
        label_units(model_of(named=False), index)
    with pytest.raises(LabelError, match=r"no named outputs 'conv' .* It has fc"):
        NamedOutputs(model_of(), "conv")
    with pytest.raises(LabelError, match="None of 90 photographs has a category"):
        label_units(model_of(), index, labeller=Categories({}))
    rare = dict.fromkeys(find_photographs(index)[0][:4], ("rare",))
    with pytest.raises(LabelError, match="None of 1 names can be judged"):
        label_units(model_of(), index, labeller=Categories(rare, "rare"))
    few = memviz.build_index(model_of(), made / "photos/red", out=tmp_path / "few", k=2)
    with pytest.raises(LabelError, match=r"need 40 photographs or more, .* there are 30"):
        label_units(model_of(), few)
    assert not list(labels_folder(few).glob("*"))
    assert not list(labels_folder(index).glob("*"))  # nor did the others leave anything


def test_photographs_that_are_gone(made, tmp_path):
    shutil.copytree(made / "photos", tmp_path / "photos")
    index = memviz.build_index(model_of(), tmp_path / "photos", out=tmp_path / "index", k=2)
    (tmp_path / "photos/red/00.png").unlink()
    with pytest.raises(LabelError, match=r"1 photographs of the index .* cannot be read any more: .*00.png"):
        label_units(model_of(), index)
    (tmp_path / "table.csv").write_text("path,category\n")
    with pytest.raises(ImageError, match="has no column kind"):
        read_categories(tmp_path / "table.csv", tmp_path, "kind")


def test_damaged_labels(index):
    label_units(model_of(), index)
    (path,) = labels_folder(index).glob("*/conv.json")
    path.write_text("{")
    with pytest.raises(StoreError, match=r"conv.json is damaged"):
        load_labels(index)


def test_groups_are_sums_of_probabilities_and_named_by_the_likeliest():
    random = np.random.default_rng(0)
    animal = random.normal(0, 3, (200, 1))
    logits = np.hstack([animal + random.normal(0, 0.5, (200, 5)) + np.arange(5), random.normal(0, 3, (200, 35))])
    model = memviz.wrap(nn.Sequential(), memviz.InputSpec(size=(4, 4)), "none")
    model.named = {"fc": ("ant", "bee", "cat", "dog", "elk", *(f"thing {number}" for number in range(35)))}
    concepts = NamedOutputs(model).concepts(Responses((), {}, {"fc": logits}, {}))
    assert concepts.names[:40] == model.named["fc"]
    place = concepts.names.index("elk, dog, cat and 2 more")
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(concepts.values[:, place], softmax[:, :5].sum(1))
    assert max(len(each) for each in group(logits)) == 5  # an eighth of 40


def test_outputs_that_never_vary_are_in_no_group():
    logits = np.array([[1.0, 0, 2, 5], [2, 0, 3, 4], [4, 0, 5, 1]])
    assert group(logits) == [[0], [1], [2], [3], [0, 2]]
    assert group(np.zeros((3, 2))) == [[0], [1]]
