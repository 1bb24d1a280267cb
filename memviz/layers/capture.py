"""Activations of named layers, through hooks that are gone afterwards.

The activation of a unit is the output of its module as the module computed it: signed for a
convolution, and never a tensor that a later in-place operation has overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memviz.errors import LayerError, ModelError, did_you_mean

NO_TENSOR = (
    "The layer {!r} has no activation: it does not run in a forward pass, or does not return a single tensor. "
    "Choose one of its submodules."
)


def submodule(module: nn.Module, address: str) -> nn.Module:
    """The module at a dotted address; an unknown one is a `LayerError` that lists the close names."""
    try:
        return module.get_submodule(address)
    except AttributeError:
        names = (name for name, _ in module.named_modules() if name)
        raise LayerError(f"There is no layer {address!r}. {did_you_mean(address, names)}") from None


def check_uncompiled(module: nn.Module) -> None:
    """Raises a `ModelError` for a network with modules that `torch.jit` made: they take no hooks."""
    for address, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            where = f"module {address!r} of the network" if address else "network"
            raise ModelError(
                f"The {where} was compiled by torch.jit, so its activations cannot be read. Give the torch.nn.Module "
                "from which it was made."
            )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is back in its previous mode.

    >>> module = nn.Sequential(nn.Dropout())
    >>> with evaluating(module):
    ...     module.training
    False
    >>> module.training
    True
    """
    before = [(child, child.training) for child in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for child, training in before:
            child.training = training


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Runs the block without the caller's inference mode, in which there are no gradients, and autocast."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def observe(module: nn.Module, callbacks: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Calls a function with a layer's output as soon as it is computed.

    The tensor is the network's own: reduce or copy it at once, a later in-place operation may
    overwrite it. For a module that runs more than once, the function is called each time.

    Args:
        module: any module; it keeps no hook afterwards, also after an exception.
        callbacks: dotted address to function; "" is the module itself.

    Raises:
        LayerError: an address that the module does not have.
        ModelError: the module, or a part of it, was compiled by `torch.jit`.

    Example:
        >>> shapes = []
        >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        >>> with observe(module, {"0": lambda maps: shapes.append(maps.shape)}):
        ...     _ = module(torch.zeros(1, 3, 8, 8))
        >>> shapes
        [torch.Size([1, 8, 6, 6])]
    """

    def hook(callback: Callable[[Tensor], None]) -> Callable[..., None]:
        def call(module: nn.Module, inputs: Any, output: Any) -> None:
            callback(output)

        return call

    check_uncompiled(module)
    modules = {address: submodule(module, address) for address in callbacks}
    handles = []
    try:
        for address, callback in callbacks.items():
            handles.append(modules[address].register_forward_hook(hook(callback)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture(module: nn.Module, addresses: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Records the outputs of layers while the module runs inside the block.

    Args:
        module: any module; it keeps no hook afterwards, also after an exception.
        addresses: dotted addresses.

    Yields:
        Address to activation, (N, C, H, W) or (N, C), filled by each forward pass, attached to the
        autograd graph; the last one of a module that runs more than once.

    Raises:
        LayerError: an address that the module does not have, or, in the block, that gives no single tensor.
        ModelError: the module, or a part of it, was compiled by `torch.jit`.

    Example:
        >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        >>> with capture(module, ["0"]) as activations:
        ...     _ = module(torch.zeros(1, 3, 8, 8))
        >>> activations["0"].shape
        torch.Size([1, 8, 6, 6])
    """
    activations: dict[str, Tensor] = {}

    def keep(address: str) -> Callable[[Tensor], None]:
        def store(output: Tensor) -> None:
            if not isinstance(output, Tensor):
                raise LayerError(NO_TENSOR.format(address))
            activations[address] = output.clone()

        return store

    with observe(module, {address: keep(address) for address in addresses}):
        yield activations
