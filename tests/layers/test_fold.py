import pytest
import torch
from helpers import unchanged
from tiny import NETWORKS, Branches, addresses, built, pictures, torchvision_network, truth
from torch import nn

from memviz.layers import fold_batch_norms, private_copy, truncate


def folded(network, wanted):
    graph = truncate(private_copy(network), wanted)
    fold_batch_norms(graph)
    return graph


def norms(graph):
    return [name for name, part in graph.named_modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("name", "address"),
    [(name, address) for name in NETWORKS for address in ["", *addresses(built(name))[1:]]],
)
@torch.no_grad()
def test_folded_network_gives_the_same(name, address):
    network = built(name)
    expected = truth(network, pictures(), [address])
    with unchanged(network):
        given = folded(network, [address])(pictures())
    torch.testing.assert_close(given[address], expected[address], rtol=1e-4, atol=1e-5)


def test_no_batch_norm_is_left_behind_a_convolution():
    assert norms(truncate(private_copy(built("Branches")), ["right"])) != []
    assert norms(folded(built("Branches"), ["right"])) == []


def test_a_convolution_that_is_looked_at_keeps_its_own_output():
    network = built("Branches")
    wanted = ["right.1.conv1", "right.1.bn1", "right.2"]
    graph = folded(network, wanted)
    assert len(norms(graph)) == 1
    expected = truth(network, pictures(), wanted)
    with torch.no_grad():
        for address, activation in graph(pictures()).items():
            torch.testing.assert_close(activation, expected[address], rtol=1e-4, atol=1e-5)


class Unfoldable(nn.Module):
    """A norm before a convolution, a convolution with two readers or two norms, a batch's own statistics."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.conv, self.shared = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.last, self.own = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, pictures):
        maps = self.conv(self.before(pictures))
        maps = self.after(maps) + maps
        return self.own(self.last(self.one(self.shared(maps)) + self.other(self.shared(maps * 2))))


@torch.no_grad()
def test_what_cannot_be_folded_stays():
    network = Unfoldable().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean += 3
    graph = folded(network, [""])
    assert sorted(norms(graph)) == ["after", "before", "one", "other", "own"]
    torch.testing.assert_close(graph(pictures())[""], network(pictures()))


class Named(nn.Module):
    """Calls its modules by the names of their parameters."""

    def __init__(self, normalize=lambda module: module):
        super().__init__()
        self.conv, self.norm = normalize(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)

    def forward(self, pictures):
        return self.norm(input=self.conv(input=pictures))


@pytest.mark.parametrize("normalize", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
@torch.no_grad()
def test_a_convolution_with_a_parametrized_weight_stays(normalize):
    network = Named(normalize).eval()
    network.norm.running_mean += 3
    graph = folded(network, [""])
    assert norms(graph) == ["norm"]
    torch.testing.assert_close(graph(pictures())[""], network(pictures()))


@torch.no_grad()
def test_modules_that_are_called_by_keyword_are_folded():
    network = Named().eval()
    network.norm.running_mean += 3
    graph = folded(network, [""])
    assert norms(graph) == []
    torch.testing.assert_close(graph(pictures())[""], network(pictures()))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
@torch.no_grad()
def test_torchvision(name):
    network = torchvision_network(name).double()
    graph = truncate(private_copy(network), [""])
    before = len(norms(graph))
    fold_batch_norms(graph)
    assert len(norms(graph)) == {"resnet18": 0, "mobilenet_v2": 0, "densenet121": 62}[name] < before
    batch = pictures(1, 48).double()
    torch.testing.assert_close(graph(batch)[""], network(batch), rtol=1e-6, atol=1e-9)


def test_folds_nothing_in_the_callers_network():
    network = Branches().eval()
    with unchanged(network):
        folded(network, ["head"])
