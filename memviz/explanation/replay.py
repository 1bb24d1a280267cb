"""What would a network have said if one layer had given something else? The part before the layer runs once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from memviz.explanation.logit import Logit
from memviz.layers.capture import submodule
from memviz.models import Model


class Replay:
    """Runs a private copy of a network again and again on the same pictures, with other outputs of one layer.

    While pictures are recorded, modules that finish before the layer begins, the largest such, remember what they
    return, and return it when the pass is repeated; all else runs. So it needs no knowledge of how the network is put
    together. A module that runs several times, changes its input in place or returns it, always runs; of what is
    overwritten later a copy is given out. If the repetition of what was recorded still gave another logit (as of a
    network that keeps results as attributes), all modules run.

    Attributes:
        logit: the number that is predicted.
        output: of the layer for the recorded pictures; of one that runs several times, the last, which is replaced.
        remembered: how many modules do not run again.

    Example:
        >>> import memviz
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1), nn.Sigmoid())
        >>> replay = Replay(memviz.wrap(network, memviz.InputSpec(size=(4, 4)), target="memorability"), "1")
        >>> logits = replay.record(torch.rand(5, 3, 4, 4))
        >>> torch.allclose(replay.run(torch.zeros_like(replay.output)), network[3].bias), replay.remembered
        (True, 1)
    """

    def __init__(self, model: Model, address: str) -> None:
        self.logit = Logit(model)
        network = self.logit.network
        self._layer = layer = submodule(network, address)
        self._parts = [part for part in dict.fromkeys(_beside(network, layer)) if part is not layer]
        self._known: dict[nn.Module, Tensor] = {}
        self._overwritten: set[nn.Module] = set()
        self._given: Tensor | None = None
        self._restart()
        network.register_forward_pre_hook(lambda *_: self._restart())
        for part in self._parts:
            vars(part)["forward"] = partial(self._pass_part, part, part.forward)
        vars(layer)["forward"] = partial(self._pass_layer, layer.forward)

    @property
    def remembered(self) -> int:
        """How many modules do not run again."""
        return len(self._known)

    def record(self, pictures: Tensor) -> Tensor:
        """The logits (N,) of pictures (N, 3, H, W), which are then repeated."""
        self._pictures, self._known, self._given = pictures, {}, None
        with torch.no_grad():
            while True:
                logits: Tensor = self.logit(pictures)
                known = {part: self._made[part] for part in self._before if self._calls[part] == 1}
                known = {part: made for part, made in known.items() if part not in self._must_run}
                changed = {part for part, (output, version, _) in known.items() if output._version != version}
                if changed <= self._overwritten:
                    break
                self._overwritten |= changed
            self._layer_calls = self._calls[None]
            self._known = {part: kept for part, (_, _, kept) in known.items()}
            if not torch.allclose(self.run(self.output), logits, rtol=1e-4, atol=1e-5):
                self._known = {}
                self._must_run.add(self._layer)
        return logits

    def run(self, output: Tensor) -> Tensor:
        """The logits (N,) if the layer had returned `output`, of the shape of `self.output`."""
        self._given = output
        try:
            with torch.no_grad():
                logits: Tensor = self.logit(self._pictures)
        finally:
            self._given = None
        return logits

    def _restart(self) -> None:
        """Begins a forward pass."""
        self._calls: Counter[nn.Module | None] = Counter()  # of the layer under None
        if self._given is None:
            self._made: dict[nn.Module, tuple[Tensor, int, Tensor]] = {}
            self._before: list[nn.Module] = []
            self._must_run: set[nn.Module] = set()

    def _pass_part(self, part: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        if self._given is not None and part in self._known:
            kept = self._known[part]
            return kept.clone() if part in self._overwritten else kept
        output = self._watch(part, forward, inputs, options)
        if self._given is None:
            self._calls[part] += 1
            if isinstance(output, Tensor):
                kept = output.clone() if part in self._overwritten else output
                self._made[part] = output, output._version, kept
        return output

    def _pass_layer(self, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        self._calls[None] += 1
        if self._given is None:
            self._before = list(self._made)
            output = self._watch(self._layer, forward, inputs, options)
            self.output: Tensor = output.clone()
            return output
        last = self._calls[None] == self._layer_calls
        output = forward(*inputs, **options) if not last or self._layer in self._must_run else None
        return self._given.clone() if last else output

    def _watch(self, module: nn.Module, forward: Callable[..., Any], inputs: Any, options: Any) -> Any:
        """Runs a module, and notes whether what it does to its inputs belongs to the network."""
        given = [each for each in (*inputs, *options.values()) if isinstance(each, Tensor)]
        versions = [each._version for each in given]
        output = forward(*inputs, **options)
        places = {each.untyped_storage().data_ptr() for each in given}
        returned = isinstance(output, Tensor) and output.untyped_storage().data_ptr() in places
        if returned or versions != [each._version for each in given]:
            self._must_run.add(module)
        return output


def _beside(module: nn.Module, layer: nn.Module) -> Iterator[nn.Module]:
    """The largest modules in `module` that can be called and do not contain the layer."""
    for child in module.children():
        if layer in set(child.modules()) or type(child).forward is nn.Module.forward:  # as of an nn.ModuleList
            yield from _beside(child, layer)
        else:
            yield child
