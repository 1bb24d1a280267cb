"""A layer's output replaced in a repeated pass, against the whole network with a hook."""

import pytest
import tiny
import torch
from helpers import unchanged, undisturbed
from torch import nn

import memviz
from memviz.explanation.replay import Replay
from memviz.models import InputSpec


class Aliased(nn.Module):
    """A module returns what it was given, which is then overwritten and read by its old name; parts are in a list."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)])
        self.same = nn.Identity()
        self.last = nn.Conv2d(4, 2, 3)

    def forward(self, pictures):
        maps = self.convs[0](pictures)
        other = self.same(maps)
        deep = self.convs[1](maps * 2)
        other.mul_(-2)
        return self.last(maps + deep)


class Keeping(nn.Module):
    """A result passes beside what modules return."""

    def __init__(self):
        super().__init__()
        self.first = Noting()
        self.last = nn.Conv2d(4, 2, 3)

    def forward(self, pictures):
        maps = self.first(pictures)
        self.first.note, note = None, self.first.note
        return self.last(maps) if note is None else self.last(maps * note)


class Noting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.note = None

    def forward(self, pictures):
        self.note = pictures.mean()
        return self.conv(pictures)


class Summed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pictures):
        return self.network(pictures).flatten(1).sum(1, keepdim=True)


def built(name):
    if name in tiny.NETWORKS:
        return tiny.built(name)
    return {"Aliased": Aliased, "Keeping": Keeping}[name]().eval()


def by_hook(module, layer, batch, change):
    """The whole network, with the last output of a layer changed."""
    part, calls = module.get_submodule(layer), []
    counting = part.register_forward_hook(lambda *_: calls.append(1))
    module(batch)
    counting.remove()
    count = []

    def replace(part, inputs, output):
        count.append(1)
        return change(output.clone()) if len(count) == len(calls) else None

    handle = part.register_forward_hook(replace)
    result = module(batch)
    handle.remove()
    return result[:, 0].detach()


def change(maps):
    maps = maps.clone()
    maps[:, 1] = maps[:, 1].roll(1, 0) + 0.3
    return maps


@pytest.mark.parametrize("name", [*tiny.NETWORKS, "Aliased", "Keeping"])
def test_every_layer_as_in_the_whole_network(name):
    module = Summed(built(name)).eval()
    model = memviz.wrap(module, InputSpec(size=(12, 12)), name, "memorability")
    batch = tiny.pictures(3)
    layers = [each for each in tiny.addresses(module) if each not in ("", "network") and runs(module, each, batch)]
    with unchanged(module), undisturbed():
        for layer in layers:
            replay = Replay(model, layer)
            torch.testing.assert_close(replay.record(batch), module(batch)[:, 0].detach())
            for _ in range(2):  # nothing is spoilt by a repetition
                expected = by_hook(module, layer, batch, change)
                torch.testing.assert_close(replay.run(change(replay.output)), expected, msg=f"{name} {layer}")
            if layer != "network.same":  # in its place a tensor of its own is not what it was given any more
                torch.testing.assert_close(replay.run(replay.output), module(batch)[:, 0].detach())
            other = tiny.pictures(2, seed=5)
            replay.record(other)
            torch.testing.assert_close(
                replay.run(change(replay.output)), by_hook(module, layer, other, change), msg=f"{name} {layer}"
            )


def runs(module, address, batch):
    """Whether a module runs and has at least two maps."""
    seen = []
    handle = module.get_submodule(address).register_forward_hook(lambda part, inputs, output: seen.append(output))
    module(batch)
    handle.remove()
    return bool(seen) and seen[-1].shape[1] > 1


def test_what_came_before_does_not_run_again(monkeypatch):
    module = Summed(tiny.built("Branches")).eval()
    replay = Replay(memviz.wrap(module, InputSpec(size=(12, 12)), "tiny", "memorability"), "network.right.2")
    ran, convolve = [], nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda part, *args: ran.append(part) or convolve(part, *args))
    replay.record(tiny.pictures(2))
    assert len(ran) == 8
    ran.clear()
    replay.run(torch.zeros_like(replay.output))
    assert ran == []
    assert replay.remembered == 3  # the left branch, and right.0 and right.1


def test_the_published_resmem(resmem):
    batch = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(0))
    module = resmem.module
    for layer in ("resnet.layer3.35", "resnet.fc"):
        replay = Replay(resmem, layer)
        replay.record(batch)
        with torch.no_grad():
            expected = by_hook(module, layer, batch, change)
        torch.testing.assert_close(replay.run(change(replay.output)).sigmoid(), expected, atol=1e-5, rtol=1e-5)
