"""A private network in which the outputs of modules are recorded, replaced by others, or used again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memviz.errors import LayerError
from memviz.layers import ChannelsLast
from memviz.layers.capture import submodule

_NO_OUTPUT = (
    "The output of {!r} cannot be replaced: it {}. Give a module that returns one tensor of floating-point numbers, "
    "with one entry for each picture."
)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module: what it returned, and what it was given, where that is remembered."""

    output: Tensor
    input: Tensor | None = None


def find_fault(calls: Sequence[Call], count: int) -> str | None:
    """Why the outputs that a module gave for `count` pictures cannot be replaced; None if they can."""
    if not calls:
        return "does not run in a forward pass"
    for call in calls:
        if not isinstance(call.output, Tensor):
            return f"returns a {type(call.output).__name__}"
        if not call.output.is_floating_point() or call.output.shape[:1] != (count,):
            return f"returns {tuple(call.output.shape)} {call.output.dtype} for {count} pictures"
    return None


def check_outputs(calls: Mapping[str, Sequence[Call]], count: int) -> None:
    """Raises a `LayerError` for modules whose outputs for `count` pictures cannot be replaced."""
    for address, made in calls.items():
        if fault := find_fault(made, count):
            raise LayerError(_NO_OUTPUT.format(address, fault))


class Tapped:
    """Runs a network and controls the outputs of some of its modules; `tapped` makes it.

    A module that runs several times in a forward pass has several outputs, each of which is recorded and replaced by
    itself.

    Attributes:
        remembering: the addresses of those whose inputs are kept, to see whether they must run again.
    """

    def __init__(self, network: nn.Module, taps: Mapping[str, _Tap], remembering: Sequence[str]) -> None:
        self.remembering = remembering
        self._network = ChannelsLast(network)
        self._taps = taps

    def is_inside(self, address: str, other: str) -> bool:
        """Whether a module is a part of another one."""
        inner, outer = self._taps[address], self._taps[other]
        return inner is not outer and inner.module in outer.parts

    def record(
        self, pictures: Tensor, known: Mapping[str, Sequence[Tensor]] | None = None
    ) -> tuple[object, dict[str, list[Call]]]:
        """The output for pictures (N, 3, H, W), and the calls of each tapped module.

        Args:
            pictures: of the network's device and type.
            known: outputs of modules on these pictures from an earlier pass; these modules do not run.
        """
        for address, tap in self._taps.items():
            tap.set(record=True, given=(known or {}).get(address))
        out = self._network(pictures)
        return out, {address: tap.seen for address, tap in self._taps.items()}

    def replace(
        self, pictures: Tensor, address: str, outputs: Sequence[Tensor], calls: Mapping[str, Sequence[Call]]
    ) -> object:
        """The network's output if a module had returned something else.

        Of the other modules those that remember their inputs run only where these are others than before, or where the
        replaced module lies inside them.

        Args:
            pictures: those that `record` was given.
            address: of the module.
            outputs: what it returns at each of its calls.
            calls: what `record` returned.

        Raises:
            LayerError: the module now runs more often than before.
        """
        replaced = self._taps[address]
        for other, tap in self._taps.items():
            inside = replaced.module in tap.parts
            tap.set(given=outputs if tap is replaced else None, known=() if inside else calls[other])
        return self._network(pictures)


@contextmanager
def tapped(network: nn.Module, addresses: Iterable[str], remembering: Iterable[str] = ()) -> Iterator[Tapped]:
    """Taps modules of a private network, which is as before when the block ends.

    Args:
        network: a private copy in evaluation mode; its layout in memory is changed.
        addresses: dotted addresses of modules, which may lie inside one another.
        remembering: those of them whose inputs are kept, to see whether they must run again.

    Raises:
        LayerError: an address that the network does not have, or the network itself ("").
    """
    remembering = list(remembering)
    modules = {address: submodule(network, address) for address in addresses}
    if network in modules.values():
        raise LayerError("The output of the network itself ('') cannot be replaced, only that of a layer in it.")
    made: dict[nn.Module, _Tap] = {}
    for address, module in modules.items():
        made.setdefault(module, _Tap(address, module, address in remembering))
    # Not modules in the place of others: a network may also use a part's attributes, its length or its items.
    before = {module: vars(module).get("forward") for module in made}

    def restart(module: nn.Module, inputs: Any) -> None:
        for tap in made.values():
            tap.restart()

    handle = network.register_forward_pre_hook(restart)
    try:
        for module, tap in made.items():
            vars(module)["forward"] = tap
        yield Tapped(network, {address: made[module] for address, module in modules.items()}, remembering)
    finally:
        handle.remove()
        for module, forward in before.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = forward


class _Tap:
    """What a module's `forward` is while it is tapped."""

    def __init__(self, address: str, module: nn.Module, remembers: bool) -> None:
        self.address = address
        self.module = module
        self.parts = set(module.modules())
        self.seen: list[Call] = []
        self._forward = module.forward
        self._remembers = remembers
        self._overwrites = False
        self.set()

    def set(self, record: bool = False, given: Sequence[Tensor] | None = None, known: Sequence[Call] = ()) -> None:
        """Says what happens in the next forward pass."""
        self._record, self._given, self._known = record, given, known
        self.restart()

    def restart(self) -> None:
        """Begins a forward pass."""
        self._count, self.seen = 0, []

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        place, self._count = self._count, self._count + 1
        alone = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Tensor) and not options else None
        before = alone.clone() if alone is not None and self._record else None
        output: Any = self._find(place, alone)
        if output is None or self._overwrites:
            result = self._forward(*inputs, **options)
            output = result if output is None else output
        if self._record:
            # What a module does to its input belongs to the network, so such a module always runs.
            self._overwrites |= before is not None and not torch.equal(before, inputs[0])
            kept = before if self._remembers and not self._overwrites else None
            # Copies, since a later in-place operation may overwrite what is returned.
            self.seen.append(Call(output.clone() if isinstance(output, Tensor) else output, kept))
        return output

    def _find(self, place: int, alone: Tensor | None) -> Tensor | None:
        """What the module returns without running."""
        if self._given is not None:
            if place >= len(self._given):
                raise LayerError(_NO_OUTPUT.format(self.address, "does not run equally often in all forward passes"))
            return self._given[place].clone()
        before = self._known[place].input if place < len(self._known) else None
        if before is None or alone is None or not torch.equal(before, alone):
            return None
        return self._known[place].output.clone()
