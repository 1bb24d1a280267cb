"""The ascent at growing distances, on numbers of which the way up is known."""

import pytest
import torch

from memviz.errors import RenderError
from memviz.explanation.departure import Departure
from memviz.rendering.parameterize import Fourier

SIZE = (12, 10)


@pytest.fixture
def photograph():
    return 0.3 + 0.4 * torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def departure(photograph, parameters="fourier"):
    return Departure(photograph, parameters, lambda picture: float((picture - photograph).norm()))


def test_a_linear_score_is_climbed_along_its_gradient(photograph):
    """In the parameters: the pixels then change by J J^T w, with the Jacobian J of the parameterization at 0."""
    weights = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    leaving = departure(photograph)
    offsets = list(leaving.climb(lambda step, picture: (weights * picture).sum(), [0.01, 0.02, 0.03]))
    still = leaving.still.requires_grad_()
    (gradient,) = torch.autograd.grad((weights * leaving.picture(still)).sum(), [still])
    for offset, radius in zip(offsets, [0.01, 0.02, 0.03], strict=True):
        assert torch.cosine_similarity(offset.flatten(), gradient.flatten(), dim=0) > 0.999
        change = leaving.picture(offset) - photograph
        assert float(change.norm()) == pytest.approx(radius, rel=0.03)
        assert float((weights * change).sum()) > 0


def test_near_is_the_photograph_itself(photograph):
    leaving = departure(photograph)
    torch.testing.assert_close(leaving.picture(leaving.still), photograph, atol=1e-5, rtol=0)
    (offset,) = leaving.climb(lambda step, picture: picture.sum(), [1e-3])
    assert float((leaving.picture(offset) - photograph).abs().max()) < 1 / 255


def test_phases_leave_the_spectrum(photograph):
    leaving = departure(photograph, "phase")
    *_, offset = leaving.climb(lambda step, picture: (picture[..., :6, :] - picture[..., 6:, :]).sum(), [0.05, 0.1])
    changed = leaving.picture(offset)
    assert float((changed - photograph).norm()) == pytest.approx(0.1, rel=0.03)
    before, after = (torch.view_as_complex(Fourier().parameters(each)) for each in (photograph, changed))
    # Real coefficients, as the mean's, cannot turn: what is left of them is the cosine.
    inner = (slice(None), slice(None), slice(1, 6), slice(1, 5))
    torch.testing.assert_close(after.abs()[inner], before.abs()[inner], rtol=1e-3, atol=1e-4)
    half = changed[..., :6, :].sum() - changed[..., 6:, :].sum()
    assert half > photograph[..., :6, :].sum() - photograph[..., 6:, :].sum()


def test_without_a_gradient_there_is_no_way(photograph):
    leaving = departure(photograph)
    with pytest.raises(RenderError, match="The gradient on the photograph is 0"):
        next(leaving.climb(lambda step, picture: (picture * 0).sum(), [0.1]))
    with pytest.raises(RenderError, match="is nan"):
        next(leaving.climb(lambda step, picture: (picture * float("nan")).sum(), [0.1]))


def test_a_number_at_its_end_is_not_left(photograph):
    """As a ReLU's 0: the ascent goes on in the direction that it had."""
    leaving = departure(photograph)
    offsets = list(
        leaving.climb(lambda step, picture: picture.sum() * (step == 0), [0.02, 0.04]),
    )
    assert float((leaving.picture(offsets[1]) - photograph).norm()) == pytest.approx(0.04, rel=0.03)
