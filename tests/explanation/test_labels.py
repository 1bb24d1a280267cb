import pytest
from helpers import write_noise
from torch import nn

import memviz
from memviz.errors import LabelError
from memviz.explanation.labels import Label, Labels, labels_folder, load_labels
from memviz.layers.unit import Unit


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    model = memviz.wrap(nn.Sequential(nn.Conv2d(3, 6, 3)).eval(), memviz.InputSpec(size=(9, 9), resize=9))
    return memviz.build_index(model, write_noise(folder / "photos", 8, 9), out=folder / "index", k=3)


@pytest.fixture
def write(index):
    folder = labels_folder(index)

    def write(**files):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in files.items():
            (folder / f"labels.{suffix}").write_text(text)

    yield write
    for path in folder.glob("labels.*"):
        path.unlink()


def test_an_index_without_labels(index):
    labels = load_labels(index)
    assert len(labels) == 0
    assert labels.text(Unit("0", 1)) is None
    assert list(labels.frame().columns)[:3] == ["unit", "label", "source"]


def test_a_persons_labels_of_both_files(index, write):
    write(csv="unit,label,by\n0:4,  None ,AN\n@1:1,stripes,AN\n0:2,,\n", toml='[[label]]\nunit="0:3"\nlabel="dots"\n')
    labels = load_labels(index)
    assert [(unit.channel, str(labels[unit])) for unit in labels] == [
        (1, "stripes (person, AN)"),
        (3, "dots (person)"),
        (4, "none (person, AN)"),
    ]
    assert labels.text(Unit("0", 4)) is None
    assert labels.told() == {Unit("0", 1): "stripes (person, AN)", Unit("0", 3): "dots (person)"}
    assert labels.frame()[["unit", "label"]].values.tolist()[:2] == [["0:1", "stripes"], ["0:3", "dots"]]


def test_a_unit_in_both_files(index, write):
    write(csv="unit,label\n0:4,x\n0:1,y\n", toml='\n[[label]]\nunit="0:1"\nlabel="y"\n')
    with pytest.raises(LabelError, match=r"labels.csv, line 3: 0:1 is also labelled in labels.toml, line 2"):
        load_labels(index)


def test_a_persons_label_goes_before_an_automatic_one():
    one, two, three = (Unit("0", channel) for channel in range(3))
    automatic = {unit: Label(unit, "zebra", "own classes", figure=0.6, threshold=0.4) for unit in (one, two)}
    persons = {one: Label(one, "stripes", "person"), three: Label(three, None, "person")}
    labels = Labels(persons, automatic)
    assert [labels.text(unit) for unit in (one, two, three)] == ["stripes", "zebra", None]
    assert (labels.automatic[one].text, labels.persons.keys()) == ("zebra", {one, three})
