"""How torch-lucent and dreamlens draw units by their own defaults, and what a step of theirs costs; for anytime.py."""

from __future__ import annotations

import copy
import functools
import importlib.util
import operator
import random
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.layers import ChannelsLast, private_copy, truncate
from memviz.models import InputSpec


@dataclass(frozen=True)
class Seconds:
    """On the wall, and of the processor in all threads."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


class UpTo(nn.Module):
    """A network up to one layer, which peers find as the module `map`.

    What a peer draws on it is what it would draw on the whole network, up to rounding, and much cheaper. Its seconds
    are those of the whole network, which it runs at each step.
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = ChannelsLast(truncate(private_copy(module), [layer]))
        self.layer = layer
        self.map = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        maps: Tensor = self.map(self.network(pictures)[self.layer])
        return maps


class Peer(Protocol):
    """Another tool with its own defaults."""

    name: ClassVar[str]
    snapshots: ClassVar[tuple[int, ...]]

    def draw(self, network: nn.Module, layer: str, units: Sequence[int], steps: Sequence[int]) -> list[Tensor]:
        """After each of some numbers of steps of one run, pictures (N, 3, H, W) in [0, 1] of N units."""
        ...

    def photographs(self, picture: Tensor, inputs: InputSpec) -> list[Tensor]:
        """Of a picture (3, H, W), all ways to show it (3, H, W) uint8 to a network; what serves it best counts."""
        ...


@dataclass(frozen=True)
class Lucent:
    """torch-lucent 0.1.8's `render_vis`: 512 steps on 128 px, enlarged to the network's input."""

    side: int
    name: ClassVar[str] = "torch-lucent"
    snapshots: ClassVar[tuple[int, ...]] = (32, 64, 128, 256, 512)
    pad: ClassVar[int] = 12  # of its first transform, px of grey on each side

    def draw(self, network: nn.Module, layer: str, units: Sequence[int], steps: Sequence[int]) -> list[Tensor]:
        seed(units[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it hands kornia and torch what they have since deprecated
            from lucent.optvis import objectives, param, render

            wanted = [objectives.channel(layer.replace(".", "_"), unit, batch=row) for row, unit in enumerate(units)]
            found = render.render_vis(
                network,
                functools.reduce(operator.add, wanted),
                lambda: param.image(128, batch=len(units)),
                thresholds=tuple(steps),
                preprocess=False,  # ImageNet's normalization, which this network was not trained with
                progress=False,
                show_image=False,
                fixed_image_size=self.side,
            )
        return [torch.from_numpy(each).permute(0, 3, 1, 2) for each in found]

    def photographs(self, picture: Tensor, inputs: InputSpec) -> list[Tensor]:
        # It pads its picture and then enlarges it to the input: what it optimizes is smaller than the input.
        inner = round(self.side * picture.shape[1] / (picture.shape[1] + 2 * self.pad))
        padded = F.pad(picture, [self.pad] * 4, value=0.5)
        return [
            framed(resized(picture, self.side), inputs),
            framed(resized(padded, self.side), inputs),
            to_bytes(resized(picture, inner)),
        ]


@dataclass(frozen=True)
class Dreamlens:
    """dreamlens 0.1.1's `maximize_channels`: 120 steps on 256 px, units together in a batch."""

    side: int
    name: ClassVar[str] = "dreamlens"
    snapshots: ClassVar[tuple[int, ...]] = (15, 30, 60, 120)

    def draw(self, network: nn.Module, layer: str, units: Sequence[int], steps: Sequence[int]) -> list[Tensor]:
        import dreamlens

        seed(units[0])
        config = dreamlens.RenderConfig(steps=max(steps))
        # What it would make itself, here to be looked at on the way; of what it is given it takes a copy.
        canvas = dreamlens.FourierCanvas(config.height, config.width, batch_size=len(units))
        canvas.__deepcopy__ = lambda memo: canvas
        calls, found = 0, []

        def look(*_: object) -> None:
            nonlocal calls
            if calls in steps:
                found.append(canvas.as_nchw())
            calls += 1

        handle = network.register_forward_pre_hook(look)
        visualizer = dreamlens.FeatureVisualizer(network, quiet=True, normalize=False)
        visualizer.maximize_channels(layer, units, config=config, image_parameter=canvas)
        handle.remove()
        return [*found, canvas.as_nchw()]

    def photographs(self, picture: Tensor, inputs: InputSpec) -> list[Tensor]:
        # It shows its picture at a random scale, 0.5 to 1.2.
        return [to_bytes(picture), framed(resized(picture, self.side), inputs)]


def peers(side: int) -> list[Peer]:
    """Those that are installed, for a network whose input is `side` px."""
    return [Lucent(side)] + ([Dreamlens(side)] if importlib.util.find_spec("dreamlens") else [])


def time_steps(peer: Peer, module: nn.Module, layer: str, units: Sequence[int], steps: int) -> list[Seconds]:
    """What some steps of a peer cost on the whole network: a fresh copy, since lucent leaves its hooks behind."""
    network, calls = copy.deepcopy(module), []
    network.register_forward_pre_hook(lambda *_: calls.append(Seconds.now()))
    peer.draw(network, layer, units, [steps + 1])
    return [later - sooner for sooner, later in pairwise(calls)]


def seed(number: int) -> None:
    """Both draw from the global random states."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def resized(picture: Tensor, side: int) -> Tensor:
    """(3, H, W) to (3, side, side), as lucent enlarges."""
    return F.interpolate(picture[None], size=(side, side), mode="bilinear", align_corners=True)[0]


def framed(picture: Tensor, inputs: InputSpec) -> Tensor:
    """A picture of the network's input size, in a frame that preprocessing crops away; (3, H, W) uint8."""
    height, width = picture.shape[1:]
    whole = inputs.resize or inputs.size
    down, across = (whole, whole) if isinstance(whole, int) else whole
    left, top = inputs.centre_corner((across, down))
    return to_bytes(F.pad(picture, [left, across - width - left, top, down - height - top]))


def to_bytes(picture: Tensor) -> Tensor:
    return picture.mul(255).round().clamp(0, 255).to(torch.uint8)
