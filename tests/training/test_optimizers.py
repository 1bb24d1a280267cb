import copy
import math

import pytest
import torch
from torch import nn

from memviz.training.config import TrainConfig
from memviz.training.optimizers import LARS, layers, optimizer, scale_gradients, schedule

RECIPES = ("adamw", "lars", "paper")


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))


def descend(network, chosen, steps, planned=None):
    pictures = torch.rand(32, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        chosen.zero_grad()
        loss = (network(pictures).flatten() - pictures[:, 0]).square().mean()
        loss.backward()
        chosen.step()
        if planned:
            planned.step()
    return float(loss.detach())


def test_lars_takes_the_step_that_is_computed_by_hand():
    """A weight (3, 0) and a bias 4 have the norm 5; the gradients (0, 6) and 8 the norm 10."""
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0]]))
        layer.bias.fill_(4.0)
    chosen = LARS([[layer.weight, layer.bias]], lr=0.1, momentum=0.5)
    layer.weight.grad, layer.bias.grad = torch.tensor([[0.0, 6.0]]), torch.tensor([8.0])
    chosen.step()  # 0.1 * 5 / 10 of the gradient
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[3.0, -0.3]]))
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([3.6]))
    chosen.step()  # the norm is now sqrt(9 + .09 + 12.96), and half of the first step is taken once more
    share = 0.1 * math.sqrt(22.05) / 10
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[3.0, -0.3 - 0.15 - share * 6]]))
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([3.6 - 0.2 - share * 8]))


def test_lars_decays_by_the_weight():
    """A weight of 4, a gradient of 3 and a decay of 0.5: the rate is 4 / (3 + 2), the direction 3 + 2."""
    weight = nn.Parameter(torch.tensor([4.0]))
    weight.grad = torch.tensor([3.0])
    LARS([[weight]], lr=0.1, momentum=0.0, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([4.0 - 0.1 * 4 / 5 * 5]))


def test_lars_leaves_what_has_no_gradient():
    still, zero = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    zero.grad = torch.zeros(2)
    LARS([[still], [zero]], lr=0.1).step()
    assert still.tolist() == zero.tolist() == [1, 1]


def test_the_size_of_the_loss_does_not_count():
    """What learns too slowly by plain descent: gradients a thousand times smaller move the layers as far."""
    moved = []
    for factor in (1.0, 1e-3):
        network = small()
        before = nn.utils.parameters_to_vector(network.parameters()).detach()
        chosen = LARS(layers(network), lr=0.01)
        for _ in range(3):
            chosen.zero_grad()
            (factor * network(torch.ones(1, 4))).sum().backward()
            chosen.step()
        moved.append(nn.utils.parameters_to_vector(network.parameters()).detach() - before)
    torch.testing.assert_close(*moved)


def test_scaled_gradients_are_those_of_a_scaled_gradient_into_the_branch():
    """What they are said to be: those that come of multiplying the gradient at the branch's output."""
    whole, split = small(), small()
    pictures = torch.rand(32, 4)
    whole(pictures).square().mean().backward()
    scale_gradients(whole, ["0"], 8)
    features = split[0](pictures)
    features.register_hook(lambda gradient: 8 * gradient)
    split[1:](features).square().mean().backward()
    for mine, wanted in zip(whole.parameters(), split.parameters(), strict=True):
        assert torch.equal(mine.grad, wanted.grad)


def test_scaled_gradients_are_a_rate_of_the_branch_in_plain_descent():
    """Momentum included; and with AdamW and LARS, in which the configuration refuses a scale, they change little."""
    recipes = {"paper": {"learning_rate": 0.05}, "adamw": {}, "lars": {"weight_decay": 0.0}}
    for recipe, changes in recipes.items():
        config = TrainConfig(recipe=recipe, **changes)
        networks = small(), small()
        optimizers = [optimizer(network, config) for network in networks]
        if recipe == "paper":
            groups = [{"params": networks[1][0].parameters(), "lr": 8 * 0.05}, {"params": networks[1][2].parameters()}]
            optimizers[1] = torch.optim.SGD(groups, 0.05, config.momentum)
        for _ in range(3):
            for network, chosen, factor in zip(networks, optimizers, (8, 1), strict=True):
                chosen.zero_grad()
                network(torch.ones(1, 4)).square().sum().backward()
                scale_gradients(network, ["0"], factor)
                chosen.step()
        for mine, wanted in zip(*(network.parameters() for network in networks), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def test_a_layer_is_a_module_and_what_is_frozen_is_none():
    network = small()
    network[0].requires_grad_(False)
    assert [len(layer) for layer in layers(network)] == [2]


def test_the_paper_is_torchs_own():
    config = TrainConfig(recipe="paper", learning_rate=0.05, momentum=0.8, weight_decay=0.01)
    one, other = small(), small()
    ours = optimizer(one, config)
    descend(one, ours, 7, schedule(ours, config, 7))
    descend(other, torch.optim.SGD(other.parameters(), 0.05, 0.8, weight_decay=0.01), 7)
    for mine, wanted in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, wanted)


@pytest.mark.parametrize(("recipe", "rate"), [("adamw", 0.02), ("lars", 0.01), ("paper", 0.1)])
def test_each_recipe_learns_an_easy_target(recipe, rate):
    network, config = small(), TrainConfig(recipe=recipe, learning_rate=rate)
    chosen = optimizer(network, config)
    assert descend(network, chosen, 200, schedule(chosen, config, 200)) < 0.005


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_state_that_was_saved_continues_exactly(recipe):
    config = TrainConfig(recipe=recipe)
    whole = small()
    chosen = optimizer(whole, config)
    planned = schedule(chosen, config, 8)
    descend(whole, chosen, 4, planned)
    saved = copy.deepcopy((whole.state_dict(), chosen.state_dict(), planned.state_dict()))
    descend(whole, chosen, 4, planned)

    half = small()
    again = optimizer(half, config)
    replanned = schedule(again, config, 8)
    for stateful, state in zip((half, again, replanned), saved, strict=True):
        stateful.load_state_dict(state)
    descend(half, again, 4, replanned)
    for mine, wanted in zip(half.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, wanted)


def test_the_rate_rises_and_falls():
    config = TrainConfig(recipe="lars", learning_rate=1.0)
    chosen = optimizer(small(), config)
    planned, rates = schedule(chosen, config, 100), []
    for _ in range(100):
        rates.append(chosen.param_groups[0]["lr"])
        chosen.step()
        planned.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001
