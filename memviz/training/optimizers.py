"""The optimizers of the recipes, and their learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from memviz.training.config import TrainConfig

# The share of the steps during which the rate rises to its full value.
WARM_UP = 0.1


class LARS(Optimizer):
    """Stochastic gradient descent in which each layer's step is a share of the layer's own norm.

    A layer of weights w with gradient g takes the step ``lr |w| / (|g| + decay |w|) (g + decay w)``, with momentum over
    these steps. Source: You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks", algorithm 1;
    the product of their global rate and their trust coefficient is the one `lr` here. A layer is the weight and the
    bias of one module together, so that a bias that starts at zero moves too.

    Args:
        layers: the parameters of each layer.
        lr: the relative step: without momentum, a layer moves by this share of its norm.
        momentum, weight_decay: as of `torch.optim.SGD`.

    Example:
        >>> layer = nn.Linear(3, 1)
        >>> before = nn.utils.parameters_to_vector(layer.parameters()).detach()
        >>> layer(torch.rand(4, 3)).sum().backward()
        >>> _ = LARS([list(layer.parameters())], lr=0.1).step()
        >>> after = nn.utils.parameters_to_vector(layer.parameters()).detach()
        >>> round(float((after - before).norm() / before.norm()), 6)
        0.1
    """

    def __init__(
        self, layers: Iterable[list[nn.Parameter]], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        groups = [{"params": layer} for layer in layers]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step, and returns the loss of the closure; a layer without a gradient is left unchanged."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            decay, weight = group["weight_decay"], _norm(moved)
            size = _norm([parameter.grad for parameter in moved]) + decay * weight
            rate = group["lr"] * weight / size.clamp(min=torch.finfo(size.dtype).tiny)
            for parameter in moved:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].mul_(group["momentum"]).add_(rate * parameter.grad.add(parameter, alpha=decay))
                parameter.sub_(state["momentum"])
        return loss


def _norm(tensors: list[Any]) -> Tensor:
    norm: Tensor = torch.stack([tensor.norm() for tensor in tensors]).norm()
    return norm


def layers(network: nn.Module) -> list[list[nn.Parameter]]:
    """The trained parameters, module by module."""
    own = ([each for each in layer.parameters(recurse=False) if each.requires_grad] for layer in network.modules())
    return [parameters for parameters in own if parameters]


def optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer of the configuration's recipe, for the trained parameters of the network.

    >>> optimizer(nn.Linear(3, 1), TrainConfig(recipe="paper")).__class__.__name__
    'SGD'
    """
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    assert rate is not None  # the configuration took the recipe's
    assert decay is not None
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if config.recipe == "paper":
        return SGD(trained, rate, momentum, weight_decay=decay)
    if config.recipe == "lars":
        return LARS(layers(network), rate, momentum, decay)
    return AdamW(trained, rate, (momentum, 0.999), weight_decay=decay)


@torch.no_grad()
def scale_gradients(network: nn.Module, branches: Iterable[str], factor: float) -> None:
    """Multiplies the gradients of the parameters of the `branches`, submodules by address, in place.

    Called after the backward pass, this is the same as multiplying the gradient that flows from the head into the
    branches, since the chain rule is linear in it and parameters of a branch act on the loss by its output alone. The
    network needs no hook for it, and 16-bit gradients within a branch do not overflow. One without a gradient, as of a
    frozen submodule, is left unchanged.
    Source: `GradMultiply` of fairseq (Ott et al. 2019), by which its wav2vec 2.0 scales the feature encoder's gradient.

    Example:
        >>> network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> for layer, value in zip(network, (2.0, 3.0)):
        ...     _ = nn.init.constant_(layer.weight, value)
        >>> network(torch.ones(1, 1)).sum().backward()
        >>> scale_gradients(network, ["0"], 10)
        >>> [layer.weight.grad.item() for layer in network]
        [30.0, 2.0]
    """
    for branch in branches:
        for parameter in network.get_submodule(branch).parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


def schedule(optimizer: Optimizer, config: TrainConfig, steps: int) -> LambdaLR:
    """The learning rate over the `steps` of a training: constant in the paper's recipe.

    In the others it rises linearly over the first tenth and falls along a cosine to zero: early steps of full length
    would follow averages of squared gradients over a few batches (Goyal et al. 2017, section 2.2; Loshchilov and Hutter
    2017, "SGDR", equation 5).
    """
    warm = max(1, round(WARM_UP * steps))

    def share(step: int) -> float:
        if config.recipe == "paper":
            return 1.0
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return LambdaLR(optimizer, share)
