"""The part of a network up to some layers: what they do not depend on never runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, fx, nn

from memviz.errors import LayerError
from memviz.layers.capture import capture, evaluating, submodule


def truncate(module: nn.Module, addresses: Iterable[str]) -> fx.GraphModule | StoppedEarly:
    """A callable from pictures (N, 3, H, W) to the activations of some layers.

    The computation is traced once (`torch.fx`) and everything that the layers do not depend on is
    dropped, such as the other branch. A network that cannot be traced, because its course depends on
    the data, runs as it is and stops after the last layer asked for. The result shares the
    caller's modules and weights; it runs in the mode (training or evaluation) that they have.

    Args:
        module: any module.
        addresses: dotted addresses; "" is the network's own output.

    Returns:
        A module that maps pictures to a dict, address to activation (N, C, H, W) or (N, C).

    Raises:
        LayerError: an address that the module does not have, or that does not run or gives no tensor.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> truncate(network, ["1"])(torch.zeros(1, 3, 8, 8))["1"].shape
        torch.Size([1, 8, 6, 6])
    """
    wanted = list(dict.fromkeys(addresses))
    for address in wanted:
        submodule(module, address)
    tracer = _Tracer()
    try:
        with evaluating(module):
            graph = tracer.trace(module)
    except Exception:  # Tracing runs the network's own Python on proxies, which may raise anything.
        return StoppedEarly(module, wanted)
    if any(_changes_silently(node, module) for node in graph.nodes):
        return StoppedEarly(module, wanted)
    output = next(node for node in graph.nodes if node.op == "output")
    found = tracer.outputs | {"": output.args[0]}
    for address in wanted:
        if not isinstance(found.get(address), fx.Node):
            raise LayerError(
                f"The layer {address!r} cannot be looked at: it does not run in a forward pass, or gives no single "
                "tensor. Choose one of its parts."
            )
    output.args = ({address: found[address] for address in wanted},)
    truncated = fx.GraphModule(module, graph, "Truncated")
    truncated.graph.eliminate_dead_code()
    output = next(node for node in truncated.graph.nodes if node.op == "output")
    results = dict(output.args[0])
    for address, node in results.items():
        # Whoever else reads the tensor may overwrite it in place.
        if len(node.users) > 1:
            with truncated.graph.inserting_after(node):
                results[address] = truncated.graph.call_method("clone", (node,))
    output.args = (results,)
    truncated.delete_all_unused_submodules()
    truncated.recompile()
    return truncated


class _Tracer(fx.Tracer):
    """Traces a network and remembers the value that each module returned, by address."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, Any] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        out = super().call_module(m, forward, args, kwargs)
        self.outputs[self.path_of_module(m)] = out.node if isinstance(out, fx.Proxy) else out
        return out


_IN_PLACE = {getattr(operator, name) for name in operator.__all__ if name.startswith("i") and "_" not in name} - {
    operator.index,
    operator.inv,
    operator.invert,
}


def _changes_silently(node: fx.Node, module: nn.Module) -> bool:
    """Whether a node's only effect is on its input, which dead-code elimination would lose."""
    if node.users:
        return False
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    return node.op == "call_function" and (node.target in _IN_PLACE or bool(node.kwargs.get("inplace")))


class StoppedEarly(nn.Module):
    """Runs a network as it is and stops after the last of some layers."""

    def __init__(self, module: nn.Module, addresses: list[str]) -> None:
        super().__init__()
        self.network = module
        self.addresses = addresses

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """The activations of the layers for pictures (N, 3, H, W)."""
        with capture(self.network, self.addresses) as activations:

            def stop(part: nn.Module, inputs: Any, output: Any) -> None:
                if len(activations) == len(self.addresses):
                    raise _Stop

            # Registered after the captures, so that each runs after the capture of its module.
            handles = [submodule(self.network, address).register_forward_hook(stop) for address in self.addresses]
            try:
                self.network(pictures)
            except _Stop:
                pass
            finally:
                for handle in handles:
                    handle.remove()
        missing = [address for address in self.addresses if address not in activations]
        if missing:
            raise LayerError(f"The layer {missing[0]!r} does not run in a forward pass. Choose another one.")
        return {address: activations[address] for address in self.addresses}


class _Stop(Exception):  # noqa: N818 (it is no error)
    """Ends a forward pass whose remainder nobody needs."""
