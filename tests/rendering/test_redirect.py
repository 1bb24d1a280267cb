import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memviz.layers import truncate
from memviz.rendering.redirect import redirected_clamp, redirecting


def lucid(values, gradient):
    """`redirected_relu_grad` of lucid's misc/redirected_relu_grad.py, written out, for each sample."""
    result = np.empty_like(gradient)
    for place, (x, grad) in enumerate(zip(values, gradient, strict=True)):
        relu_grad = np.where(x < 0, 0, grad)
        neg_pushing_lower = (x < 0) & (grad > 0)
        redirected_grad = np.where(neg_pushing_lower, 0, grad)
        result[place] = relu_grad if np.linalg.norm(relu_grad) > 0 else redirected_grad
    return result


def backward(function, values, gradient):
    values = values.clone().requires_grad_()
    out = function(values)
    (found,) = torch.autograd.grad(out, values, gradient)
    return out.detach(), found


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 5, 7)])
def test_gradient_equals_lucids(shape):
    generator = torch.Generator().manual_seed(0)
    values, gradient = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    values[:, 0] = values[:, 0].abs()
    values[1] = -values[1].abs()  # shut
    values[2] = -values[2].abs()
    gradient[2] = gradient[2].abs()  # shut, and pushed lower everywhere
    gradient[3] = torch.where(values[3] > 0, 0, gradient[3])  # open only where there is no gradient
    gradient[4] = 0
    out, found = backward(redirected_clamp, values, gradient)
    expected = lucid(values.numpy(), gradient.numpy())
    np.testing.assert_array_equal(found.numpy(), expected)
    assert torch.equal(out, values.relu())
    # The samples are what they were made to be: open, redirected, blocked, redirected, without gradient, open.
    usual = backward(F.relu, values, gradient)[1]
    different = [not torch.equal(a, b) for a, b in zip(found, usual, strict=True)]
    assert different == [False, True, False, True, False, False]
    assert not found[2].any()


def test_zero_is_shut_as_in_torch():
    values = torch.tensor([[0.0, 2.0], [0.0, -1.0], [0.0, -1.0]])
    gradient = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    _, found = backward(redirected_clamp, values, gradient)
    assert found.tolist() == [[0.0, 1.0], [0.0, 0.0], [-1.0, -1.0]]


def test_a_sample_does_not_depend_on_its_companions():
    generator = torch.Generator().manual_seed(0)
    values, gradient = torch.randn(5, 3, 4, 4, generator=generator), torch.randn(5, 3, 4, 4, generator=generator)
    values[::2] = -values[::2].abs()
    together = backward(redirected_clamp, values, gradient)[1]
    alone = [backward(redirected_clamp, values[i : i + 1], gradient[i : i + 1])[1] for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


class Functions(nn.Module):
    """Every way to write a ReLU."""

    def __init__(self):
        super().__init__()
        self.module = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.module(x - 1.0) - 1.0
        x = F.relu(x, inplace=True) - 1.0
        x = torch.relu(x) - 1.0
        x = F.relu_(x) - 1.0
        x = x.relu() - 1.0
        x = torch.relu_(x) - 1.0
        return x.relu_()


@pytest.mark.parametrize("traced", [True, False])
def test_every_way_to_write_a_relu_is_redirected(traced):
    values = torch.full((2, 3, 4, 4), -1.0, requires_grad=True)
    network = truncate(Functions(), [""]) if traced else lambda x: {"": Functions()(x)}
    out = network(values * 1.0)[""]
    with redirecting():
        again = network(values * 1.0)[""]
    assert torch.equal(out, again)
    (gradient,) = torch.autograd.grad(again, values, -torch.ones_like(again))
    assert torch.equal(gradient, -torch.ones_like(values))


@pytest.mark.parametrize(
    "function",
    [
        nn.ReLU6(),
        F.relu6,
        nn.Hardtanh(0, 2),
        lambda x: F.hardtanh(x, min_val=0.0, max_val=2.0),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp(x, 0, 5),
        lambda x: x.clip(min=0),
        lambda x: x.clamp_min(0),
    ],
)
@pytest.mark.parametrize("place", ["below", "above"])
def test_other_bounds_are_redirected_too(function, place):
    if place == "above" and not torch.isfinite(function(torch.tensor(1e9))):
        pytest.skip("it has no upper bound")
    values = torch.full((2, 3), -1.0 if place == "below" else 1e9, requires_grad=True)
    plain = function(values * 1.0)
    if place == "above" and plain.max() > 1e6:
        pytest.skip("it has no upper bound")
    inwards = -torch.ones(2, 3) if place == "below" else torch.ones(2, 3)
    assert not torch.autograd.grad(plain, values, inwards)[0].any()
    with redirecting():
        out = function(values * 1.0)
    assert torch.equal(out, plain)
    assert torch.equal(torch.autograd.grad(out, values, inwards, retain_graph=True)[0], inwards)
    assert not torch.autograd.grad(out, values, -inwards)[0].any()
