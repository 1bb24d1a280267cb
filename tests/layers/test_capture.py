import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import NETWORKS, addresses, built, pictures, truth
from torch import nn

from memviz.errors import LayerError, MemvizError
from memviz.layers import capture, evaluating, observe


@pytest.fixture(params=NETWORKS)
def network(request):
    return built(request.param)


@torch.no_grad()
def test_captures_what_each_module_gave(network):
    every = addresses(network)
    expected = truth(network, pictures(), every)
    with unchanged(network), undisturbed(), capture(network, every) as activations:
        network(pictures())
    assert list(activations) == list(expected)
    for address, activation in activations.items():
        assert torch.equal(activation, expected[address])


def test_captured_convolution_is_signed_and_safe_from_the_relu_after_it():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
    with capture(network, ["0", "1"]) as activations:
        network(pictures())
    assert activations["0"].min() < 0
    assert torch.equal(activations["0"].relu(), activations["1"])


def test_captured_activations_carry_gradients():
    network, batch = built("InPlace"), pictures().requires_grad_()
    with capture(network, ["conv1"]) as activations:
        network(batch)
    activations["conv1"].sum().backward()
    assert batch.grad.abs().min() > 0


def test_capture_is_refilled_by_each_pass_and_not_after_the_block():
    network = built("InPlace")
    with capture(network, ["conv1"]) as activations:
        network(pictures(seed=1))
        first = activations["conv1"]
        network(pictures(seed=2))
    second = activations["conv1"]
    network(pictures(seed=3))
    assert not torch.equal(first, second)
    assert activations["conv1"] is second


def test_observe_shows_the_networks_own_tensor_each_time_it_is_made():
    network, seen = built("Repeated"), []
    with observe(network, {"relu": lambda maps: seen.append(maps)}):
        result = network(pictures())
    assert len(seen) == 3
    assert torch.equal(network.last(seen[-1]), result)


@pytest.mark.parametrize("look", [capture, observe])
@pytest.mark.parametrize("address", ["conv", "conv1.weight", "left.9", "conv1."])
def test_unknown_address_is_named_with_close_ones_and_leaves_nothing(look, address):
    network = built("InPlace")
    given = {"conv2": print, address: print}
    with (
        unchanged(network),
        pytest.raises(LayerError, match=rf"'{address}'.*names: .*\w+") as caught,
        look(network, given),
    ):
        pass
    assert isinstance(caught.value, MemvizError | LookupError)


@pytest.mark.parametrize("look", [capture, observe])
def test_hooks_go_after_an_exception_in_the_block_and_in_the_callback(look):
    network = built("InPlace")

    def fail(maps):
        raise KeyError

    with unchanged(network), pytest.raises(KeyError), look(network, {"conv1": fail}):
        fail(network(pictures()))  # capture calls nobody back


def test_what_gives_no_single_tensor_is_refused():
    network = nn.Sequential(nn.LSTM(4, 4))
    with (
        unchanged(network),
        pytest.raises(LayerError, match=r"'0'.*not return a single tensor.*submodules"),
        capture(network, ["0"]),
    ):
        network(torch.zeros(2, 1, 4))


def test_evaluating_restores_each_modules_own_mode():
    network = built("Branches").train()
    network.right[1].bn1.eval()
    with unchanged(network), pytest.raises(KeyError) as caught, evaluating(network):
        raise KeyError([part.training for part in network.modules()])
    assert not any(caught.value.args[0])


def test_evaluating_restores_modes_after_an_eval_that_fails():
    class Refuses(nn.Module):
        def train(self, mode=True):
            super().train(mode)
            raise NotImplementedError

    network = nn.Sequential(nn.Dropout(), Refuses())
    with unchanged(network), pytest.raises(NotImplementedError), evaluating(network):
        pass
