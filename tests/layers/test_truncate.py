import threading

import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import NETWORKS, DataDependent, addresses, built, pictures, torchvision_network, truth
from torch import fx, nn

from memviz.errors import LayerError
from memviz.layers import capture, truncate
from memviz.layers.truncate import StoppedEarly

EVERY = [(name, address) for name in NETWORKS for address in addresses(built(name))]


def agree(given, expected):
    assert list(given) == list(expected)
    for address in expected:
        torch.testing.assert_close(given[address], expected[address])


def executed(network, call):
    """The addresses of the modules without parts that run while `call` runs, in order."""
    ran, handles = [], []
    for address, part in network.named_modules():
        if not any(part.children()):
            handles.append(part.register_forward_pre_hook(lambda part, inputs, address=address: ran.append(address)))
    call()
    for handle in handles:
        handle.remove()
    return ran


@pytest.mark.parametrize(("name", "address"), EVERY)
@torch.no_grad()
def test_equals_the_whole_forward_pass(name, address):
    network = built(name)
    expected = truth(network, pictures(), [address])
    with unchanged(network), undisturbed():
        truncated = truncate(network, [address])
        assert isinstance(truncated, fx.GraphModule)
        agree(truncated(pictures()), expected)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_all_layers_at_once_come_in_the_order_asked(name):
    network = built(name)
    every = addresses(network)[::-1]
    outputs = truth(network, pictures(), every)
    agree(truncate(network, every)(pictures()), {address: outputs[address] for address in every})


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_untraceable_network_stops_early_with_equal_results(name):
    network = DataDependent(built(name))
    for address in addresses(network):
        truncated = truncate(network, [address])
        assert isinstance(truncated, StoppedEarly)
        expected = truth(network, pictures(), [address])
        for _ in range(2):  # the first pass is a whole one
            with unchanged(network), undisturbed():
                agree(truncated(pictures()), expected)


def test_untraceable_network_runs_nothing_after_the_last_layer():
    network = DataDependent(built("Repeated"))
    truncated = truncate(network, ["network.first", "network.relu"])
    assert executed(network, lambda: truncated(pictures()))[-1] == "network.last"
    assert executed(network, lambda: truncated(pictures())) == ["network.first", "network.relu"] * 3


def test_untraceable_network_is_left_as_it_was_after_an_exception():
    network = DataDependent(built("InPlace"))
    truncated = truncate(network, ["network.conv2"])
    with unchanged(network), pytest.raises(RuntimeError):
        truncated(torch.zeros(1, 5, 8, 8))


def test_runs_nothing_behind_the_layer_and_nothing_of_the_other_branch(resmem):
    truncated = truncate(resmem.module, ["alexnet.conv2"])
    batch = torch.zeros(1, 3, 227, 227)
    ran = executed(resmem.module, lambda: truncated(batch))
    assert ran == [f"alexnet.{part}" for part in ("conv1", "relu1", "pool1", "lrn1", "conv2")]
    assert len(executed(resmem.module, lambda: resmem.module(batch))) > 400
    assert sum(tensor.numel() for tensor in truncated.parameters()) == 17_472 + 153_856  # conv1 and conv2


def test_runs_what_several_layers_need_and_no_more():
    network = built("Branches")
    truncated = truncate(network, ["right.1.conv1", "left.0"])
    assert executed(network, lambda: truncated(pictures())) == ["left.0", "right.0", "right.1.conv1"]


def test_in_place_relu_behind_the_layer_does_not_run():
    network = built("SharedInput")
    assert executed(network, lambda: truncate(network, ["stem"])(pictures())) == ["stem"]


def test_works_at_other_sizes_than_the_network_takes(resmem):
    out = truncate(resmem.module, ["alexnet.conv4"])(torch.zeros(2, 3, 96, 128))
    assert out["alexnet.conv4"].shape[:2] == (2, 384)


def test_gradients_reach_the_pictures_and_equal_the_whole_networks():
    network = built("Branches").requires_grad_(False)
    gradients = []
    for look in ("truncate", "capture"):
        batch = pictures().requires_grad_()
        if look == "truncate":
            activations = truncate(network, ["right.1"])(batch)
        else:
            with capture(network, ["right.1"]) as activations:
                network(batch)
        activations["right.1"].square().sum().backward()
        gradients.append(batch.grad)
    torch.testing.assert_close(*gradients)


def test_shares_the_callers_weights():
    network = built("Branches")
    truncated = truncate(network, ["left.2"])
    shared = {parameter.data_ptr() for parameter in network.parameters()}
    assert shared >= {parameter.data_ptr() for parameter in truncated.parameters()}


@pytest.mark.parametrize("wrapped", [False, True], ids=["traced", "untraceable"])
def test_refuses_what_cannot_be_looked_at(wrapped):
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.pair, self.conv = nn.Conv2d(3, 3, 1), Pair(), nn.Conv2d(3, 3, 1)

        def forward(self, maps):
            return self.conv(self.pair(maps)[0])

    class Pair(nn.Module):
        def forward(self, maps):
            return maps, maps

    network, prefix = (DataDependent(Partly()), "network.") if wrapped else (Partly(), "")
    for address in ("idle", "pair"):
        with unchanged(network), pytest.raises(LayerError, match=f"'{prefix}{address}'.*one of its submodules"):
            truncate(network, [prefix + "conv", prefix + address])(pictures())
    with pytest.raises(LayerError, match=f"{prefix}convv.*Close names: {prefix}conv"):
        truncate(network, [prefix + "convv"])


