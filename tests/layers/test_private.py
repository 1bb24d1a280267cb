import threading
import warnings
from functools import partial

import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import NETWORKS, built, pictures
from torch import nn

from memviz.errors import ModelError
from memviz.layers import fold_batch_norms, private_copy, replace_response_norms, truncate


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module)


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
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr(), "a forward pass may update it"


def test_backward_and_saving_hooks_are_left_out_even_if_they_cannot_be_copied():
    network, calls = built("Branches"), []
    uncopyable = (each for each in ())

    def hook(*_):
        calls.append(uncopyable)

    network.left[2].register_full_backward_hook(hook)
    network.head.register_full_backward_pre_hook(hook)
    network.head.register_state_dict_post_hook(hook)
    network.head.register_state_dict_pre_hook(hook)
    network.head.register_load_state_dict_pre_hook(hook)
    network.head.register_load_state_dict_post_hook(hook)
    with unchanged(network):
        copied = private_copy(network)
        copied(pictures().requires_grad_()).sum().backward()
        copied.state_dict()
    assert calls == []
    network(pictures().requires_grad_()).sum().backward()
    assert len(calls) == 2


class Scaled(nn.Module):
    """Its hooks are its own methods."""

    def __init__(self, by):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.by = by
        self.register_buffer("runs", torch.zeros(()))
        self.conv.register_forward_hook(self.scale)

    def scale(self, module, inputs, output):
        self.runs += 1
        return output * self.by

    def forward(self, pictures):
        return self.conv(pictures)


class Object:
    def __init__(self, module):
        self.module, self.factor = module, torch.tensor(3.0, requires_grad=True) * 2

    def __call__(self, module, inputs, output):
        return output * self.factor.item() + self.module.weight.sum()


def with_hook(kind):
    """A network with a hook that computes, and its output, which differs from the one without."""
    torch.manual_seed(0)
    network = Scaled(2.0) if kind == "bound method" else nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Identity())
    conv = network.conv if kind == "bound method" else network[0]
    factor, offset, computed = torch.tensor(3.0), torch.tensor(2.0, requires_grad=True), nn.Linear(1, 1).weight.sum()

    def fade(module, inputs, output, times=3):
        nonlocal factor
        factor = factor / 2  # the caller's hook must not see it
        return output * factor if times == 0 else fade(module, inputs, output, times - 1)

    if kind == "lambda":
        conv.register_forward_hook(lambda module, inputs, output: output * 2)
    elif kind == "closure":
        conv.register_forward_hook(fade)
    elif kind == "closure over the network":
        conv.register_forward_hook(lambda module, inputs, output: output * network[0].weight.sum() + offset + computed)
    elif kind == "changes its module":
        conv.register_forward_hook(lambda module, inputs, output: conv.weight.data.mul_(2).sum() + output)
    elif kind == "default":
        conv.register_forward_hook(lambda module, inputs, output, conv=conv: output * conv.weight.data.mul_(2).sum())
    elif kind == "partial":
        conv.register_forward_hook(partial(lambda by, conv, *run: run[2] + by * conv.bias.data.mul_(2).sum(), 3, conv))
    elif kind == "object":
        conv.register_forward_hook(Object(conv))
    elif kind == "pre-hook":
        conv.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    elif kind == "with kwargs":
        conv.register_forward_pre_hook(lambda module, args, kwargs: ((), {"input": args[0] * 2}), with_kwargs=True)
        conv.register_forward_hook(lambda module, args, kwargs, out: out + kwargs["input"].mean(), with_kwargs=True)
    elif kind == "always called":
        conv.register_forward_hook(lambda module, inputs, output: output + 1, always_call=True)
    elif kind == "of the network":
        network.register_forward_pre_hook(lambda module, inputs: (inputs[0] - 1,))
        network.register_forward_hook(lambda module, inputs, output: output.flip(1))
    elif kind == "two that share":
        conv.register_forward_hook(fade)
        network.register_forward_hook(lambda module, inputs, output: output * factor)
    elif kind == "import inside":
        from torch.nn import functional

        conv.register_forward_hook(lambda module, inputs, output: functional.relu(output))
    elif kind == "no_grad":
        conv.register_forward_hook(torch.no_grad()(lambda module, inputs, output: output * 2))
    return network


HOOKS = [
    "lambda", "closure", "closure over the network", "changes its module", "default", "partial", "object", "pre-hook",
    "with kwargs", "always called", "of the network", "two that share", "import inside", "no_grad", "bound method",
]  # fmt: skip


@pytest.mark.parametrize("kind", HOOKS)
@torch.no_grad()
def test_hooks_that_compute_are_copied_and_act_on_the_copy(kind):
    network, same = with_hook(kind), with_hook(kind)
    expected = [same(pictures()) for _ in range(2)]
    with unchanged(network):
        copied = private_copy(network)
        given = [copied(pictures()) for _ in range(2)]
    torch.testing.assert_close(given, expected)
    torch.testing.assert_close([network(pictures()) for _ in range(2)], expected)  # the hook's own state is the old one
    convolution = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    assert not torch.allclose(given[0].flatten(), nn.Conv2d.forward(convolution, pictures()).flatten())


@pytest.mark.parametrize("kind", HOOKS)
@torch.no_grad()
def test_truncated_networks_compute_with_hooks(kind):
    network, same = with_hook(kind), with_hook(kind)
    with unchanged(network):
        truncated = truncate(private_copy(network), [""])
    torch.testing.assert_close(truncated(pictures())[""], same(pictures()))


def test_what_a_hook_records_of_the_copy_is_not_the_callers():
    network, seen = nn.Sequential(nn.Conv2d(3, 4, 3)), []
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    private_copy(network)(pictures())
    assert seen == []


def test_hooks_that_cannot_be_copied_are_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    generator = (each for each in ())
    handle = network[0].register_forward_hook(lambda module, inputs, output: output * len(list(generator)))
    with unchanged(network), pytest.raises(ModelError, match=r"hook <function .* of the module '0'.*Remove the hook"):
        private_copy(network)
    handle.remove()
    network[0].lock = threading.Lock()
    with pytest.raises(ModelError, match=r"Sequential cannot be copied.*lock"):
        private_copy(network)


GLOBAL = nn.Sequential(nn.Conv2d(3, 4, 3))


def test_a_hook_that_reaches_the_network_by_a_global_name_is_refused():
    handle = GLOBAL[0].register_forward_hook(lambda module, inputs, output: next(GLOBAL for _ in "1")[0].weight.sum())
    with pytest.raises(ModelError, match="global name 'GLOBAL'"):
        private_copy(GLOBAL)
    handle.remove()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalize", [nn.utils.spectral_norm, old_weight_norm], ids=["spectral", "weight"])
def test_old_normalizations_of_weights(normalize, training):
    network = nn.Sequential(normalize(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.ReLU())
    network.train()(pictures())  # stores a result of the forward pass on the module
    network.train(training)
    with unchanged(network):
        copied = private_copy(network)
        given = copied(pictures())
        folded = truncate(copied, ["1"])
        fold_batch_norms(folded)
    torch.testing.assert_close(given, network.eval()(pictures()))
    torch.testing.assert_close(folded(pictures())["1"].relu(), given)


def test_a_response_norm_with_a_hook_stays():
    network = nn.Sequential(nn.LocalResponseNorm(3))
    network[0].register_forward_hook(lambda module, inputs, output: output * 2)
    copied = private_copy(network)
    replace_response_norms(copied)
    torch.testing.assert_close(copied(pictures()), network(pictures()))


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
