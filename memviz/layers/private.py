"""A copy of a network that is ours to alter, sharing the memory of the caller's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import fx, nn

Network = TypeVar("Network", bound=nn.Module)


def private_copy(module: Network) -> Network:
    """An evaluation-mode, frozen, hook-free copy whose weights share the caller's memory.

    Only what is changed on the copy takes memory of its own.

    Args:
        module: any module; it stays as it is.

    Example:
        >>> module = nn.Linear(2, 2)
        >>> copied = private_copy(module)
        >>> copied.weight.data_ptr() == module.weight.data_ptr(), copied.weight.requires_grad
        (True, False)
    """
    shared: dict[int, object] = {}
    for parameter in module.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in module.buffers():
        shared[id(buffer)] = buffer.detach()
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    for part in module.modules():
        for name in hooks:
            # A caller's hook may hold anything, which deepcopy would try to copy.
            shared[id(getattr(part, name))] = type(getattr(part, name))()
    copied = copy.deepcopy(module, shared).eval()
    free_without_collection(copied)
    return copied


def free_without_collection(network: nn.Module) -> None:
    """Lets a network's memory be freed when its last user is gone, and not only when Python collects garbage.

    A traced module (`torch.fx.GraphModule`) and its graph refer to each other; the graph does not need that.
    """
    for part in network.modules():
        if isinstance(part, fx.GraphModule):
            part.graph.owning_module = None
