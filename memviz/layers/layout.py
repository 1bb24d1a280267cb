"""The memory layout in which a network runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """Runs a private network in the `torch.channels_last` layout, or contiguously if it fails in that layout.

    Convolutions on the CPU run several times faster on channels_last maps, but a network that flattens maps with
    `view(n, -1)` raises a RuntimeError on them. This is found by trying: after a RuntimeError the pass is repeated
    with contiguous inputs and weights, and if that succeeds, all later passes run so.

    Args:
        network: from pictures (N, 3, H, W) to anything; the layout of its weights is changed in place.

    Example:
        >>> class Flattening(nn.Module):
        ...     def forward(self, pictures):
        ...         return pictures.view(len(pictures), -1)
        >>> ChannelsLast(Flattening())(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 48])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._layout = torch.channels_last
        self._lay_out(self._layout)

    def forward(self, pictures: Tensor) -> object:
        """What the network gives for pictures (N, 3, H, W) in any layout."""
        try:
            return self.network(pictures.contiguous(memory_format=self._layout))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if self._layout == torch.contiguous_format:
                raise
        self._lay_out(torch.contiguous_format)
        try:
            out: object = self.network(pictures.contiguous())
        except BaseException:
            # The layout was not the cause.
            self._lay_out(torch.channels_last)
            raise
        self._layout = torch.contiguous_format
        return out

    def _lay_out(self, layout: torch.memory_format) -> None:
        with torch.inference_mode(False):
            self.network.to(memory_format=layout)
