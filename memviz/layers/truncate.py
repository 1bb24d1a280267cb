"""A network reduced to what some layers depend on: the rest never runs."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from memviz.errors import LayerError
from memviz.layers.capture import NO_TENSOR, capture, check_uncompiled, evaluating, submodule
from memviz.layers.private import free_without_collection, has_forward_hooks


def truncate(module: nn.Module, addresses: Iterable[str]) -> fx.GraphModule | StoppedEarly:
    """A callable from pictures (N, 3, H, W) to the activations of some layers.

    The computation is traced once (`torch.fx`) and everything that the layers do not depend on is
    dropped, such as the other branch. A network that cannot be traced, because its control flow depends
    on the data or it has forward hooks itself, runs unchanged and stops after the last of the layers. The
    result shares the caller's modules and weights; it runs in the mode (training or evaluation) that
    they have.

    Args:
        module: any module.
        addresses: dotted addresses; "" is the network's own output.

    Returns:
        A module that maps pictures to a dict, address to activation (N, C, H, W) or (N, C).

    Raises:
        LayerError: an address that the module does not have, or that does not run or gives no tensor.
        ModelError: the module, or a part of it, was compiled by `torch.jit`.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> truncate(network, ["1"])(torch.zeros(1, 3, 8, 8))["1"].shape
        torch.Size([1, 8, 6, 6])
    """
    wanted = list(dict.fromkeys(addresses))
    if not wanted:
        raise LayerError("No layer was asked for. Give at least one address, such as 'alexnet.conv4'.")
    check_uncompiled(module)
    for address in wanted:
        submodule(module, address)
    if has_forward_hooks(module):  # torch.fx ignores those of the root module
        return StoppedEarly(module, wanted, "it has forward hooks")
    # Tracing patches nn.Module for the whole process; two traces at once would leave it patched.
    with _TRACING, _restoring_attributes(module):
        try:
            with evaluating(module):
                graph, outputs = _trace(module)
        except _UNTRACEABLE as error:
            return StoppedEarly(module, wanted, f"{type(error).__name__}: {error}")
        return _cut(module, graph, outputs, wanted)


def _trace(module: nn.Module) -> tuple[fx.Graph, dict[nn.Module, Any]]:
    """The graph of a network, and the value that each module returned last."""
    tracer = _Tracer()
    try:
        return tracer.trace(module), tracer.outputs
    finally:
        # Closures inside torch.fx form reference cycles that keep the tracer, and so the network, alive.
        vars(tracer).clear()


@contextmanager
def _restoring_attributes(module: nn.Module) -> Iterator[None]:
    """Restores the attributes of modules, on which tracing leaves constants and proxies that `forward` stores."""
    before = [(names, dict(names)) for child in module.modules() for names in (vars(child), child._buffers)]
    try:
        yield
    finally:
        for names, old in before:
            names.clear()
            names.update(old)


def _cut(module: nn.Module, graph: fx.Graph, outputs: dict[nn.Module, Any], wanted: list[str]) -> fx.GraphModule:
    end = next(node for node in graph.nodes if node.op == "output")
    outputs |= {module: end.args[0]}
    # Looked up by module: one with several addresses has one output, that of its last call.
    found: dict[str, fx.Node] = {}
    for address in wanted:
        node = outputs.get(submodule(module, address))
        if not isinstance(node, fx.Node):
            raise LayerError(NO_TENSOR.format(address))
        found[address] = node
    needed = _find_needed(graph, list(found.values()), module)
    last = next(node for node in reversed(graph.nodes) if node in needed)
    end.args = (None,)
    for node in reversed(graph.nodes):
        if node not in needed and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    truncated = fx.GraphModule(module, graph, "Truncated")
    results = dict(found)
    for address, node in found.items():
        # A later operation may overwrite the tensor, or one that shares its memory, in place.
        if node is not last:
            with truncated.graph.inserting_after(node):
                results[address] = truncated.graph.call_method("clone", (node,))
    end.args = (results,)
    truncated.delete_all_unused_submodules()
    truncated.recompile()
    free_without_collection(truncated)
    return truncated


def _find_needed(graph: fx.Graph, wanted: list[fx.Node], module: nn.Module) -> set[fx.Node]:
    """The nodes that some values depend on, including the in-place operations on their inputs."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        shares = node.all_input_nodes and _may_share_memory(node, module)
        memory[node] = memory[node.all_input_nodes[0]] if shares else node
    needed: set[fx.Node] = set()
    adding = wanted
    while adding:
        while adding:
            node = adding.pop()
            if node not in needed:
                needed.add(node)
                adding += node.all_input_nodes
        last_read: dict[fx.Node, int] = {}
        for node in needed:
            for read in node.all_input_nodes:
                last_read[memory[read]] = max(order[node], last_read.get(memory[read], 0))
        adding = [
            node
            for node in graph.nodes
            if node not in needed and _is_in_place(node, module) and last_read.get(memory[node], 0) > order[node]
        ]
    return needed


