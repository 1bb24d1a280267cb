import pytest
import torch
from torch import nn

from memviz.layers.response_norm import ResponseNorm, replace_response_norms


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_torch_in_value_and_gradient(size, layout):
    generator = torch.Generator().manual_seed(size)
    maps = torch.randn(3, 6, 5, 4, generator=generator, dtype=torch.float64).contiguous(memory_format=layout)
    weights = torch.randn(3, 6, 5, 4, generator=generator, dtype=torch.float64)
    reference = nn.LocalResponseNorm(size, alpha=0.3, beta=0.6, k=1.7)
    results = []
    for module in (reference, ResponseNorm(reference)):
        own = maps.clone().requires_grad_()
        out = module(own)
        results.append((out, torch.autograd.grad((out * weights).sum(), own)[0]))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_beyond_16_bits(dtype):
    """As in mixed precision, where maps come in 16 bits; float16 ends at 65504, the square of 256."""
    generator = torch.Generator().manual_seed(0)
    maps = (1000 * torch.randn(2, 6, 5, 4, generator=generator)).to(dtype)
    weights = torch.randn(2, 6, 5, 4, generator=generator).to(dtype)
    reference = nn.LocalResponseNorm(5)
    results = []
    for module, given in ((reference, maps.float()), (ResponseNorm(reference), maps)):
        given.requires_grad_()
        with torch.autocast("cpu", dtype, enabled=given is maps):
            out = module(given)
        results.append((out, torch.autograd.grad((out.float() * weights).sum(), given)[0]))
    for expected, found in zip(*results, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype))


def test_the_gradient_is_that_of_finite_differences():
    maps = torch.randn(1, 7, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ResponseNorm(nn.LocalResponseNorm(4, alpha=0.5)), maps)


def test_every_normalization_of_a_network_is_replaced():
    network = nn.Sequential(nn.LocalResponseNorm(5), nn.Sequential(nn.LocalResponseNorm(3)))
    maps = torch.rand(2, 8, 4, 4)
    expected = network(maps)
    replace_response_norms(network)
    assert not any(isinstance(part, nn.LocalResponseNorm) for part in network.modules())
    torch.testing.assert_close(network(maps), expected)
