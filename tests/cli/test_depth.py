import pytest
from helpers import write_noise

from memviz.explanation import load_depth

FEW = ("--components", 2, "--folds", 3)


@pytest.fixture
def index(memviz, tiny, tmp_path):
    """Of two categories of photographs."""
    (tmp_path / "photos").mkdir()
    for name, side in (("coarse", 12), ("fine", 40)):
        write_noise(tmp_path / "photos" / name, 12, side)
    done = memviz("index", tiny, tmp_path / "photos", "--out", tmp_path / "index", "--weights", "random")
    assert done.code == 0, done.err
    return tmp_path / "index"


def test_prints_layers_and_sentences_and_keeps_the_result(memviz, tiny, index, tmp_path):
    out = tmp_path / "depth"
    arguments = ("depth", tiny, "--index", index, "--out", out, "--weights", "random", *FEW)
    done = memviz(*arguments, "--layer", "alexnet.conv2", "--layer", "resnet.layer1", "--no-twin")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:4] == ["address", "twin", "units", "perceptual"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["alexnet.conv2", "False", "4"],
        ["resnet.layer1", "False", "4"],
    ]
    found = load_depth(out)
    assert str(found) in done.out
    assert lines[-1] == str(out)
    refused = memviz(*arguments, "--all")
    assert refused.code == 1
    assert "holds another result: config.layers" in refused.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--all", "--layer", "alexnet.conv2"), 2, "Give --all or --layer, not both."),
        (("--layer", "head"), 1, "does not watch 'head'"),
        (("--components", 50), 1, "24 photographs are too few to fit 100 components"),
        (("--concepts", "resmen"), 1, "There is no model 'resmen'"),
        (("--folds", 1), 2, "Invalid value for '--folds'"),
    ],
)
def test_wrong_questions_leave_nothing(memviz, tiny, index, tmp_path, options, code, message):
    done = memviz("depth", tiny, "--index", index, "--out", tmp_path / "depth", "--weights", "random", *options)
    assert done.code == code
    assert message in done.err
    assert not (tmp_path / "depth").exists()
