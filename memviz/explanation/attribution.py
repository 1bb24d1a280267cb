"""Why is this score higher than those? What each pixel and each unit contributes to the difference.

**Integrated gradients** (Sundararajan et al. 2017, "Axiomatic attribution for deep networks") follow the straight path
from a reference photograph r to the photograph x, and add up the gradient of the logit f. Averaged over several
references they are **expected gradients** (Erion et al. 2021, "Improving performance of deep learning models with
axiomatic attribution priors"), here with references that the caller chooses. They are **complete**: the attributions
of a photograph add up to `f(x) - mean f(r)`.

The **conductance** of a unit (Dhamdhere et al. 2019, "How important is a neuron?") is the part of this that passes
through it. It equals the gradient at the layer, integrated along the path that the layer's activation a takes
(Shrikumar et al. 2018, "Computationally efficient measures of internal neuron importance"), so one forward and one
backward pass serve every layer, the input being one of them. With the points k = 0 ... n at equal distances on the
path, both are

    sum over k of (a[k + 1] - a[k]) * (g[k + 1] + g[k]) / 2

(trapezoidal rule), for a unit also summed over positions. Captum's `LayerConductance` takes g[k] alone; the two
agree in the limit of many steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from memviz.errors import ModelError
from memviz.explanation.gradients import LayerGradients
from memviz.explanation.logit import Logit, check_pictures
from memviz.layers import isolated
from memviz.models import Model
from memviz.progress import Advance

TOLERANCE = 0.01  # of `Attributions.errors`


@dataclass(frozen=True, eq=False)
class Attributions:
    """What raises and lowers the logits of N photographs against R references.

    Attributes:
        scale: what is explained: the "logit" before a final `nn.Sigmoid`, or else the "score" before it is clipped.
        logits: (N,) float64, of the photographs, on that scale.
        reference_logits: (R,) float64.
        pixels: (N, 3, H, W) float32, in the network's own input: its channels in its order.
        units: by address, (N, C) float64: the conductance of each unit, summed over positions.
        residuals: (N,) float64: sum of `pixels` minus the difference of logits.
        errors: (N,) float64: the absolute residual relative to the mean absolute difference of logits over the
            references, which, unlike the difference of the means, is not near 0 for a usual photograph.
        steps: (N,) int64, on the path to each photograph.
        complete: (N,) bool: whether the error is within the tolerance; where it is not, more steps are needed.
    """

    scale: Literal["logit", "score"]
    logits: Tensor
    reference_logits: Tensor
    pixels: Tensor
    units: dict[str, Tensor]
    residuals: Tensor
    errors: Tensor
    steps: Tensor
    complete: Tensor

    @property
    def maps(self) -> Tensor:
        """(N, H, W): `pixels` summed over the channels."""
        return self.pixels.sum(1)


def attribute(
    model: Model,
    photographs: Tensor,
    references: Tensor,
    layers: Iterable[str] | None = None,
    *,
    steps: int = 16,
    max_steps: int = 256,
    batch_size: int = 16,
    advance: Advance | None = None,
) -> Attributions:
    """The contributions of pixels and units to the difference of a photograph's logit from those of references.

    Each photograph is explained alone. Its path is walked in `steps` steps, and again in twice as many until its error
    is at most `TOLERANCE`, or `max_steps` is reached. A model that averages over ten crops is explained for the crop
    that is given. Of a layer that runs several times in a pass, its last output counts; one that the score does not
    depend on has zeros.

    Args:
        model: with a score; it stays as it is.
        photographs: (N, 3, H, W), as `model.inputs.from_pil` makes them.
        references: (R, 3, H, W), likewise.
        layers: addresses or convolution ordinals; None takes all watched layers, () none.
        steps: of the first walk, 1 or more.
        max_steps: of the last walk; no walk has more.
        batch_size: points of a path in one pass; beyond rounding it changes nothing.
        advance: called after each pass with the number of its points, of (steps + 1) R in a first walk; what it raises
            ends the work.

    Raises:
        ImageError: pictures of another shape, not of finite numbers, or none.
        LayerError: a layer that the model does not have.
        ModelError: the model does not give one finite number a picture, or its score has no gradient; steps that are
            not possible.

    Example:
        >>> import memviz
        >>> from memviz.models import InputSpec
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 2, 1),
        ...     torch.nn.AdaptiveAvgPool2d(1),
        ...     torch.nn.Flatten(),
        ...     torch.nn.Linear(2, 1),
        ...     torch.nn.Sigmoid(),
        ... )
        >>> model = memviz.wrap(network, InputSpec(size=(4, 4)), target="memorability")
        >>> found = attribute(model, torch.rand(2, 3, 4, 4), torch.rand(5, 3, 4, 4), ["0"])
        >>> found.scale, tuple(found.pixels.shape), tuple(found.units["0"].shape), found.complete.all().item()
        ('logit', (2, 3, 4, 4), (2, 2), True)
    """
    for name, pictures in (("photographs", photographs), ("references", references)):
        check_pictures(name, pictures, model)
    if not 1 <= steps <= max_steps or batch_size < 1:
        raise ModelError(
            f"steps={steps}, max_steps={max_steps}, batch_size={batch_size}: give 1 <= steps <= max_steps, and a batch "
            "of 1 or more."
        )
    rows = model.layers.watched() if layers is None else [model.layers[address] for address in layers]
    addresses = list(dict.fromkeys(row.address for row in rows))
    with isolated(model.device), torch.enable_grad():
        walker = _Walker(model, addresses, batch_size, advance)
        # Cloned: a caller's tensors may have been made in inference mode, or require gradients.
        photographs, references = (
            each.detach().to(model.device, model.dtype, copy=True) for each in (photographs, references)
        )
        found = [_explain(walker, picture, references, (steps, max_steps)) for picture in photographs]
    columns = [
        torch.tensor(column, dtype=torch.float64) for column in zip(*(each.numbers for each in found), strict=True)
    ]
    logits, residuals, errors, taken = columns
    return Attributions(
        scale=walker.logit.scale,
        logits=logits,
        reference_logits=found[0].walk.starts,
        pixels=torch.stack([each.walk.pixels for each in found]).float(),
        units={address: torch.stack([each.walk.units[address] for each in found]) for address in addresses},
        residuals=residuals,
        errors=errors,
        steps=taken.long(),
        complete=errors <= TOLERANCE,
    )


@dataclass(frozen=True, eq=False)
class _Walk:
    """The averages over the references of what was found along the paths from them, in double precision on the CPU."""

    starts: Tensor
    ends: Tensor
    pixels: Tensor
    units: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Explained:
    walk: _Walk
    numbers: tuple[float, float, float, int]


def _explain(walker: _Walker, picture: Tensor, references: Tensor, limits: tuple[int, int]) -> _Explained:
    steps, most = limits
    while True:
        walk = walker.walk(picture, references, steps)
        differences = walk.ends - walk.starts
        residual = float(walk.pixels.sum() - differences.mean())
        scale = float(differences.abs().mean())
        error = abs(residual) / scale if scale else (0.0 if residual == 0 else float("inf"))
        if error <= TOLERANCE or steps >= most:
            return _Explained(walk, (float(walk.ends[0]), residual, error, steps))
        steps = min(2 * steps, most)


class _Walker:
    """Runs a private copy of a model's network along paths."""

    def __init__(self, model: Model, addresses: Sequence[str], batch_size: int, advance: Advance | None = None) -> None:
        self._gradients = LayerGradients(model, addresses)
        self._model, self._batch_size, self._advance = model, batch_size, advance

    @property
    def logit(self) -> Logit:
        """What is explained."""
        return self._gradients.logit

    def walk(self, picture: Tensor, references: Tensor, steps: int) -> _Walk:
        """The paths from all references, one after the other, in batches that may end anywhere."""
        count = steps + 1
        sums = {address: _Sum() for address in self._gradients.addresses}
        pixels = _Sum(positions=True)
        values = []
        for start in range(0, count * len(references), self._batch_size):
            places = torch.arange(start, min(start + self._batch_size, count * len(references)), device=picture.device)
            own, along = references[places // count], ((places % count) / steps).to(picture.dtype)[:, None, None, None]
            inputs = torch.lerp(own, picture[None], along).requires_grad_()
            # There is no step from the end of one path to the start of the next.
            weights = (places % count != 0).double() / (2 * len(references))
            values.append(self._run(inputs, sums, pixels, weights).double().cpu())
            if self._advance is not None:
                self._advance(len(places))
        outputs = torch.cat(values).view(len(references), count)
        channels = {address: self._model.layers[address].channels for address in self._gradients.addresses}
        units = {
            address: torch.zeros(channels[address], dtype=torch.float64) if each.total is None else each.total.cpu()
            for address, each in sums.items()
        }
        assert pixels.total is not None
        return _Walk(outputs[:, 0], outputs[:, -1], pixels.total.cpu(), units)

    def _run(self, inputs: Tensor, sums: dict[str, _Sum], pixels: _Sum, weights: Tensor) -> Tensor:
        """The logits (n,) of points; adds up what is found at the input and at each layer."""
        reached: set[str] = set()

        def add(address: str, values: Tensor, gradient: Tensor) -> None:
            reached.add(address)
            sums[address].add(values, gradient, weights)

        logits, gradient, _ = self._gradients.run(inputs, add)
        for address in sums.keys() - reached:
            sums[address].skip()
        pixels.add(inputs.detach(), gradient, weights)
        return logits


class _Sum:
    """Adds up `(a[k] - a[k - 1]) * (g[k] + g[k - 1]) * weight[k]` over points that come in batches."""

    def __init__(self, positions: bool = False) -> None:
        self.total: Tensor | None = None
        self._positions = positions
        self._last: tuple[Tensor, Tensor] | None = None

    def add(self, values: Tensor, gradients: Tensor, weights: Tensor) -> None:
        """Adds a batch: activations and gradients (n, C, ...), weights (n,)."""
        if self._last is not None:
            before, gradient = self._last
            self._count((values[:1] - before) * (gradients[:1] + gradient), weights[:1])
        if len(values) > 1:
            products = values[1:] - values[:-1]
            products *= gradients[1:] + gradients[:-1]
            self._count(products, weights[1:])
        self._last = values[-1:].clone(), gradients[-1:].clone()

    def skip(self) -> None:
        """A batch whose score does not depend on the layer: it adds nothing."""
        self._last = None

    def _count(self, products: Tensor, weights: Tensor) -> None:
        if not self._positions and products.dim() > 2:
            products = products.sum((2, 3))
        found = torch.tensordot(weights.to(products.device), products.double(), dims=1)
        self.total = found if self.total is None else self.total + found
