"""The memory layout in which a network runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """Runs a private network in the `torch.channels_last` layout, or contiguously where it does not run in that one.

    Convolutions on the CPU run several times faster on channels_last maps. But a network that flattens them with
    `view(n, -1)` raises a RuntimeError, since their values do not lie in that order. Whether it does is found by
    running it: from its first such error on, a network that runs contiguously does so.

    Args:
        network: from pictures (N, 3, H, W) to anything; its weights are laid out anew, in place.

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
            # It was not the layout that the network objected to.
            self._lay_out(torch.channels_last)
            raise
        self._layout = torch.contiguous_format
        return out

    def _lay_out(self, layout: torch.memory_format) -> None:
        with torch.inference_mode(False):
            self.network.to(memory_format=layout)
