"""The curves of the experiment, of a network whose logit is a weighted sum of pixels."""

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import memviz
from experiments.attribution import compare
from memviz.explanation.logit import Logit
from memviz.models import InputSpec


@pytest.fixture
def linear():
    layer = nn.Linear(3 * 28 * 28, 1, bias=False)
    network = nn.Sequential(nn.Flatten(), layer, nn.Sigmoid())
    model = memviz.wrap(network, InputSpec(size=(28, 28)), target="memorability")
    return model, layer.weight.detach().view(3, 28, 28)


def test_the_exact_map_is_the_best(linear):
    model, weights = linear
    picture = tiny.pictures(1, 28)[0]
    filled = compare.filling(picture, "mean")
    assert filled[:, 3, 5].tolist() == pytest.approx(picture.mean((1, 2)).tolist())
    exact = compare.cells((weights * (picture - filled)).sum(0))
    logit = Logit(model)

    def gain(order):
        curves = [compare.curve(logit, picture, "mean", each) for each in (order, order.flip(0))]
        return compare.gain({"most": curves[0], "least": curves[1]}), curves[0]

    best, curve = gain(exact.argsort(descending=True))
    # A cell's mean over its four pixels, of the tenth of the cells that raise the logit most.
    count = round(0.1 * len(exact))
    whole = float((weights * picture).sum())
    assert curve[0] == pytest.approx(whole - 4 * float(exact.sort(descending=True).values[:count].sum()), abs=1e-5)
    others = [gain(torch.randperm(len(exact), generator=torch.Generator().manual_seed(seed)))[0] for seed in range(5)]
    assert best > 2 * max(others)
    assert abs(np.mean(others)) < best / 4


def test_missing_methods_are_left_out(capsys, tmp_path):
    row = {"most": [0.0, -1, -1, -1], "least": [0.0, 1, 1, 1], "seconds": 1.0}
    found = [{"whole": 0.0, "filled": 0.0, "occlusion": row, "random map": {**row, "least": row["most"]}}] * 3
    methods = ["grad-cam, layer4.2", "occlusion", "integrated gradients"]
    compare.report([*found, {**found[0], "grad-cam, layer4.2": {**row, "twin": 0.5}}], methods)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["grad-cam, layer4.2", "occlusion", "random map"]
    assert lines[2].split()[1:4] == ["4", "1.500", "["]
    compare.figure(found, methods, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
