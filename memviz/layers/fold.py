"""Batch norms folded into the convolutions before them, on a private graph."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.fx import GraphModule
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(graph: GraphModule) -> None:
    """Folds, in place, each batch norm into the convolution whose only reader it is.

    In evaluation mode a batch norm is an affine map, so the convolution can do it
    (`torch.nn.utils.fusion`). Only for a private copy: the folded convolutions replace the old.
    """
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(norm := modules[str(node.target)], nn.BatchNorm2d):
            continue
        source = node.args[0]
        if (
            source.op != "call_module"
            or len(source.users) > 1
            or calls[source.target] > 1
            or not norm.track_running_stats
        ):
            continue
        convolution = modules[str(source.target)]
        if isinstance(convolution, nn.Conv2d):
            graph.set_submodule(str(source.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
