import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import render
from PIL import Image

from memviz.errors import RenderError, StoreError
from memviz.models import InputSpec
from memviz.rendering import Maco, RenderConfig, RenderJob
from memviz.rendering.maco import DIRECTIONS, RADII
from memviz.rendering.parameterize import to_colours, to_planes

SIZES = [(16, 16), (15, 16), (16, 15), (12, 21), (9, 2), (2, 2), (1, 6), (1, 1)]
DIRECTION = np.arange(DIRECTIONS) * np.pi / DIRECTIONS


def spectrum(values):
    """A `Maco` of an array that has the shape of a magnitude, or becomes it."""
    return Maco(
        tuple(tuple(map(tuple, plane)) for plane in np.broadcast_to(values, (3, DIRECTIONS, len(RADII))).tolist())
    )


def power_law(power=-1.0, colour=(0.5, 0.3, 0.2), tilt=0.0):
    """A magnitude that falls with the frequency, and is larger along the horizontal."""
    return spectrum(
        np.array(colour)[:, None, None] * np.array(RADII) ** power * np.exp(tilt * np.cos(2 * DIRECTION))[:, None] / 5
    )


def stack(maco, size, count=3):
    return torch.stack([maco.start(size, torch.Generator().manual_seed(seed)) for seed in range(count)])


def magnitude(pictures):
    return torch.fft.rfft2(to_planes(pictures.double()), norm="ortho").abs().numpy()


@pytest.mark.parametrize("size", SIZES)
def test_whatever_the_phases_the_magnitude_is_the_one_given(size):
    maco = power_law(tilt=0.3)
    parameters = stack(maco, size).double() * 7
    found = magnitude(maco.pictures(parameters, size))
    np.testing.assert_allclose(found, np.broadcast_to(maco.on_canvas(size), found.shape), atol=1e-9)
    assert found.shape == (3, 3, size[0], size[1] // 2 + 1)


def test_the_magnitude_on_a_canvas_is_that_at_its_frequencies():
    """A power law is a straight line between logarithms, so that it is met exactly, on canvases of all sizes."""
    for size in SIZES[:4]:
        frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
        frequency[0, 0] = np.inf
        expected = np.array([0.5, 0.3, 0.2])[:, None, None] / frequency / 5
        np.testing.assert_allclose(power_law().on_canvas(size), expected, rtol=1e-6)


def test_directions_on_a_canvas():
    """Between two directions the logarithms are taken linearly, and the last is the first's neighbour."""
    for place in range(DIRECTIONS):
        one = np.zeros((DIRECTIONS, 1))
        one[place] = 1.0
        found = np.log(spectrum(np.exp(one)).on_canvas((64, 64))[0].flat[1:])
        down, across = np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)
        apart = np.abs((np.arctan2(down, across) - DIRECTION[place] + np.pi / 2) % np.pi - np.pi / 2)
        expected = np.maximum(0, 1 - apart / (np.pi / DIRECTIONS))
        np.testing.assert_allclose(found, expected.flat[1:], atol=1e-6)


def test_all_pictures_have_one_contrast_on_all_canvases():
    """White noise's magnitude is the same everywhere, and so is then the contrast: by Parseval the magnitude itself."""
    for size in ((16, 16), (33, 20), (64, 64)):
        planes = to_planes(spectrum(0.3).pictures(stack(spectrum(0.3), size).double(), size))
        means = planes.mean((2, 3))
        np.testing.assert_allclose(means, 0, atol=1e-9)
        waves = size[0] * size[1] - 1
        np.testing.assert_allclose((planes**2).sum((2, 3)), 0.09 * waves, rtol=1e-9)


def test_a_batch_equals_its_pictures_alone():
    maco = power_law()
    parameters = stack(maco, (9, 12))
    alone = torch.cat([maco.pictures(one[None], (9, 12)) for one in parameters])
    torch.testing.assert_close(maco.pictures(parameters, (9, 12)), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 5), (5, 4), (2, 2)])
def test_pictures_have_the_gradient_of_finite_differences(size):
    maco = power_law(tilt=0.3)
    parameters = stack(maco, size, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: maco.pictures(p, size), parameters)