_TRACING = threading.RLock()
# Raised by torch.fx, or by the network's own code when it is given a proxy instead of a tensor. A network that raises
# them for tensors too will do so when it runs.
_UNTRACEABLE = (TraceError, TypeError, ValueError, AttributeError, LookupError, AssertionError, RuntimeError)


class _Tracer(fx.Tracer):
    """Traces a network and remembers the value that each module returned last."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[nn.Module, Any] = {}
        self._thread = threading.get_ident()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A module's attribute; other threads, which may run networks at the same time, get it unchanged."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        out = super().call_module(m, forward, args, kwargs)
        self.outputs[m] = out.node if isinstance(out, fx.Proxy) else out
        return out


_IN_PLACE = {getattr(operator, name) for name in operator.__all__ if name.startswith("i") and "_" not in name} - {
    operator.index,
    operator.inv,
    operator.invert,
}


def _is_in_place(node: fx.Node, module: nn.Module) -> bool:
    """Whether a node may overwrite its first input."""
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return bool(getattr(child, "inplace", False)) or has_forward_hooks(child)
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.op != "call_function":
        return False
    named = getattr(node.target, "__name__", "").endswith("_") or node.target in _IN_PLACE
    return named or bool(node.kwargs.get("inplace")) or any(argument is True for argument in node.args)


def _may_share_memory(node: fx.Node, module: nn.Module) -> bool:
    """Whether a node's result may be its first input or a view of it."""
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return _is_in_place(node, module) or isinstance(child, _SHARING)
    return node.op in ("call_method", "call_function")


_SHARING = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
)


class StoppedEarly(nn.Module):
    """Runs a network unchanged and stops after the last of some layers.

    The first pass is complete: it counts how often each layer runs, since a layer's last output is the one returned.

    Args:
        module: the network.
        addresses: of the layers.
        reason: why it was not traced.
    """

    def __init__(self, module: nn.Module, addresses: list[str], reason: str) -> None:
        super().__init__()
        self.network = module
        self.addresses = addresses
        self.reason = reason
        self._calls: Counter[str] | None = None

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """The activations of the layers for pictures (N, 3, H, W)."""
        calls: Counter[str] = Counter()

        def stop(address: str) -> Callable[..., None]:
            def hook(child: nn.Module, inputs: Any, output: Any) -> None:
                calls[address] += 1
                if self._calls is not None and calls >= self._calls:
                    raise _Stop

            return hook

        with capture(self.network, self.addresses) as activations:
            # Registered after the capturing hooks, so that they run after them.
            handles = [submodule(self.network, name).register_forward_hook(stop(name)) for name in self.addresses]
            try:
                self.network(pictures)
                self._calls = calls
            except _Stop:
                pass
            finally:
                for handle in handles:
                    handle.remove()
        for address in self.addresses:
            if address not in activations:
                raise LayerError(NO_TENSOR.format(address))
        return {address: activations[address] for address in self.addresses}

    def extra_repr(self) -> str:
        """The layers, and why the network was not traced."""
        return f"{', '.join(map(repr, self.addresses))}; not traced: {self.reason}"


class _Stop(Exception):  # noqa: N818 (it is no error)
    """Ends a forward pass when all activations are there."""
