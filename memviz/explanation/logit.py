"""The number that is explained: a model's logit, from a private copy of its network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from memviz.errors import ImageError, ModelError
from memviz.explanation.measure import remove_sigmoid
from memviz.layers import ChannelsLast, private_copy, replace_response_norms
from memviz.models import Model


class Logit(nn.Module):
    """From pictures (N, 3, H, W), as `model.inputs.from_pil` makes them, to numbers (N,).

    Of a model that averages over ten crops it is that of the crop that is given.

    Attributes:
        scale: "logit", the output before a final `nn.Sigmoid`, or else "score", before it is clipped.
        network: the private copy, frozen and in evaluation mode; modules have their addresses.

    Example:
        >>> import memviz
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Sigmoid())
        >>> logit = Logit(memviz.wrap(network, memviz.InputSpec(size=(4, 4)), target="memorability"))
        >>> logit.scale, logit(torch.zeros(2, 3, 4, 4)).shape
        ('logit', torch.Size([2]))
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        network = private_copy(model.module)
        example = torch.zeros(2, 3, *model.inputs.size, device=model.device, dtype=model.dtype)
        with torch.no_grad():
            logit = remove_sigmoid(network, example)
        self.scale: Literal["logit", "score"] = "logit" if logit else "score"
        replace_response_norms(network)
        self.network = network
        self._model = model
        self._run = ChannelsLast(network)

    def forward(self, pictures: Tensor) -> Tensor:
        """A `ModelError` if that is not one finite number a picture, or has no gradient where one is required."""
        numbers = self._model.numbers([self._run(pictures)], len(pictures))[:, 0]
        if pictures.requires_grad and torch.is_grad_enabled() and not numbers.requires_grad:
            raise ModelError(
                f"The score of {self._model.name} has no gradient with respect to the picture, so nothing can be "
                "attributed to it: its forward pass detaches what it computes, or does not use the picture."
            )
        if not numbers.isfinite().all():
            raise ModelError(
                f"{self._model.name} predicts nan or infinity: its weights are damaged, or its InputSpec is wrong."
            )
        return numbers if self.scale == "logit" else self._model.score_spec.unclipped(numbers)


@contextmanager
def differentiating(model: Model) -> Iterator[None]:
    """Makes a `ModelError` of what torch.autograd refuses in the block."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ModelError(
            f"{model.name} has no gradients, so nothing can be attributed to its score ({error}). Change "
            "what torch.autograd refuses, such as an in-place operation on an output that is still needed."
        ) from error


def check_pictures(name: str, pictures: Tensor, model: Model) -> None:
    """Raises an `ImageError`, which calls them `name`, unless these are pictures (N, 3, H, W) of the model's input."""
    if pictures.dim() != 4 or pictures.shape[1:] != (3, *model.inputs.size) or not len(pictures):
        height, width = model.inputs.size
        raise ImageError(
            f"{name} of shape {tuple(pictures.shape)} were given: {model.name} takes one or more, (N, 3, {height}, "
            f"{width}), as model.inputs.from_pil makes them."
        )
    if not pictures.isfinite().all():
        raise ImageError(f"The {name} contain nan or infinity: give finite numbers.")
