"""The activations of any layers and the gradients of the logit at them, in one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memviz.explanation.logit import Logit, differentiating
from memviz.layers import observe
from memviz.models import Model

Receive = Callable[[str, Tensor, Tensor], None]


class LayerGradients:
    """Runs a private copy of a model's network with callbacks at layers.

    Attributes:
        logit: the number whose gradients are taken.
        addresses: of the layers. Of one that runs several times in a pass, its last output counts.

    Example:
        >>> import memviz
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 1), torch.nn.Sigmoid())
        >>> model = memviz.wrap(network, memviz.InputSpec(size=(4, 4)), target="memorability")
        >>> found = {}
        >>> inputs = torch.zeros(2, 3, 4, 4, requires_grad=True)
        >>> with torch.enable_grad():
        ...     _ = LayerGradients(model, ["0"]).run(inputs, lambda address, *both: found.update({address: both}))
        >>> torch.equal(found["0"][1][0], network[1].weight[0])
        True
    """

    def __init__(self, model: Model, addresses: Sequence[str]) -> None:
        self.logit = Logit(model)
        self.addresses = addresses
        self._model = model
        # Layers whose outputs a later operation overwrites in place, as an in-place ReLU does.
        self._overwritten: set[str] = set()

    def run(self, inputs: Tensor, receive: Receive) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Runs pictures (N, 3, H, W) that require gradients.

        Args:
            inputs: the pictures.
            receive: called with a layer's address, activation and gradient, each (N, C, ...), from the last layer to
                the first. Both are gone afterwards, unless it keeps them.

        Returns:
            The logits (N,), the gradient of their sum at `inputs`, and the activations of layers that the logits do
            not depend on, for which `receive` is not called.

        Raises:
            ModelError: as `Logit` says, and for what torch.autograd refuses.
        """
        unused: set[str] = set(self.addresses)

        def receiver(address: str, values: Tensor) -> Callable[[Tensor], None]:
            def pass_on(gradient: Tensor) -> None:
                # Of several calls the last counts; its gradient is known first, or not at all.
                if values is last[address]:
                    unused.discard(address)
                    receive(address, values, gradient)

            return pass_on

        def record(address: str) -> Callable[[Tensor], None]:
            def keep(output: Tensor) -> None:
                values = output.detach()
                versions[address] = values, values._version
                last[address] = values.clone() if address in self._overwritten else values
                if output.requires_grad:
                    # At once: later, the gradient would be that of what an in-place operation left.
                    output.register_hook(receiver(address, last[address]))  # type: ignore[no-untyped-call]

            return keep

        while True:
            last: dict[str, Tensor] = {}
            versions: dict[str, tuple[Tensor, int]] = {}
            with observe(self.logit.network, {address: record(address) for address in self.addresses}):
                logits: Tensor = self.logit(inputs)
            changed = {address for address, (output, version) in versions.items() if output._version != version}
            if changed <= self._overwritten:
                break
            self._overwritten |= changed
        with differentiating(self._model):
            (gradient,) = torch.autograd.grad(logits.sum(), inputs)
        return logits.detach(), gradient, {address: last[address] for address in unused if address in last}
