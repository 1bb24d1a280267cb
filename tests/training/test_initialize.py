import pandas as pd
import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import Toy
from torch import nn
from torchvision.models import resnet50

import memviz
from memviz.training import TrainingJob
from memviz.training.initialize import FEATURES, initialize, normalize, start_at


def states(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("score", [0.2, 0.75])
def test_through_a_sigmoid_the_first_scores_are_the_score(score):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1), nn.Sigmoid())
    initialize(network, seed=0)
    start_at(network, score)
    torch.testing.assert_close(network(torch.rand(4, 3, 8, 8)), torch.full((4, 1), score), rtol=0, atol=0.02)


def test_without_a_sigmoid_the_bias_is_the_score():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 1))
    initialize(network, seed=0)
    start_at(network, 0.4)
    assert network[-1].bias.item() == pytest.approx(0.4)


def test_submodules_besides_are_left_unchanged():
    network = Toy()
    before = states(network)
    initialize(network, seed=0, besides=["resnet"])
    start_at(network, 0.75)
    changed = {
        name.partition(".")[0] for name, value in states(network).items() if not torch.equal(value, before[name])
    }
    assert changed == {"alexnet", "head"}


def test_the_seed_decides_and_nothing_else():
    one, same, other = Toy(), Toy(), Toy()
    with undisturbed():
        for network, seed in ((one, 0), (same, 0), (other, 1)):
            initialize(network, seed)
    assert torch.equal(one.alexnet[0].weight, same.alexnet[0].weight)
    assert not torch.equal(one.alexnet[0].weight, other.alexnet[0].weight)


def test_signals_neither_vanish_nor_grow():
    torch.manual_seed(0)
    layers = [layer for _ in range(15) for layer in (nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 64, 1))
    pictures = torch.randn(4, 32, 8, 8)
    plain = network[:-2](pictures).pow(2).mean()
    initialize(network, seed=0)
    assert 0.05 < network[:-2](pictures).pow(2).mean() < 5  # zeros at the border take a little in each layer
    assert plain < 1e-3


def test_a_resnet_in_evaluation_mode_keeps_its_scale():
    network = resnet50(weights=None).eval()
    initialize(network, seed=0)
    with torch.no_grad():
        maps = network.layer4(network.layer3(network.layer2(network.layer1(torch.rand(1, 64, 16, 16)))))
    assert 1e-3 < maps.abs().mean() < 1e3


def test_an_untrained_memnet_says_the_mean_of_lamem(originals):
    model = memviz.load_model("memnet", weights=None)
    initialize(model.module, seed=0)
    start_at(model.module, 0.75)
    scores = model.score([originals["coffee.png"], originals["rocket.jpg"]])["memorability"]
    assert scores.tolist() == pytest.approx([0.75, 0.75], abs=0.05)


def test_inputs_of_another_scale_give_the_same_signals():
    one, other = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)) for _ in range(2))
    initialize(one, seed=0)
    initialize(other, seed=0, scale=255.0)
    pictures = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(one(pictures), other(255 * pictures))


def test_memnet_caffe_starts_at_the_score():
    model = TrainingJob("memnet-caffe", pd.DataFrame()).untrained()
    start_at(model.module, model.score_spec.inverse(0.75))
    pictures = model.inputs.from_tensor(torch.rand(2, 3, 227, 227), resize=False)
    torch.testing.assert_close(model.score_spec(model(pictures)), torch.full((2,), 0.75), rtol=0, atol=0.1)


def deep():
    """Convolutions, hidden layers and a score; dropout, in evaluation mode."""
    convolutions = [nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU()]
    return nn.Sequential(
        *convolutions,
        nn.Flatten(),
        nn.Linear(128, 10),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(10, 20),
        nn.ReLU(),
        nn.Linear(20, 1),
    ).eval()


def test_each_normalized_layer_has_the_mean_0_and_the_variance_1():
    network, pictures = deep(), torch.rand(32, 3, 8, 8)
    initialize(network, seed=0)
    last = network[-1].weight.clone()
    passes = []
    with undisturbed():
        normalize(network, lambda: passes.append(network(pictures)))
    assert len(passes) == 1
    for number, variance, centred in ((0, 1, False), (2, 1, True), (5, 1, True), (8, FEATURES / 20, True)):
        values = network[: number + 1](pictures).detach().movedim(1, -1).flatten(0, -2)
        torch.testing.assert_close(values.var(0, correction=0), torch.full((values.shape[1],), float(variance)))
        assert (float(values.mean(0).abs().max()) < 1e-4) == centred  # the first has no bias
    assert torch.equal(network[-1].weight, last)
    torch.testing.assert_close(network(pictures), passes[0])  # what the pass gave is what the network gives


def test_a_channel_that_is_the_same_everywhere_stays():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 1))
    initialize(network, seed=0)
    with torch.no_grad():
        network[0].weight[1] = 0
        network[0].bias[1] = 0.3
    normalize(network, lambda: network(torch.rand(8, 3, 4, 4)))
    assert network[0].weight[1].flatten().tolist() == [0, 0, 0]
    assert float(network[0].bias[1].detach()) == pytest.approx(0.3)


def test_normalizing_leaves_other_submodules_and_no_hooks():
    network, pictures = Toy().eval(), torch.rand(4, 3, 16, 16)
    before = states(network)
    normalize(network, lambda: network(pictures), besides=["resnet"])
    changed = {name for name, value in states(network).items() if not torch.equal(value, before[name])}
    assert changed == {"alexnet.0.weight", "alexnet.0.bias"}  # the head is the score's layer

    def fail():
        raise MemoryError

    with unchanged(network), pytest.raises(MemoryError):
        normalize(network, fail)
