"""How we look inside: works on any `torch.nn.Module` and knows no model by name."""

from memviz.layers.capture import capture, check_uncompiled, evaluating, isolated, observe
from memviz.layers.edit import replace_modules, replaced
from memviz.layers.fold import fold_batch_norms
from memviz.layers.layout import ChannelsLast
from memviz.layers.private import private_copy
from memviz.layers.quick import quickened
from memviz.layers.response_norm import replace_response_norms
from memviz.layers.table import Layer, LayerTable, layer_table
from memviz.layers.truncate import truncate

__all__ = [
    "ChannelsLast",
    "Layer",
    "LayerTable",
    "capture",
    "check_uncompiled",
    "evaluating",
    "fold_batch_norms",
    "isolated",
    "layer_table",
    "observe",
    "private_copy",
    "quickened",
    "replace_modules",
    "replace_response_norms",
    "replaced",
    "truncate",
]
