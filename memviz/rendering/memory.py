"""How much memory there is, and how much pictures take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def bytes_kept(forward: Callable[[Tensor], Any], inputs: Tensor, network: nn.Module) -> int:
    """Bytes that autograd keeps of a pass of `inputs`, without the weights of the network."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        # The tensor itself would make a cycle through the graph, which is never freed.
        return tensor.detach()

    weights = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(inputs)
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def free_memory(device: torch.device) -> float:
    """Bytes that a batch may take: half of what is free."""
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    available: Any = 0
    with contextlib.suppress(ValueError, OSError, AttributeError):
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0.5 * (available if available > 0 else 4 * 2**30)
