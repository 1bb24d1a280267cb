"""Networks in which modules are replaced."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from memviz.errors import LayerError
from memviz.layers.capture import submodule
from memviz.layers.private import private_copy


def replaced(network: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """A private copy of a network in which some modules are replaced.

    Neither the network nor the replacements are changed; the copy is in evaluation mode, frozen, and shares the memory
    of their weights. A replacement may contain the module that it replaces: to alter a layer's output, put
    `nn.Sequential(layer, alteration)` in its place.

    Args:
        network: any module, a traced one (`torch.fx.GraphModule`) included.
        replacements: dotted address to module. A module with several addresses is replaced at all of them.

    Raises:
        LayerError: an address that the network does not have, the network itself (""), an address inside another, or
            different replacements for one module.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> replaced(network, {"1": nn.Sequential(network[1], nn.Dropout())})
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): Sequential(
            (0): ReLU()
            (1): Dropout(p=0.5, inplace=False)
          )
        )
    """
    # Copied together, so that what a replacement shares with the network stays shared.
    edited, *copies = private_copy(nn.ModuleList([network, *replacements.values()]))
    replace_modules(edited, dict(zip(replacements, copies, strict=True)))
    return edited


def replace_modules(network: nn.Module, replacements: Mapping[str, nn.Module]) -> None:
    """Like `replaced`, but in place and with the given modules themselves: for a private network."""
    new: dict[int, nn.Module] = {}
    for address, module in replacements.items():
        old = submodule(network, address)
        if old is network:
            raise LayerError("The network itself ('') cannot be replaced, only a layer in it.")
        if new.setdefault(id(old), module) is not module:
            raise LayerError(f"The layer {address!r} has several addresses: give one replacement for all of them.")
    for address in replacements:
        inside = [other for other in replacements if other.startswith(f"{address}.")]
        if inside:
            raise LayerError(f"{inside[0]!r} lies inside {address!r}: replace one of them.")
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
