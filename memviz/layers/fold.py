"""Batch norms folded into the convolutions before them, on a private graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn
from torch.fx import GraphModule
from torch.nn.utils.fusion import fuse_conv_bn_eval

from memviz.layers.edit import replace_modules
from memviz.layers.private import has_forward_hooks


def fold_batch_norms(graph: GraphModule) -> None:
    """Folds, in place, each batch norm into the convolution before it, if nothing else reads that convolution's output.

    In evaluation mode a batch norm is an affine map, which the convolution can include
    (`torch.nn.utils.fusion`). Only for a private copy: the folded convolutions replace the old ones.
    """
    modules: dict[str, Any] = dict(graph.named_modules(remove_duplicate=False))
    # Counted by module, since one with several addresses runs at each of them.
    calls = Counter(id(modules[str(node.target)]) for node in graph.graph.nodes if node.op == "call_module")
    folded: dict[str, nn.Module] = {}
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not _is_plain(norm := modules[str(node.target)], nn.BatchNorm2d):
            continue
        (source,) = node.all_input_nodes
        if source.op != "call_module" or len(source.users) > 1 or not norm.track_running_stats:
            continue
        address = str(source.target)
        convolution = folded.get(address, modules[address])
        if _is_plain(convolution, nn.Conv2d) and calls[id(modules[address])] == 1:
            folded[address] = fuse_conv_bn_eval(convolution, norm)
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    replace_modules(graph, folded)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is exactly of a class, without parametrization (which changes the class) and without hooks."""
    return type(module) is kind and not has_forward_hooks(module)
