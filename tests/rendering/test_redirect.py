import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memviz.layers import truncate
from memviz.rendering.redirect import RedirectedReLU, redirect_relus, redirected_relu


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
    out, found = backward(redirected_relu, values, gradient)
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
    _, found = backward(redirected_relu, values, gradient)
    assert found.tolist() == [[0.0, 1.0], [0.0, 0.0], [-1.0, -1.0]]


def test_a_sample_does_not_depend_on_its_companions():
    generator = torch.Generator().manual_seed(0)
    values, gradient = torch.randn(5, 3, 4, 4, generator=generator), torch.randn(5, 3, 4, 4, generator=generator)
    values[::2] = -values[::2].abs()
    together = backward(redirected_relu, values, gradient)[1]
    alone = [backward(redirected_relu, values[i : i + 1], gradient[i : i + 1])[1] for i in range(5)]
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


def test_every_way_to_write_a_relu_is_redirected():
    values = torch.full((2, 3, 4, 4), -1.0, requires_grad=True)
    network = truncate(Functions(), [""])
    out = network(values * 1.0)[""]
    redirect_relus(network)
    again = network(values * 1.0)[""]
    assert torch.equal(out, again)
    (gradient,) = torch.autograd.grad(again, values, -torch.ones_like(again))
    assert torch.equal(gradient, -torch.ones_like(values))


def test_one_relu_at_several_addresses_is_replaced_at_each():
    relu = nn.ReLU()
    network = nn.Sequential(nn.Identity(), relu, nn.Sequential(relu, nn.Tanh()))
    redirect_relus(network)
    assert [type(part) for part in (network[1], network[2][0])] == [RedirectedReLU] * 2
    assert isinstance(network[2][1], nn.Tanh)
