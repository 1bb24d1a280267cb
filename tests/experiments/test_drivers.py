"""The table and the figure of the experiment, of a small network."""

import sys

import tiny
from helpers import one_thread as one_thread
from helpers import write_noise
from PIL import Image
from torch import nn

import memviz
from experiments.drivers import figure
from memviz.explanation import ablate, drivers
from memviz.models import InputSpec


class Scored(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet = tiny.built("Branches")

    def forward(self, pictures):
        return self.resnet(pictures)


def test_table_and_figure(tmp_path, monkeypatch, capsys):
    photos = write_noise(tmp_path / "photos", 14, 12)
    inputs = InputSpec(size=(12, 12), resize=(12, 12))
    model = memviz.wrap(Scored().eval(), inputs, "tiny", "memorability")
    index = memviz.build_index(model, photos, out=tmp_path / "index", progress=False)
    whole, fewer = (drivers(model, index, sample=sample, progress=False) for sample in (None, 12))
    for layer in ("resnet.left.0", "resnet.right.1"):
        ablate(model, index, whole, layer, photographs=12, progress=False)
    monkeypatch.setattr("memviz.explanation.ablation.RESAMPLES", 50)
    out = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["figure.py", str(whole.path), "--fewer", str(fewer.path), "--out", str(out)])
    figure.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("| resnet")] == list(whole.layers)
    assert all(line.count("|") == 8 for line in lines if line.startswith("|"))
    assert "resnet.left.0: 4 units replaced on 12 photographs; rank correlations (95 %, over units):" in lines
    with Image.open(out) as picture:
        assert len(picture.convert("L").getcolors()) > 10
