"""Twins with random weights."""

import pytest
import torch
from helpers import unchanged, undisturbed, write_noise
from tiny import built
from torch import nn

import memviz
from memviz.errors import ModelError
from memviz.explanation.twin import random_twin
from memviz.images import list_images, open_image
from memviz.models import InputSpec

INPUTS = InputSpec(size=(12, 12), resize=12)


@pytest.fixture
def paths(tmp_path):
    return list_images(write_noise(tmp_path / "photos", 10, 14))


@pytest.fixture
def model():
    return memviz.wrap(built("Branches"), INPUTS, branches=("left", "right"))


def test_all_weights_are_drawn_anew_and_the_model_stays(model, paths):
    with unchanged(model.module), undisturbed():
        twin = random_twin(model, paths, seed=3)  # the toy itself was drawn with 0
    own, other = dict(model.module.named_parameters()), dict(twin.module.named_parameters())
    assert own.keys() == other.keys()
    norms = [name for name in own if ".bn" in name]
    assert not [name for name in own if name not in norms and torch.equal(own[name], other[name])]
    assert all(set(other[name].unique().tolist()) == {float(name.endswith("weight"))} for name in norms)
    assert twin.branches == model.branches
    assert not twin.module.training
    # As torch starts it: uniform below 1 / sqrt(fan-in).
    assert other["left.0.weight"].abs().max() <= (1 / 27) ** 0.5
    again, another = (random_twin(model, paths, seed) for seed in (3, 1))
    assert again.fingerprint() == twin.fingerprint() != another.fingerprint()


def test_batch_norms_know_the_twins_own_activations(model, paths):
    network = random_twin(model, paths).module
    batch = torch.stack([INPUTS.from_pil(open_image(path)) for path in paths])
    block = network.right[1]
    with torch.no_grad():
        maps = block.conv1(network.right[0](batch))
    torch.testing.assert_close(block.bn1.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(block.bn1.running_var, maps.var((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert block.bn1.momentum == model.module.right[1].bn1.momentum
    assert not block.bn1.training


def test_a_module_without_a_known_start(paths):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, pictures):
            return pictures * self.by

    with pytest.raises(ModelError, match="0 has parameters and no reset_parameters"):
        random_twin(memviz.wrap(nn.Sequential(Scale(), nn.Conv2d(3, 4, 3)), INPUTS), paths)
