import re
import sys
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers import one_thread as one_thread
from PIL import Image
from torch import nn

from memviz.models import InputSpec, Model
from memviz.models.registry import ARCHITECTURES, Architecture


class Outcome:
    """How a command ended: exit code, standard output, and standard error as one line without boxes."""

    def __init__(self, code, out, err):
        self.code, self.out = code, out
        self.err = " ".join(re.sub("[│╭╮╰╯─]", " ", err).split())


@pytest.fixture
def memviz(monkeypatch, capsys):
    """Runs `memviz ARGUMENTS` as the shell would, in this process."""
    from memviz.cli import main

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which main replaces

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["memviz", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        code = end.value.code
        if isinstance(code, str):  # sys.exit(message): the interpreter prints it and ends with 1
            code, err = 1, err + code
        return Outcome(code or 0, out, err)

    return run


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps):
        return maps + self.conv(maps).relu()


class Tiny(nn.Module):
    """Two branches with the layers that the demo's recipe names, and a score."""

    branches = ("alexnet", "resnet")

    def __init__(self):
        super().__init__()
        maps = [nn.Conv2d(3 if i == 0 else 4, 4, 3, stride=2 if i < 2 else 1, padding=1) for i in range(5)]
        parts = [part for i, conv in enumerate(maps, 1) for part in ((f"conv{i}", conv), (f"relu{i}", nn.ReLU()))]
        self.alexnet = nn.Sequential(OrderedDict(parts))
        blocks = nn.Sequential(OrderedDict({"0": Block(4), "20": Block(4)}))
        self.resnet = nn.Sequential(
            OrderedDict(conv1=nn.Conv2d(3, 4, 5, stride=2, padding=2), layer1=Block(4), layer3=blocks)
        )
        self.head = nn.Linear(8, 1)

    def forward(self, pictures):
        features = [branch(pictures).mean((2, 3)) for branch in (self.alexnet, self.resnet)]
        return torch.sigmoid(self.head(torch.cat(features, 1)))


@pytest.fixture
def tiny(monkeypatch):
    """A small model that `load_model` and the commands know by the name "tiny"; random weights only."""
    entry = Architecture("tiny", "two small branches", Tiny, InputSpec(size=(32, 32), resize=(36, 36)), "memorability")
    monkeypatch.setitem(ARCHITECTURES, "tiny", entry)
    return "tiny"


def write_photos(folder, count=12):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
        if not (folder / f"{number:02d}.png").exists():
            Image.fromarray(coarse).resize((64, 48)).save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def photos(tmp_path):
    """A folder of twelve photographs."""
    write_photos(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def index(memviz, tiny, photos, tmp_path):
    """A folder with an index of the twelve, made by the command."""
    done = memviz("index", tiny, photos, "--out", tmp_path / "index", "-k", 9, "--weights", "random")
    assert done.code == 0, done.err
    return tmp_path / "index"


@pytest.fixture
def world(monkeypatch):
    """The demo with a small network in place of ResMem, and twelve photographs in place of all samples."""
    read = []

    def read_model(name, weights, device):
        read.append((name, weights, device))
        return Model(network, InputSpec(size=(32, 32), resize=(36, 36)), name, "memorability", Tiny.branches)

    network = Tiny().eval()
    monkeypatch.setattr("memviz.cli.common.read_model", read_model)
    monkeypatch.setattr("memviz.images.sample_photos", write_photos)
    return read
