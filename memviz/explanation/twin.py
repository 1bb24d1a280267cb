"""The same architecture with random weights, as a control for what training adds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from memviz.errors import ModelError
from memviz.images import stream
from memviz.layers import private_copy
from memviz.models import Model

# Photographs that a twin's batch norms see, and how many at once; ours.
SEEN, BATCH = 64, 16


def random_twin(model: Model, paths: Sequence[Path], seed: int = 0, workers: int = 2) -> Model:
    """A model with the architecture and preprocessing of `model`, and weights at torch's default random start.

    Each module is drawn anew by its own `reset_parameters`, which is how torch starts it. Batch norms keep weight 1 and
    shift 0; their running means and variances are those of the twin's own activations on photographs, since at 0 and 1
    a deep residual network gives out little but its first layers.

    Args:
        model: stays as it is.
        paths: photographs, of which the first 64 are seen.
        seed: of the weights; the global random state is not used.
        workers: threads that decode.

    Raises:
        ModelError: a module has parameters of its own and no `reset_parameters`, so it has no known start.

    Example:
        >>> import memviz
        >>> model = memviz.wrap(nn.Conv2d(3, 4, 3), memviz.InputSpec(size=(8, 8)), name="one")
        >>> random_twin(model, []).name
        'one, random weights'
    """
    check_twin(model)
    network: Any = copy.deepcopy(private_copy(model.module)).cpu()  # a private copy shares the caller's weights
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    network.to(model.device)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if norms and paths:
        _estimate(network, norms, model, paths[:SEEN], workers)
    return Model(network.eval(), model.inputs, f"{model.name}, random weights", branches=model.branches)


def check_twin(model: Model) -> None:
    """Refuses a network of which no twin can be made, as `random_twin` does."""
    for address, module in model.module.named_modules():
        if not hasattr(module, "reset_parameters") and any(True for _ in module.parameters(recurse=False)):
            raise ModelError(
                f"{address or type(module).__name__} has parameters and no reset_parameters(), so a twin with "
                "random weights cannot be made. Leave the control out: twin=False, or --no-twin."
            )


def _estimate(network: nn.Module, norms: Sequence[Any], model: Model, paths: Sequence[Path], workers: int) -> None:
    """Sets running means and variances to the average over batches, as torch does for `momentum=None`."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    batches = stream(paths, model.inputs.from_pil, BATCH, workers=workers)
    with closing(batches), torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        for batch in batches:
            if len(batch.indices) > 1:  # one value has no variance
                network(batch.pictures.to(model.device, model.dtype))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