def test_no_address_at_all():
    with pytest.raises(LayerError, match="at least one"):
        truncate(built("InPlace"), [])


@pytest.mark.parametrize(
    ("build", "side", "layers"),
    [
        ("alexnet", 64, ["features.0", "features.1", "features.10", "avgpool", "classifier.6"]),
        ("resnet18", 64, ["relu", "layer1.0.conv1", "layer2.0.downsample.0", "layer2.0.bn1", "layer4.1", "fc"]),
        ("resnext50_32x4d", 32, ["layer1.0.conv2", "layer3.2"]),
        ("densenet121", 32, ["features.denseblock1.denselayer2.conv1", "features.denseblock3", "features.norm5"]),
        ("mobilenet_v2", 32, ["features.3.conv.1.0", "features.18", "classifier.1"]),
        ("mobilenet_v3_small", 32, ["features.0.0", "features.4.block.2.scale_activation", "features.9"]),
        ("shufflenet_v2_x0_5", 32, ["stage2.1", "stage3.0.branch1.0", "conv5.0"]),
        ("squeezenet1_1", 64, ["features.3.squeeze", "features.3", "classifier.1"]),
        ("googlenet", 64, ["inception3a.branch2", "inception4c", "conv2.conv"]),
        ("inception_v3", 96, ["Mixed_5b", "Mixed_6a.branch3x3.conv", "Mixed_7c"]),
        ("efficientnet_b0", 32, ["features.2.0.block.1.0", "features.6.1", "classifier.1"]),
        ("convnext_tiny", 32, ["features.0.0", "features.1.1.block.0", "features.3", "classifier.2"]),
        ("vit_b_16", 32, ["conv_proj", "heads.head"]),
        ("swin_t", 32, ["features.0.0", "head"]),
    ],
)
@torch.no_grad()
def test_torchvision_classifiers(build, side, layers):
    network = torchvision_network(build)
    batch = pictures(2, side)
    expected = truth(network, batch, layers)
    with unchanged(network):
        agree(truncate(network, layers)(batch), {address: expected[address] for address in layers})


@torch.no_grad()
def test_torchvision_segmentation():
    network = torchvision_network("fcn_resnet50", weights_backbone=None)
    layers = ["backbone.layer1.0", "backbone.layer4.2.conv3", "classifier.4"]
    expected = truth(network, pictures(1, 32), layers)
    assert isinstance(truncate(network, layers), fx.GraphModule)
    agree(truncate(network, layers)(pictures(1, 32)), expected)
    with pytest.raises(LayerError, match=r"''.*one of its submodules"):
        truncate(network, [""])(pictures(1, 32))


def test_threads_that_trace_and_run_at_once():
    """fx patches nn.Module for the whole process while it traces."""
    call, getter = nn.Module.__call__, nn.Module.__getattr__
    networks = [nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(12))) for _ in range(8)]
    pictures = torch.rand(1, 3, 4, 4)
    expected = [network(pictures) for network in networks]
    wrong = []

    def work(place):
        try:
            for _ in range(15):
                found = truncate(networks[place], ["11"])(pictures)["11"]
                again = networks[place](pictures)
                if not (torch.equal(found, expected[place]) and torch.equal(again, expected[place])):
                    wrong.append(place)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (nn.Module.__call__, nn.Module.__getattr__) == (call, getter)


class Checking(nn.Module):
    """Raises an error of its own, for all but tensors or for tensors too."""

    def __init__(self, error, check):
        super().__init__()
        self.conv, self.error, self.check = nn.Conv2d(3, 4, 3), error, check

    def forward(self, pictures):
        if not (self.check and isinstance(pictures, torch.Tensor)):
            raise self.error
        return self.conv(pictures)


@torch.no_grad()
@pytest.mark.parametrize("error", [TypeError("no tensor"), ValueError("no tensor"), AssertionError("no tensor")])
def test_a_network_that_refuses_proxies_runs_as_it_is_and_says_why(error):
    truncated = truncate(Checking(error, check=True), ["conv"])
    assert f"'conv'; not traced: {type(error).__name__}: no tensor" in repr(truncated)
    assert truncated(pictures())["conv"].shape == (2, 4, 10, 10)


def test_the_networks_own_errors_are_seen():
    truncated = truncate(Checking(ValueError("my own"), check=False), ["conv"])
    with pytest.raises(ValueError, match="my own"):
        truncated(pictures())
    with pytest.raises(OSError, match="no such file"):
        truncate(Checking(OSError("no such file"), check=False), ["conv"])


class Shared(nn.Module):
    """One module at two addresses, which runs twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3)
        self.second = self.first

    def forward(self, pictures):
        return self.second(self.first(pictures) + 1)


@torch.no_grad()
@pytest.mark.parametrize("wrap", [lambda network: network, DataDependent], ids=["traced", "untraceable"])
def test_a_module_at_two_addresses_has_one_output_its_last(wrap):
    network = wrap(Shared())
    expected = network(pictures())
    both = [name for name, _ in network.named_modules(remove_duplicate=False) if name.endswith(("first", "second"))]
    assert len(both) == 2
    agree(truncate(network, both)(pictures()), dict.fromkeys(both, expected))
    for address in both:
        agree(truncate(network, [address])(pictures()), {address: expected})
    with capture(network, both) as activations:
        network(pictures())
    agree(activations, dict.fromkeys(both, expected))
