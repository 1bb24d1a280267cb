import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import NETWORKS, built, pictures
from torch import nn

from memviz.layers import private_copy


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_computes_the_same_and_leaves_the_original_alone(name):
    network = built(name)
    expected = network(pictures())
    with unchanged(network.train()), undisturbed():
        copied = private_copy(network)
        torch.testing.assert_close(copied(pictures()), expected)
    assert type(copied) is type(network)


def test_is_in_evaluation_mode_and_frozen():
    copied = private_copy(built("Branches").train())
    assert not any(part.training for part in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    batch = pictures().requires_grad_()
    copied(batch).sum().backward()
    assert batch.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in copied.parameters())


def test_shares_memory():
    network = built("Branches")
    copied = private_copy(network)
    for mine, theirs in zip(copied.parameters(), network.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
    for mine, theirs in zip(copied.buffers(), network.buffers(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()


def test_has_no_hook_of_the_callers_even_one_that_cannot_be_copied():
    network, calls = built("Branches"), []
    uncopyable = (each for each in ())

    def hook(*_):
        calls.append(uncopyable)

    network.register_forward_hook(hook)
    network.left[0].register_forward_pre_hook(hook)
    network.left[2].register_full_backward_hook(hook)
    network.head.register_full_backward_pre_hook(hook)
    with unchanged(network):
        copied = private_copy(network)
        copied(pictures().requires_grad_()).sum().backward()
    assert calls == []
    network(pictures().requires_grad_()).sum().backward()
    assert len(calls) == 4


def test_changes_of_the_copy_stay_there():
    network = built("Branches")
    copied = private_copy(network)
    with unchanged(network):
        copied.left[0] = nn.Identity()
        copied.head.weight = nn.Parameter(torch.zeros(1, 10))
        copied.right.register_forward_hook(print)
        copied.requires_grad_(True)
        copied.train()


def test_tied_weights_stay_tied():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    copied = private_copy(network)
    assert copied[1].weight is copied[0].weight
