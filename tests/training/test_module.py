import math

import pytest
import torch
from helpers import undisturbed
from scipy.stats import spearmanr
from tiny import Toy
from torch import nn

from memviz.models import InputSpec
from memviz.models.score_spec import IDENTITY, ScoreSpec
from memviz.training import TrainConfig
from memviz.training.features import network_input
from memviz.training.module import CachedOutput, Examples, Regression, without
from memviz.training.optimizers import optimizer as make_optimizer

# torchmetrics' note on memory, which `train` suppresses.
pytestmark = pytest.mark.filterwarnings("ignore:Metric `SpearmanCorrcoef`")

INPUTS = InputSpec(size=(16, 16), mean=(0.4, 0.5, 0.6), channels="bgr")
NO_FLIP = TrainConfig(recipe="paper", flip=False, learning_rate=0.1, momentum=0.9, weight_decay=0.01)


def examples(count=6, seed=0, frozen=None):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Examples(pixels, torch.rand(count, generator=generator), frozen or {})


def regression(network=None, frozen=("resnet",), config=NO_FLIP, outputs=IDENTITY, inputs=INPUTS):
    module = Regression((network or Toy()).eval(), inputs, outputs, frozen, config)
    module.log = module.log_dict = lambda *args, **kwargs: None
    return module


def step(module, optimizer, batch, number=0):
    optimizer.zero_grad()
    loss = module.training_step(batch, number)
    loss.backward()
    optimizer.step()
    return loss


def test_all_but_frozen_submodules_are_in_training_mode():
    """Also where the network was loaded, in evaluation mode, and after a validation."""
    for module in (regression(), regression().eval().train()):
        assert {name for name, submodule in module.network.named_modules() if not submodule.training} == {
            "resnet", "resnet.0", "resnet.1",
        }  # fmt: skip
    assert all(submodule.training for submodule in regression(frozen=()).modules())


def test_dropout_drops():
    class Dropping(Toy):
        def forward(self, pictures):
            return nn.functional.dropout(super().forward(pictures), training=self.head.training)

    module = regression(Dropping())
    assert (module(examples(50)) == 0).any()
    assert (module.eval()(examples(50)) != 0).all()


@pytest.mark.parametrize("frozen", [("resnet",), ()])
def test_frozen_weights_and_statistics_do_not_move(frozen):
    module = regression(frozen=frozen)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    optimizer = make_optimizer(module.network, module.config)
    for number in range(3):
        step(module, optimizer, examples(seed=number))
        module.eval()
        module.validation_step(examples(seed=9), 0)
        module.train()
    for name, value in module.network.state_dict().items():
        stays = frozen and name.startswith("resnet.")
        assert torch.equal(value, before[name]) == bool(stays), name


@pytest.mark.parametrize("frozen", [("resnet",), ()])
def test_steps_are_those_of_plain_torch(frozen):
    """Two steps, so that momentum counts, on a network that is written out."""
    network, plain = Toy(), Toy()
    plain.load_state_dict(network.state_dict())
    module = regression(network, frozen)
    optimizer = make_optimizer(module.network, module.config)
    plain.train()
    if frozen:
        plain.resnet.eval().requires_grad_(False)
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    wanted = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.01)
    for number in range(2):
        batch = examples(seed=number)
        loss = step(module, optimizer, batch)
        pictures = batch.pixels.flip(1) / 255 - torch.tensor([0.4, 0.5, 0.6])[:, None, None]
        error = ((plain(pictures)[:, 0] - batch.scores) ** 2).mean()
        wanted.zero_grad()
        error.backward()
        wanted.step()
        torch.testing.assert_close(loss, error)
    torch.testing.assert_close(network.state_dict(), plain.state_dict())


def test_cached_outputs_of_frozen_submodules_give_the_same_gradients():
    network, other = Toy(), Toy()
    other.load_state_dict(network.state_dict())
    config = TrainConfig(flip=True)
    whole = regression(network, config=config)
    batch = examples(20)
    submodules = without(other, ["resnet"])
    assert isinstance(other.resnet, CachedOutput)
    pictures = network_input(INPUTS, batch.pixels)
    with torch.no_grad():
        resnet = submodules["resnet"].eval()
        both = torch.stack([resnet(pictures), resnet(pictures.flip(-1))], dim=1)
    losses = []
    for module, given in ((whole, batch), (regression(other, (), config), batch._replace(frozen={"resnet": both}))):
        torch.manual_seed(3)  # of the flips
        losses.append(module.training_step(given, 0))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    gradients = {name: value.grad for name, value in other.named_parameters()}
    torch.testing.assert_close({name: network.get_parameter(name).grad for name in gradients}, gradients)