def test_the_start_is_anywhere_on_the_circle_and_depends_on_the_generator_alone():
    first, again, other = (power_law().start((64, 64), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Waves of phases near each other would meet: the largest value would be a multiple of the contrast.
    flat = spectrum(0.3)
    planes = to_planes(flat.pictures(stack(flat, (64, 64)), (64, 64)))
    assert planes.abs().max() < 6 * planes.std()


def colour_noise(maco, seed, size=(64, 64)):
    """A photograph of that magnitude: planes of noise are filtered, mixed, and written as 8 bits."""
    noise = np.random.default_rng(seed).standard_normal((3, *size))
    planes = np.fft.irfft2(np.fft.rfft2(noise) * maco.on_canvas(size), s=size)
    values = to_colours(torch.from_numpy(planes)[None]).sigmoid()[0]
    return Image.fromarray((values * 255).round().byte().permute(1, 2, 0).numpy())


def test_from_photographs_finds_the_magnitude_that_they_have():
    """Those of known noise, which is stationary, whatever its size; its mean magnitude is sqrt(pi) / 2 of its root mean
    square, which filtered noise has (the mean of a Rayleigh variable)."""
    truth = power_law(-1.0, (0.4, 0.3, 0.3), tilt=0.4)
    for size in ((64, 64), (64, 80)):
        photographs = [colour_noise(truth, seed, size) for seed in range(60)]
        found = Maco.from_photographs(photographs, InputSpec(size=size))
        known = (np.array(RADII) > 2.5 / 64) & (np.array(RADII) < 0.4)
        ratio = (np.array(found.magnitude) / np.array(truth.magnitude))[..., known]
        assert np.median(ratio) == pytest.approx(np.sqrt(np.pi) / 2, rel=0.04)
        assert np.abs(np.log(ratio / np.median(ratio))).max() < 0.3


def test_photographs_are_seen_as_the_network_sees_them_but_in_colours():
    """At its input's scale and crop, and not normalized."""
    photographs = [colour_noise(power_law(), seed, (90, 70)) for seed in range(2)]
    spec = InputSpec(size=(40, 40), resize=(48, 48))
    cut = [photograph.resize((48, 48), Image.Resampling.BILINEAR).crop((4, 4, 44, 44)) for photograph in photographs]
    expected = Maco.from_photographs(cut, InputSpec(size=(40, 40)))
    normalized = replace(spec, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), channels="bgr", scale=255.0)
    for inputs in (spec, normalized):
        assert Maco.from_photographs(photographs, inputs) == expected


def test_edges_of_a_photograph_are_no_part_of_the_spectrum():
    """A slope from black to white jumps at the edge when it is repeated, where there is nothing to be seen."""
    slope = Image.fromarray(np.broadcast_to(np.linspace(100, 150, 64)[:, None, None], (64, 64, 3)).astype(np.uint8))
    found = np.array(Maco.from_photographs([slope], InputSpec(size=(64, 64))).magnitude)
    vertical = found[0, DIRECTIONS // 2]
    without = np.abs(np.fft.fft(np.linspace(100, 150, 64)))
    bins = np.array(RADII) * 64
    assert vertical[bins > 15].max() / vertical.max() < 0.2 * without[16] / without[1]


@pytest.mark.parametrize("photographs", [[], [Image.new("RGB", (32, 32))]])
def test_photographs_that_have_no_spectrum(photographs):
    with pytest.raises(RenderError, match=f"The {len(photographs)} photographs show nothing"):
        Maco.from_photographs(photographs, InputSpec(size=(32, 32)))


def test_grey_photographs_have_no_colours():
    grey = [colour_noise(power_law(), seed).convert("L").convert("RGB") for seed in range(3)]
    maco = Maco.from_photographs(grey, InputSpec(size=(64, 64)))
    pictures = maco.pictures(stack(maco, (32, 32)), (32, 32))
    # Grey is not the first plane alone: Lucid's colours of the first plane are nearly grey.
    assert (pictures.amax(1) - pictures.amin(1)).max() < 0.1
    assert pictures.std() > 0.01


@pytest.mark.parametrize(
    "value",
    [(), ((1.0,),), "abc", None, [[["a"]]], np.zeros((3, DIRECTIONS, len(RADII))).tolist()],
)
def test_what_is_no_magnitude(value):
    with pytest.raises(RenderError, match="The magnitude of a spectrum has the shape"):
        Maco(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 10**400])
def test_values_that_are_no_magnitude(value):
    rows = json.loads(json.dumps(power_law().magnitude))
    rows[1][2][3] = value
    with pytest.raises(RenderError):
        RenderConfig.from_dict({"parameterization": {"kind": "maco", "magnitude": rows}})


def test_there_and_back():
    """A config and a job hold the whole spectrum, hence a manifest, another machine and a recipe do."""
    config = RenderConfig(parameterization=power_law())
    data = json.loads(json.dumps(config.to_dict()))
    assert data == config.to_dict()
    assert data["parameterization"]["kind"] == "maco"
    assert RenderConfig.from_dict(data) == config
    assert hash(config) == hash(RenderConfig.from_dict(data))
    assert config != RenderConfig(parameterization=power_law(-1.1))
    job = RenderJob("0", (1,), config=config)
    assert RenderJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job


def test_without_a_magnitude_it_is_none():
    with pytest.raises(RenderError, match="missing required field `magnitude`"):
        RenderConfig.from_dict({"parameterization": {"kind": "maco"}})


@pytest.fixture
def config():
    return RenderConfig(size=16, steps=12, parameterization=power_law())


def test_rendered_pictures_excite_their_units_and_keep_the_magnitude(small, config):
    """To what 8 bits of a picture tell."""
    few = render(small, "body.3", config=replace(config, steps=1))
    renders = render(small, "body.3", config=config)
    assert (renders.table["peak"] > few.table["peak"]).mean() > 0.7
    assert set(renders.table["state"]) == {"ok"}
    exact = np.broadcast_to(config.parameterization.on_canvas((16, 16)), (5, 3, 16, 9))
    np.testing.assert_allclose(magnitude(renders.images), exact, atol=0.1)
    assert exact.max() > 0.5


def test_a_picture_does_not_depend_on_its_companions(small, config):
    together = render(small, "body.3", [0, 3, 4], config=config).images
    for place, unit in enumerate((0, 3, 4)):
        alone = render(small, "body.3", unit, config=config).images[0]
        assert (together[place] - alone).abs().max() <= 1.01 / 255


def test_a_folder_of_another_spectrum_is_refused(small, config, tmp_path):
    render(small, "body.3", 0, config=config, out=tmp_path)
    render(small, "body.3", 1, config=config, out=tmp_path)
    with pytest.raises(StoreError, match="the spectrum of other photographs"):
        render(small, "body.3", 0, config=replace(config, parameterization=power_law(-1.1)), out=tmp_path)
