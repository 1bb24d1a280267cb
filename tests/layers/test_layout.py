import pytest
import torch
from tiny import NETWORKS, DataDependent, Viewed, built, pictures, truth
from torch import nn

from memviz.layers import ChannelsLast, private_copy, truncate


def layouts(network):
    """The layouts of the maps that the network's convolutions give."""
    found = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda part, inputs, out: found.append(out.is_contiguous()))
    return found


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_gives_what_the_network_gives(name):
    network = built(name)
    torch.testing.assert_close(ChannelsLast(private_copy(network))(pictures()), network(pictures()))


@torch.no_grad()
def test_inputs_weights_and_maps_are_channels_last():
    network = ChannelsLast(private_copy(built("Branches")))
    weight = network.network.right[1].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    found = layouts(network)
    network(pictures())
    assert found
    assert not any(found)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("wrap", [lambda network: network, DataDependent], ids=["traced", "untraceable"])
def test_a_network_that_flattens_by_view_runs_contiguously_after_one_attempt(wrap, mode):
    viewed = wrap(Viewed().eval())
    conv, fc = (next(name for name, _ in viewed.named_modules() if name.endswith(end)) for end in ("conv", "fc"))
    expected = truth(viewed, pictures(), [conv, fc])
    network = ChannelsLast(truncate(private_copy(viewed), [conv, fc]))
    found = layouts(network)
    for _ in range(2):
        with mode():
            torch.testing.assert_close(network(pictures()), expected)
    assert found == [False, True, True]


@torch.no_grad()
def test_an_error_of_the_networks_own_is_raised_and_changes_nothing():
    network = ChannelsLast(private_copy(built("Branches")))
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.zeros(1, 5, 12, 12))
    found = layouts(network)
    network(pictures())
    assert not any(found)


def test_gradients_pass():
    network = ChannelsLast(private_copy(Viewed().eval()))
    batch = pictures().requires_grad_()
    network(batch).sum().backward()
    assert batch.grad.abs().sum() > 0
