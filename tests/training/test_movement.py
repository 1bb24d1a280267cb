import warnings

import pytest
import torch
from torch import nn

from memviz.training.movement import movement, trained_weights, warn_still


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1))


def test_the_share_of_the_norm_by_address():
    trained = network()
    start = trained_weights(trained)
    trained[0].weight.data *= 1.25
    trained[4].bias.data += 1  # the score's mean is no feature
    moved = movement(trained, start)
    assert moved == {"0": pytest.approx(0.25), "4": 0.0}


def test_what_is_frozen_is_left_out():
    trained = network()
    trained[0].requires_grad_(False)
    assert list(trained_weights(trained)) == ["4"]


def test_a_layer_that_began_at_zero():
    trained = network()
    nn.init.zeros_(trained[4].weight)
    start = trained_weights(trained)
    trained[4].weight.data += 0.1
    assert movement(trained, start)["4"] == 1


@pytest.mark.parametrize(("farthest", "warned"), [(0.004, True), (0.04, False)])
def test_a_branch_that_did_not_move(farthest, warned):
    moved = {"alexnet.conv1": 0.002, "alexnet.conv2": farthest, "alexnet2.conv1": 0.5, "head.fc8": 3.0}
    if warned:
        with pytest.warns(UserWarning, match=r"branch alexnet has hardly moved.*by less than 0\.30%") as seen:
            warn_still(moved, ["alexnet", "alexnet2", "resnet"])
        assert len(seen) == 1
        assert seen[0].filename == __file__
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_still(moved, ["alexnet", "alexnet2", "resnet"])
