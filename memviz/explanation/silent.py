"""Units that photographs do not move: constant ones, and those that never come above 0 before a ReLU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from memviz.errors import ImageError
from memviz.index import Index
from memviz.index.scanner import Scan
from memviz.layers import Layer, private_copy
from memviz.layers.unit import lies_in
from memviz.models import Model
from memviz.progress import progress as show_progress
from memviz.work import work

_Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
# A layer, whether its units are constant, and their largest peaks.
_Peaks = tuple[Layer, NDArray[np.bool_], NDArray[np.float32]]
_RECTIFIERS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class SilentUnits:
    """How many units of a layer some photographs do not move, by the units' peaks.

    Attributes:
        address: of the layer.
        units: how many it has.
        photographs: how many there were.
        constant: units whose peak is the same on all photographs; `memviz.layers.unit` calls them dead.
        silent: units that are not constant but never come above 0 behind the layer's ReLU, a batch norm between the
            two counted in: no photograph excites them, which does not mean that nothing would. None where no
            `nn.ReLU` follows.
        unknown: units of which that cannot be told, since a batch norm turns their sign and an index keeps no minima.
    """

    address: str
    units: int
    photographs: int
    constant: int
    silent: int | None
    unknown: int


def silent_units(
    model: Model, photographs: Index | Sequence[Path], progress: bool | None = False
) -> tuple[SilentUnits, ...]:
    """Counts, layer by layer, the units of a network that photographs do not move.

    Args:
        model: of which one picture is run, and the photographs where they are files; it stays as it is.
        photographs: an index of this model, or files, of which unreadable ones are left out.
        progress: as the files are read; None shows it on a terminal, True also in a log, False never.

    Raises:
        StoreError: an index of other weights, or a damaged one.
        ModelError: an activation is not finite.
        ImageError: none of the files can be read.

    Example:
        >>> silent_units(model, memviz.load_index("runs/photos"))[0].constant  # doctest: +SKIP
        0
    """
    if isinstance(photographs, Index):
        photographs.check_model(model)
        count, peaks = photographs.result.photographs, list(_indexed(photographs))
    else:
        count, peaks = _ranked(model, photographs, progress)
    followed = _rectified(model, [layer.address for layer, _, _ in peaks])
    counted = []
    for layer, constant, largest in peaks:
        silent, unknown = None, 0
        if layer.address in followed:
            scale, shift = followed[layer.address]
            known = (scale > 0) & ~constant
            silent = int((known & (scale * largest + shift <= 0)).sum())
            unknown = int((~constant & ~known).sum())
        counted.append(SilentUnits(layer.address, layer.channels, count, int(constant.sum()), silent, unknown))
    return tuple(counted)


def _indexed(index: Index) -> Iterator[_Peaks]:
    for layer in index.layers:
        indexed = index.layer(layer.address)
        yield layer, indexed.std == 0, indexed.values[:, 0, 0]


def _ranked(model: Model, paths: Sequence[Path], progress: bool | None) -> tuple[int, list[_Peaks]]:
    """How many files could be read, and what an index of them would know of the units."""
    layers = list(model.layers.watched())
    scan = Scan(layers, 1, dict.fromkeys(map(str, paths)))
    state = scan.nothing()
    with show_progress("Looking for silent units", len(scan.files), "images", progress) as advance:
        for each in work(model, scan, scan.shards(state), advance):
            state.merge(each)
    if not state.ranking.count:
        raise ImageError(f"None of the {len(scan.files)} photographs can be read: give JPEG or PNG files.")
    constant, largest = (state.ranking.std() == 0).numpy(), state.ranking.top().values[:, 0].numpy()
    ends = np.cumsum([layer.channels for layer in layers])[:-1]
    peaks = list(zip(layers, np.split(constant, ends), np.split(largest, ends), strict=True))
    return state.ranking.count, peaks


def describe_silent(layers: Iterable[SilentUnits], part: str) -> str:
    """The counts of a part of a network in a phrase; empty where nothing was counted.

    >>> describe_silent([SilentUnits("conv", 64, 700, 2, 5, 0)], "")
    '2 of 64 units are constant over 700 photographs, and 5 of 62 are never above 0 before a ReLU'
    """
    within = [each for each in layers if not part or lies_in(each.address, part)]
    if not within:
        return ""
    constant, units = sum(each.constant for each in within), sum(each.units for each in within)
    told = f"{constant:,} of {units:,} units are constant over {within[0].photographs:,} photographs"
    judged = sum(each.units - each.constant - each.unknown for each in within if each.silent is not None)
    if judged:
        silent = sum(each.silent or 0 for each in within)
        told += f", and {silent:,} of {judged:,} are never above 0 before a ReLU"
    return told


@torch.no_grad()
def _rectified(model: Model, addresses: Iterable[str]) -> dict[str, _Affine]:
    """Scale and shift of each unit on the way to the `nn.ReLU` that follows its layer, by address.

    A layer that gives out what a ReLU made, as most residual blocks do, is followed by one too. Tensors are known again
    by their identity and version, which counts in-place operations.
    """
    network = private_copy(model.module)
    wanted, found = set(addresses), dict[str, _Affine]()
    made: defaultdict[tuple[int, int], list[tuple[str, nn.Module | None]]] = defaultdict(list)
    alive: list[Tensor] = []  # an identity may be given again

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, _RECTIFIERS):
            for address, norm in made[id(inputs[0]), inputs[0]._version]:
                found[address] = _affine(norm)

    def leave(address: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            alive.append(output)
            place = id(output), output._version
            if isinstance(module, _RECTIFIERS):
                rectified.add(place)
            elif isinstance(module, _BatchNorm):
                source = id(inputs[0]), inputs[0]._version
                made[place] += [(each, module) for each, norm in made[source] if norm is None]
            if place in rectified:
                found[address] = _affine(None)
            made[place].append((address, None))

        return hook

    rectified: set[tuple[int, int]] = set()
    for address, module in network.named_modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave(address))
    network(torch.zeros(1, 3, *model.inputs.size, device=model.device, dtype=model.dtype))
    return {address: found[address] for address in found.keys() & wanted}


def _affine(norm: Any) -> _Affine:
    """What a batch norm does to each unit; nothing for None."""
    if norm is None or norm.running_var is None:
        return np.array(1.0), np.array(0.0)
    variance, mean = norm.running_var.double(), norm.running_mean.double()
    scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.double())
    shift = -mean * scale + (0 if norm.bias is None else norm.bias.double())
    return scale.cpu().numpy(), shift.cpu().numpy()