def test_the_gradients_of_branches_are_scaled_and_nothing_else():
    """A hundred times those of an unscaled network, in each branch; the head's, the scores and hooks are the same."""
    network, other = Toy(), Toy()
    other.load_state_dict(network.state_dict())
    gradients, losses = [], []
    for each, scale in ((network, 1.0), (other, 100.0)):
        config = TrainConfig(recipe="paper", branch_gradient_scale=scale)
        module = regression(each, frozen=(), config=config)
        torch.manual_seed(3)  # of the flips
        losses.append(module.training_step(examples(), 0))
        losses[-1].backward()
        module.on_before_optimizer_step(make_optimizer(each, config))
        gradients.append({name: value.grad for name, value in each.named_parameters()})
        assert not any(submodule._forward_hooks or submodule._backward_hooks for submodule in each.modules())
    assert torch.equal(*losses)
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        assert torch.equal(gradients[1][name], gradient * (1 if name.startswith("head") else 100)), name


@pytest.mark.parametrize("cached", [True, False])
def test_scaling_leaves_frozen_branches_without_gradients(cached):
    network = Toy()
    if cached:
        without(network, ["resnet"])
    module = regression(
        network, () if cached else ("resnet",), TrainConfig(recipe="paper", branch_gradient_scale=100.0)
    )
    batch = examples(frozen={"resnet": torch.rand(6, 2, 4, 4, 4)} if cached else {})
    module.training_step(batch, 0).backward()
    before = {name: value.grad.clone() for name, value in network.named_parameters() if value.requires_grad}
    module.on_before_optimizer_step(make_optimizer(network, module.config))
    assert set(before) == {"alexnet.0.weight", "alexnet.0.bias", "head.weight", "head.bias"}
    for name, gradient in before.items():
        assert torch.equal(network.get_parameter(name).grad, gradient * (100 if "alexnet" in name else 1))


def test_half_of_the_photographs_are_mirrored():
    class Left(nn.Module):
        """How bright the left half is."""

        branches = ()

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, pictures):
            return pictures[..., :8].mean((1, 2, 3)) * self.weight

    pixels = torch.zeros(2000, 3, 16, 16, dtype=torch.uint8)
    pixels[..., :8] = 255
    batch = Examples(pixels, torch.ones(2000), {})
    inputs = InputSpec(size=(16, 16))
    for flip, share in ((True, 0.5), (False, 0.0)):
        module = regression(Left(), (), TrainConfig(flip=flip), inputs=inputs)
        # The loss is 1 for a mirrored photograph, whose left half is black.
        assert module.training_step(batch, 0).item() == pytest.approx(share, abs=0.05)
        assert torch.equal(module(batch), torch.ones(2000))


def test_each_step_draws_anew_and_again_the_same(monkeypatch):
    module = regression(config=TrainConfig(seed=3))
    draws = {}
    for seen in range(2):
        for number in range(4):
            monkeypatch.setattr(Regression, "global_step", number)
            monkeypatch.setattr(Regression, "global_rank", 0)
            module.on_train_batch_start(examples(), number)
            drawn = torch.rand(4)
            assert seen == 0 or torch.equal(draws[number], drawn)
            draws[number] = drawn
    assert len({tuple(drawn.tolist()) for drawn in draws.values()}) == 4


def test_scores_are_scaled_and_keep_a_gradient_beyond_the_limits():
    outputs = ScoreSpec(mean=0.5, scale=2.0, shift=3.0, clip=(0.0, 1.0))
    network = Toy()
    module = regression(network, outputs=outputs)
    batch = examples()
    scores = module(batch)
    out = network(network_input(INPUTS, batch.pixels))[:, 0]
    torch.testing.assert_close(scores, (out - 0.5) * 2 + 3)
    assert scores.min() > 1
    module.training_step(batch, 0).backward()
    assert network.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("ties", [False, True])
def test_validation_correlation_is_that_of_scipy(ties):
    module = regression().eval()
    batches = [examples(count, seed=count) for count in (7, 5, 2)]
    if ties:
        batches = [batch._replace(scores=(batch.scores * 3).round() / 3) for batch in batches]
    with undisturbed(), torch.no_grad():
        for number, batch in enumerate(batches):
            module.validation_step(batch, number)
        predictions = torch.cat([module(batch) for batch in batches])
    scores = torch.cat([batch.scores for batch in batches])
    assert module.val_spearman.compute().item() == pytest.approx(spearmanr(predictions, scores).statistic, abs=1e-5)
    assert module.val_mse.compute().item() == pytest.approx(((predictions - scores) ** 2).mean().item(), rel=1e-5)


def test_a_checkpoint_keeps_the_history():
    module, checkpoint = regression(), {}
    module.history = [{"epoch": 1, "val_spearman": math.nan}]
    module.on_save_checkpoint(checkpoint)
    other = regression()
    other.on_load_checkpoint(checkpoint)
    assert other.history == module.history
