import numpy as np
import pytest
import torch

from memviz.rendering import Fourier, Pixel

# Lucid's matrix, typed from its source, columns scaled by the largest column norm.
COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOUR /= np.linalg.norm(COLOUR, axis=0).max()
SIZES = [(16, 16), (15, 16), (16, 15), (12, 21), (1, 1), (1, 6)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def fourier_in_numpy(parameters, size, decay, decorrelated):
    """The docstring's formula, with the frequencies and the transform of numpy, colours mixed in pixels."""
    height, width = size
    z = parameters[..., 0].astype(np.float64) + 1j * parameters[..., 1]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    z = z / np.maximum(frequency, 1 / max(height, width)) ** decay
    planes = np.fft.irfft2(z, s=(height, width), norm="ortho") / 4
    if decorrelated:
        planes = np.einsum("ck,nkhw->nchw", COLOUR, planes)
    return sigmoid(planes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("decorrelated", [True, False])
def test_fourier_equals_numpy(size, decay, decorrelated):
    fourier = Fourier(sd=2.0, decay=decay, decorrelated=decorrelated)
    parameters = torch.stack([fourier.start(size, generator(seed)) for seed in range(3)])
    pictures = fourier.pictures(parameters, size)
    assert pictures.shape == (3, 3, *size)
    assert pictures.dtype == torch.float32
    expected = fourier_in_numpy(parameters.numpy(), size, decay, decorrelated)
    np.testing.assert_allclose(pictures.numpy(), expected, atol=2e-6)
    if size != (1, 1):
        assert expected.std() > 0.01  # the pictures compared are not flat


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decorrelated", [True, False])
def test_pixels_equal_numpy(size, decorrelated):
    pixel = Pixel(sd=2.0, decorrelated=decorrelated)
    parameters = torch.stack([pixel.start(size, generator(seed)) for seed in range(2)])
    mixed = np.einsum("ck,nkhw->nchw", COLOUR, parameters.numpy()) if decorrelated else parameters.numpy()
    np.testing.assert_allclose(pixel.pictures(parameters, size).numpy(), sigmoid(mixed), atol=1e-6)


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_a_batch_equals_its_pictures_alone(kind):
    parameters = torch.stack([kind(sd=1.0).start((9, 12), generator(seed)) for seed in range(3)])
    together = kind().pictures(parameters, (9, 12))
    alone = torch.cat([kind().pictures(one[None], (9, 12)) for one in parameters])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_pictures_have_the_gradient_of_finite_differences(kind):
    parameters = torch.stack([kind(sd=1.0).start((4, 5), generator(seed)) for seed in range(2)]).double()
    assert torch.autograd.gradcheck(lambda p: kind().pictures(p, (4, 5)), parameters.requires_grad_())


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_start_depends_on_the_generator_alone(kind):
    first, again, other = (kind().start((8, 8), generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(kind().start((8, 8), generator()), first)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_start_has_the_standard_deviation_asked_for(kind):
    values = kind(sd=0.3).start((64, 64), generator())
    assert values.mean().abs() < 0.01
    assert values.std() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("kind", [Fourier, Pixel])
def test_pictures_start_near_grey(kind):
    pictures = kind().pictures(kind().start((64, 64), generator())[None], (64, 64))
    assert (pictures - 0.5).abs().max() < 0.1


def test_all_frequencies_are_equally_easy_to_reach():
    """A unit coefficient of twice the frequency makes a wave of half the height."""
    heights = []
    for row in (2, 4, 8):
        parameters = torch.zeros(1, 3, 64, 33, 2)
        parameters[0, :, row, 0, 0] = 1e-3
        heights.append((Fourier(decorrelated=False).pictures(parameters, (64, 64)) - 0.5).abs().max().item())
    assert heights[0] / heights[1] == pytest.approx(2, rel=1e-2)
    assert heights[1] / heights[2] == pytest.approx(2, rel=1e-2)
