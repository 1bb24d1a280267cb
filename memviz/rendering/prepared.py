"""A model's network up to some layers, made quick, on a private copy."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from memviz.layers import ChannelsLast, quickened
from memviz.layers.torus import on_torus
from memviz.models import Model


class Prepared:
    """Activations of pictures, as they are or as if repeated without end.

    Args:
        model: whose preprocessing and types count.
        network: private, of `memviz.layers.truncate`; it is changed in place.
        size: (height, width) of the pictures that will be asked for without end.
        mixed_precision: as `RenderConfig` has it.
    """

    def __init__(self, model: Model, network: nn.Module, size: tuple[int, int], mixed_precision: bool) -> None:
        self._model, self._device, self._mixed_precision = model, model.device, mixed_precision
        self.plain = quickened(network)
        torus = on_torus(network) if isinstance(network, torch.fx.GraphModule) else None
        self._torus = None if torus is None else ChannelsLast(torus)
        if self._torus is not None:
            try:
                with torch.no_grad():
                    self._run(torch.full((1, 3, *size), 0.5, device=self._device), self._torus)
            except RuntimeError:
                self._torus = None

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """By address, the activations of pictures (N, 3, H, W) in [0, 1]."""
        return self._run(pictures, self.plain)

    @property
    def closes(self) -> bool:
        """Whether `endless` works, at the pictures' size."""
        return self._torus is not None

    def endless(self, tiles: Tensor) -> dict[str, Tensor]:
        """The same of tiles as if repeated without end (`memviz.layers.torus`)."""
        assert self._torus is not None
        return self._run(tiles, self._torus)

    def _run(self, pictures: Tensor, network: nn.Module) -> dict[str, Tensor]:
        inputs = self._model.inputs.from_tensor(pictures, resize=False).to(self._model.dtype)
        mixed = self._device.type == "cuda" and self._mixed_precision and torch.cuda.is_bf16_supported()
        with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
            out: dict[str, Tensor] = network(inputs)
        return out
