import numpy as np
import pytest

from memviz.explanation import encoder, load_quality


class Colours:
    name, licence = "colours", "CC0"

    def __init__(self, device):
        pass

    def pictures(self, pictures):
        return np.stack([np.asarray(picture).mean((0, 1)) for picture in pictures])


@pytest.fixture
def renders(memviz, tiny, index, tmp_path, monkeypatch):
    monkeypatch.setitem(encoder.ENCODERS, "colours", Colours)
    for layer in ("alexnet.conv2", "resnet.layer1"):
        done = memviz(
            "render", tiny, layer, "--out", tmp_path / "renders", "--weights", "random", "--steps", 3, "--size", 32
        )
        assert done.code == 0, done.err
    return tmp_path / "renders"


def test_prints_a_row_and_a_sentence_a_layer_and_keeps_the_result(memviz, renders, index, tmp_path):
    out = tmp_path / "quality"
    arguments = ("quality", renders, "--index", index, "--out", out, "--weights", "random", "--encoder", "colours")
    done = memviz(*arguments, "--explanations", 2)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:5] == ["address", "units", "live", "wins", "ratio"]
    assert [line.split()[0] for line in lines[1:3]] == ["alexnet.conv2", "resnet.layer1"]
    assert str(load_quality(out)) in done.out
    assert lines[-2:] == ["encoder: colours (CC0)", str(out)]
    assert memviz(*arguments, "--explanations", 2).out == done.out
    refused = memviz(*arguments, "--explanations", 2, "--tasks", 5)
    assert refused.code == 1
    assert "holds another result: config.tasks 20, not 5" in refused.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--explanations", 9), 1, "12 photographs are too few"),
        (("--encoder", "dreamsim"), 1, "There is no encoder 'dreamsim'"),
        (("--model", "resnem"), 1, "There is no model 'resnem'"),
        (("--tasks", 0), 2, "Invalid value for '--tasks'"),
        (("nowhere",), 1, "nowhere holds no pictures of units"),
    ],
)
def test_wrong_questions_leave_nothing(memviz, renders, index, tmp_path, options, code, message):
    settings = ("--index", index, "--out", tmp_path / "quality", "--weights", "random", "--encoder", "colours")
    done = memviz("quality", renders, *settings, "--explanations", 2, *options)
    assert done.code == code
    assert message in done.err
    assert not (tmp_path / "quality").exists()
