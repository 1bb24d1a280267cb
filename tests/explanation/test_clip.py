import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from torch import nn

import memviz
from memviz.errors import LabelError
from memviz.explanation import naming
from memviz.explanation.automatic import label_units
from memviz.explanation.clip import Words, open_clip_encoder, read_words
from memviz.explanation.responses import Responses

WORDS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


class Colours:
    """Knows of a picture its mean colour."""

    name = "colours"

    def pictures(self, pictures):
        return np.stack([np.asarray(picture).mean((0, 1)) for picture in pictures])

    def words(self, words):
        return np.array([WORDS[word] for word in words])


class First(nn.Module):
    """Its units are red, green and noise of the pixels."""

    def forward(self, pictures):
        return torch.cat([pictures[:, :2], pictures[:, :1] - pictures[:, :1].roll(1, 3)], 1)


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(80):
        pixels = random.integers(0, 200, 3) + random.integers(0, 50, (6, 6, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"photos/{number:02d}.png")
    return tmp_path / "photos"


def test_units_are_named_by_words(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "SHUFFLED", 1000)
    model = memviz.wrap(nn.Sequential(First(), nn.Identity()), memviz.InputSpec(size=(6, 6), resize=6))
    index = memviz.build_index(model, pictures, layers=["0"], out=tmp_path / "index", k=3)
    (found,) = label_units(model, index, labeller=Words(Colours(), list(WORDS)))
    assert [label.text for label in found.labels] == ["red", "green", None]
    assert found.labels[0].source == "colours"


def test_cosines_and_their_softmax(pictures):
    paths = tuple(sorted(pictures.iterdir()))
    found = Words(Colours(), ["green", "red", "green"]).concepts(Responses(paths, {}, {}, {}))
    colours = np.stack([np.asarray(Image.open(path), dtype=float).mean((0, 1)) for path in paths])
    cosines = (colours / np.linalg.norm(colours, axis=1, keepdims=True))[:, [1, 0]]
    assert found.names == ("green", "red")
    np.testing.assert_allclose(found.values, cosines)
    np.testing.assert_allclose(found.probabilities, softmax(10 * cosines, axis=1))


def test_open_clip_is_asked_as_it_wants_to_be(monkeypatch):
    """With a stand-in, since weights are not at hand."""

    class Network(nn.Module):
        def encode_image(self, batch):
            return batch.mean((2, 3))

        def encode_text(self, tokens):
            return tokens.float()

    def create(name, pretrained, device):
        if pretrained != "openai":
            raise RuntimeError("Pretrained weights (mine) not found")
        return Network(), None, lambda picture: torch.tensor(np.asarray(picture)).permute(2, 0, 1).float()

    fake = types.SimpleNamespace(
        create_model_and_transforms=create,
        get_tokenizer=lambda name: lambda words: torch.tensor([[len(word), 1] for word in words]),
    )
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    encoder = open_clip_encoder()
    assert encoder.name == "CLIP ViT-B-16 openai"
    picture = Image.new("RGB", (4, 4), (10, 20, 30))
    assert encoder.pictures([picture, picture]).tolist() == [[10, 20, 30]] * 2
    assert encoder.words(["word"] * 40 + ["longer"]).tolist() == [[4, 1]] * 40 + [[6, 1]]
    with pytest.raises(LabelError, match=r"ViT-B-16 with the weights mine cannot be had: Pretrained weights"):
        open_clip_encoder(weights="mine")


def test_errors(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(LabelError, match=r"needs the package open_clip: pip install 'memviz\[clip\]'"):
        open_clip_encoder()
    with pytest.raises(LabelError, match="1 words were given to choose names from"):
        Words(Colours(), ["red", "red"])
    (tmp_path / "words.txt").write_text("red\n\n dark blue \n")
    assert read_words(tmp_path / "words.txt") == ["red", "dark blue"]
    with pytest.raises(LabelError, match="No such file"):
        read_words(tmp_path / "none.txt")
