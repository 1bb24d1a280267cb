"""Perceptual features of pictures in which they are known."""

import numpy as np
import pytest
from helpers import undisturbed
from PIL import Image

from memviz.errors import ImageError
from memviz.explanation.perceptual import (
    CYCLES,
    NAMES,
    ORIENTATIONS,
    SIDE,
    describe,
    gabor_amplitudes,
    perceptual_features,
)
from memviz.models import InputSpec


def by_name(values):
    return dict(zip((name for name, _ in NAMES), values, strict=True))


@pytest.mark.parametrize("cycles", CYCLES)
@pytest.mark.parametrize("number", [0, 1, 4, 6])
def test_a_grating_excites_the_filter_of_its_frequency_and_orientation_most(cycles, number):
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = np.pi * number / ORIENTATIONS
    grating = 50 + 10 * np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
    means = gabor_amplitudes(grating)[:, 32:96, 32:96].mean((1, 2))
    assert means.argmax() == CYCLES.index(cycles) * ORIENTATIONS + number
    assert means.max() == pytest.approx(5, rel=0.07)  # half: one of two sidebands


def test_a_plain_picture_has_no_energy_contrast_or_edges():
    values = by_name(describe(np.full((40, 60, 3), [0.8, 0.2, 0.2], np.float32)))
    assert all(value == pytest.approx(np.log(0.1), abs=0.01) for name, value in values.items() if "energy" in name)
    assert all(value == pytest.approx(0, abs=1e-2) for name, value in values.items() if name[:4] in ("cont", "edge"))
    assert values["mean a* 0,1"] == pytest.approx(values["percentile 99 a*"], abs=1e-3)
    assert values["mean a* 0,1"] > 30


def test_cells_are_told_apart():
    picture = np.full((64, 64, 3), 0.2, np.float32)
    picture[:32, 32:] = np.random.default_rng(0).random((32, 32, 1))
    values = by_name(describe(picture))
    for name in ("contrast L*", "edges", "energy 16 cycles, 0 degrees,"):
        others = [values[f"{name} {cell}"] for cell in ("0,0", "1,0", "1,1")]
        assert values[f"{name} 0,1"] > max(others)


def test_it_is_the_picture_that_the_network_sees(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    inputs = InputSpec(size=(40, 40), resize=45, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), channels="bgr", scale=255.0)
    with undisturbed():
        found = perceptual_features([tmp_path / "a.png"], inputs)
    seen = InputSpec(size=(40, 40), resize=45).from_pil(Image.fromarray(pixels)).numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(found.values[0], describe(seen))
    assert len(found.names) == len(found.groups) == found.values.shape[1]


def test_a_photograph_that_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(ImageError, match=r"a\.png"):
        perceptual_features([tmp_path / "a.png"], InputSpec(size=(40, 40)))
