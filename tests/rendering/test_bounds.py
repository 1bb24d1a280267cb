import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memviz.layers import truncate
from memviz.rendering.bounds import Bounds, bound


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(8, 2)

    def forward(self, pictures):
        first = F.relu(self.first(pictures))
        both = torch.cat([first, first + self.second(first).sigmoid()], 1)
        return self.last(F.max_pool2d(both, 4).flatten(1))


ADDRESSES = ["first", "second", "last"]


def test_pictures_stay_within():
    network = Residual().eval()
    bounds = bound(truncate(network, ADDRESSES), Bounds(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)))
    pictures = torch.cat([torch.rand(50, 3, 4, 4), torch.rand(50, 3, 4, 4).round()])
    with torch.no_grad():
        found = truncate(network, ADDRESSES)(pictures)
    for address in ADDRESSES:
        assert (found[address] >= bounds[address].low).all()
        assert (found[address] <= bounds[address].high).all()


def test_of_a_convolution_they_are_reached():
    network = nn.Sequential(nn.Conv2d(3, 5, 3)).eval()
    bounds = bound(truncate(network, ["0"]), Bounds(torch.zeros(1, 3, 3, 3), torch.ones(1, 3, 3, 3)))
    best = (network[0].weight > 0).float()
    with torch.no_grad():
        highest, lowest = (network(pictures).diagonal()[0, 0] for pictures in (best, 1 - best))
    torch.testing.assert_close(bounds["0"].high.flatten(), highest, rtol=0, atol=1e-4)
    torch.testing.assert_close(bounds["0"].low.flatten(), lowest, rtol=0, atol=1e-4)


def test_they_close_behind_what_is_always_shut():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.copy_(torch.tensor([-2.9, -3.1]))  # at most 3 comes before
        network[2].weight.copy_(torch.eye(2)[:, :, None, None])
    bounds = bound(truncate(network, ["2"]), Bounds(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)))
    width = (bounds["2"].high - bounds["2"].low).flatten()
    assert width[0] > 0.05
    assert width[1] == 0


class Masked(nn.Module):
    def forward(self, pictures):
        return torch.where(pictures > 0.5, pictures, 0)


class Branching(nn.Module):
    def forward(self, pictures):
        return pictures if pictures.sum() > 0 else -pictures


@pytest.mark.parametrize("network", [Masked(), Branching(), nn.Conv2d(3, 1, 3, padding=1, padding_mode="reflect")])
def test_what_is_not_known_has_none(network):
    network = nn.Sequential(network).eval()
    assert not bound(truncate(network, ["0"]), Bounds(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)))
