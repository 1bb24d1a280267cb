"""What any room's tests can use: checks of what a call must leave as it was, and files to work on."""

import gc
import logging
import os
import random
import shutil
import signal
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2  # noqa: F401  sets an environment variable when first imported, as do sklearn and torch._dynamo
import numpy as np
import pytest
import scipy.sparse  # scipy adds warning filters when it is first imported, which may be within a block
import scipy.special  # noqa: F401
import sklearn  # noqa: F401
import torch
import torch._dynamo
from PIL import Image
from torch import nn

LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning_utilities", "torchmetrics")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For conftests: tiny tensors gain nothing from a second thread, and lose much where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def unchanged(*modules: nn.Module) -> Iterator[None]:
    """Fails if the block changed parameters, buffers, gradients, training flags, hooks or attributes.

    Also checked when the block raises; to expect an exception write `with unchanged(m), pytest.raises(...)`.
    """
    before = [_snapshot(module) for module in modules]
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            new = _snapshot(module)
            differing = [key for key in old | new if key not in old or key not in new or not _same(old[key], new[key])]
            assert not differing, f"changed: {differing[:5]}"


def _snapshot(module):
    state = {}
    for address, part in module.named_modules():
        state[address, "attributes"] = sorted(vars(part))
        state[address, "training"] = part.training
        state |= {(address, name): str(hooks) for name, hooks in vars(part).items() if "hook" in name and hooks}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        state[name, "value"] = tensor.detach().clone()
        state[name, "grad"] = None if tensor.grad is None else tensor.grad.clone()
        state[name, "kind"] = (
            id(tensor), tensor.data_ptr(), tensor._version, tensor.stride(), tensor.requires_grad, tensor.dtype,
        )  # fmt: skip
    return state


def _same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


@contextmanager
def undisturbed() -> Iterator[None]:
    """Fails if the block changed a global: random states, defaults, grad mode, threads, hooks, signals."""
    before = _globals()
    try:
        yield
    finally:
        after = _globals()
        changed = [name for name in before if before[name] != after[name] and before[name] is not None]
        assert not changed, f"changed: {changed}"


@contextmanager
def freed_at_once(owner, name: str) -> Iterator[None]:
    """Fails if a module or weight that `owner.name(...)` returned in the block outlives it, without collection."""
    made, function = [], getattr(owner, name)

    def remember(*args, **kwargs):
        out = function(*args, **kwargs)
        made.extend(map(weakref.ref, [*out.modules(), *out.parameters()]))
        return out

    collecting = gc.isenabled()
    gc.disable()
    setattr(owner, name, remember)
    try:
        yield
        assert made
        alive = [type(reference()).__name__ for reference in made if reference() is not None]
        assert not alive, f"{len(alive)} of {len(made)} are alive: {alive[:5]}"
    finally:
        setattr(owner, name, function)
        if collecting:
            gc.enable()


def _globals():
    numpy = np.random.get_state()
    return {
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": (numpy[1].tolist(), *numpy[2:]),
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "module call": nn.Module.__call__,
        "logging levels": {name: logging.getLogger(name).level for name in ("", *LIGHTNING)},
        "warning filters": list(warnings.filters),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        # Of the test that is running.
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "matplotlib": dict(sys.modules["matplotlib"].rcParams) if "matplotlib" in sys.modules else None,
        "working directory": os.getcwd(),
        "global hooks": list(torch.nn.modules.module._global_forward_hooks),
    }


def misnamed(folder, source):
    """A copy of `source` in `folder` named café.png in Latin-1; skips where a file system has none such."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    try:
        shutil.copy(source, path)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    return path


def write_noise(folder, count: int, side: int):
    """Makes a folder of pictures of side x side px, in which each pixel has a colour of its own."""
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    for number in range(count):
        pixels = torch.randint(0, 256, (side, side, 3), generator=random, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return folder
