"""The checks are themselves checked: a change that they miss would go unseen everywhere."""

from types import SimpleNamespace

import pytest
import torch
from helpers import freed_at_once, unchanged, undisturbed
from torch import nn

CHANGES = {
    "value": lambda m: m[0].weight.data.add_(1),
    "buffer": lambda m: m[1].running_mean.data.add_(1),
    "frozen": lambda m: m.requires_grad_(False),
    "replaced": lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight.detach())),
    "layout": lambda m: m.to(memory_format=torch.channels_last),
    "mode": lambda m: m[1].eval(),
    "hook": lambda m: m[0].register_forward_hook(print),
    "pre-hook": lambda m: m.register_forward_pre_hook(print),
    "gradient": lambda m: m(torch.ones(1, 3, 4, 4)).sum().backward(),
    "attribute": lambda m: setattr(m[0], "note", 1),
    "part": lambda m: m.append(nn.ReLU()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_unchanged_sees(change):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(AssertionError, match="changed"), unchanged(module):
        change(module)


def test_unchanged_sees_what_an_exception_left_behind():
    module = nn.Sequential(nn.Dropout())
    with pytest.raises(AssertionError, match="changed"), unchanged(module):
        raise KeyError(module.eval())


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (lambda: torch.rand(1), lambda: None),
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    ],
    ids=["random", "dtype", "device", "grad mode"],
)
def test_undisturbed_sees(change, undo):
    try:
        with pytest.raises(AssertionError, match="changed"), undisturbed():
            change()
    finally:
        undo()


def test_freed_at_once_sees_a_cycle():
    def in_a_cycle():
        module = nn.Linear(2, 2)
        object.__setattr__(module, "itself", module)
        return module

    owner = SimpleNamespace(free=lambda: nn.Linear(2, 2), cycle=in_a_cycle)
    with freed_at_once(owner, "free"):
        owner.free()
    with pytest.raises(AssertionError, match="are alive"), freed_at_once(owner, "cycle"):
        owner.cycle()
