"""Which parts of a photograph raise its score, and which lower it? Maps of the picture, by several methods.

A method is one frozen class, which adds itself to `METHODS` by being written. Those of Captum (Kokhlikyan et al. 2020,
"Captum: a unified and generic model interpretability library for PyTorch") are compared with our expected gradients in
`experiments/attribution`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from memviz.errors import ImageError, LayerError, ModelError
from memviz.explanation.attribution import attribute
from memviz.explanation.logit import Logit, check_pictures, differentiating
from memviz.layers import Layer, isolated
from memviz.models import Model

METHODS: dict[str, type[Method]] = {}
"""The methods by name."""

DEFAULT = "grad-cam"
"""The method that `image_map` uses unless it is given another: `experiments/attribution` compares them."""

# Positions of the shorter side, of the layer that Grad-CAM takes by itself: fewer say too little of where.
_FINE = 12

# Pixels of the shorter side: what stands for "nothing to see there" in integrated gradients and occlusion is the
# photograph without its details.
_BLUR = 0.1


def image_map(
    model: Model,
    photograph: Tensor,
    method: str | Method = DEFAULT,
    references: Tensor | None = None,
    batch_size: int = 8,
) -> Tensor:
    """What each pixel contributes to the logit of a photograph: above 0 raises it, below 0 lowers it.

    The units differ from method to method; only the order and the sign can be compared. The logit, or the score where
    there is no final sigmoid, is that of `memviz.explanation.attribute`. The same call gives the same map.

    Args:
        model: with a score; it stays as it is.
        photograph: (3, H, W), as `model.inputs.from_pil` makes it.
        method: a name in `METHODS`, or an instance with settings, as `GradCam(layer="resnet.layer3.35")`.
        references: (R, 3, H, W), likewise; "expected-gradients" needs them, the others do without.
        batch_size: pictures in one pass; beyond rounding it changes nothing.

    Returns:
        (H, W) float32, on the CPU.

    Raises:
        ModelError: an unknown method; the model does not give one finite number a picture, or has no gradient.
        ImageError: pictures of another shape, or not of finite numbers; no references where they are needed.
        LayerError: a layer for Grad-CAM that the model does not have, or that has no maps.

    Example:
        >>> import memviz
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1), nn.Sigmoid())
        >>> model = memviz.wrap(network, memviz.InputSpec(size=(8, 8)), target="memorability")
        >>> image_map(model, torch.rand(3, 8, 8)).shape
        torch.Size([8, 8])
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ModelError(f"There is no method {method!r} for maps. The methods are: {', '.join(METHODS)}.")
        method = METHODS[method]()
    if batch_size < 1:
        raise ModelError(f"batch_size={batch_size}: give 1 or more.")
    check_pictures("photographs", photograph[None], model)
    if references is not None:
        check_pictures("references", references, model)
    with isolated(model.device), torch.enable_grad(), differentiating(model):
        # Cloned: a caller's tensor may have been made in inference mode, or require gradients.
        picture = photograph.detach().to(model.device, model.dtype, copy=True)
        return method.map(model, picture, references, batch_size).detach().float().cpu()


class Method:
    """A way to make a map. Its settings are the fields of its class."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        METHODS[cls.name] = cls

    def map(self, model: Model, picture: Tensor, references: Tensor | None, batch_size: int) -> Tensor:
        """The map (H, W) of a picture (3, H, W) of the model's device and type, in its units."""
        raise NotImplementedError


@dataclass(frozen=True)
class GradCam(Method):
    """Grad-CAM (Selvaraju et al. 2017): a layer's maps, each weighted by the mean of its gradient, and added up.

    The sum is signed, without the ReLU of the paper, which shows only what raises a class. Each position is drawn where
    the centre of its receptive field is, with linear interpolation between them.

    Attributes:
        layer: address or convolution ordinal; None takes the last residual block, or else convolution, whose maps have
            at least 12 positions at the shorter side, or else any: ResMem's layer3.35 and not its layer4.2 with 8, as
            `experiments/attribution` found.
    """

    name: ClassVar[str] = "grad-cam"
    layer: str | None = None

    def map(self, model: Model, picture: Tensor, references: Tensor | None, batch_size: int) -> Tensor:
        """One forward and one backward pass."""
        from captum.attr import LayerGradCam

        layer = _layer(model, self.layer)
        logit = Logit(model)
        with _untouched(logit.network.get_submodule(layer.address)) as output:
            # A layer that the score does not depend on has the gradient 0.
            found: Tensor = LayerGradCam(logit, output).attribute(
                picture[None].requires_grad_(), grad_kwargs={"materialize_grads": True}
            )
        rows, columns = (
            _interpolation(layer, axis, found.shape[axis + 2], size).to(found)
            for axis, size in enumerate(model.inputs.size)
        )
        return rows @ found[0, 0] @ columns.T


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan et al. 2017) from the blurred photograph, averaged over noise.

    SmoothGrad (Smilkov et al. 2017): the mean over copies of the photograph to which normal noise was added.

    Attributes:
        steps: of each path, by Gauss-Legendre quadrature.
        samples: copies.
        noise: standard deviation of the noise, as a share of the photograph's range of values; 0.1 to 0.2 in the paper.
        seed: of the noise.
    """

    name: ClassVar[str] = "integrated-gradients"
    steps: int = 4
    samples: int = 8
    noise: float = 0.1
    seed: int = 0

    def map(self, model: Model, picture: Tensor, references: Tensor | None, batch_size: int) -> Tensor:
        """`steps * samples` forward and backward passes."""
        from captum import attr

        spread = float(picture.max() - picture.min())
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            found: Tensor = attr.NoiseTunnel(attr.IntegratedGradients(Logit(model))).attribute(
                picture[None].requires_grad_(),
                nt_samples=self.samples,
                nt_samples_batch_size=1,
                stdevs=self.noise * spread,
                baselines=blurred(picture)[None],
                n_steps=self.steps,
                internal_batch_size=batch_size,
            )
        return found[0].sum(0)


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion (Zeiler and Fergus 2014): by how much the logit falls where a window shows the blurred photograph.

    Each pixel has the mean over the windows that cover it.

    Attributes:
        window, stride: of the window, as shares of the picture's sides.
    """

    name: ClassVar[str] = "occlusion"
    window: float = 0.2
    stride: float = 0.1

    def map(self, model: Model, picture: Tensor, references: Tensor | None, batch_size: int) -> Tensor:
        """About `((1 - window) / stride + 1) ** 2` forward passes."""
        from captum import attr

        window, stride = (
            tuple(max(1, round(share * side)) for side in model.inputs.size) for share in (self.window, self.stride)
        )
        found: Tensor = attr.Occlusion(Logit(model)).attribute(
            picture[None],
            sliding_window_shapes=(3, *window),
            strides=(3, *stride),
            baselines=blurred(picture)[None],
            perturbations_per_eval=batch_size,
        )
        return found[0, 0]


@dataclass(frozen=True)
class ExpectedGradients(Method):
    """The pixels of `memviz.explanation.attribute`, whose sum is the difference from the references' mean logit.

    Attributes:
        steps: from each reference.
    """

    name: ClassVar[str] = "expected-gradients"
    steps: int = 4

    def map(self, model: Model, picture: Tensor, references: Tensor | None, batch_size: int) -> Tensor:
        """`(steps + 1) * references` forward and backward passes."""
        if references is None:
            raise ImageError(
                "Expected gradients compare a photograph with others: give references=, (R, 3, H, W), as "
                "model.inputs.from_pil makes them."
            )
        found = attribute(
            model, picture[None], references, (), steps=self.steps, max_steps=self.steps, batch_size=batch_size
        )
        return found.maps[0]


def blurred(picture: Tensor) -> Tensor:
    """A picture (..., H, W) without its details: convolved with a Gaussian of a tenth of the shorter side."""
    sigma = _BLUR * min(picture.shape[-2:])
    out: Tensor = gaussian_blur(picture, 2 * int(3 * sigma) + 1, sigma)
    return out


def _layer(model: Model, name: str | None) -> Layer:
    """The layer for Grad-CAM."""
    usable = [layer for layer in model.layers.watched() if layer.height * layer.width > 1]
    if name is not None and model.layers[name].height * model.layers[name].width > 1:
        return model.layers[name]
    if name is None and usable:
        fine = [layer for layer in usable if min(layer.height, layer.width) >= _FINE] or usable
        # Inside a block that halves the maps, a convolution may still be fine, but is no more than a part of a sum.
        return ([layer for layer in fine if layer.block] or fine)[-1]
    valid = ", ".join(layer.address for layer in usable[-3:]) or "none here; choose another method"
    given = f"The layer {name!r} has no positions" if name else f"{model.name} has no convolution with positions"
    raise LayerError(f"{given}, so Grad-CAM has no map. Layers with positions, the deepest last: {valid}.")


@contextmanager
def _untouched(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """A module that returns what a module of a private network returns, which no later operation overwrites."""
    output, forward = torch.nn.Identity(), module.forward
    vars(module)["forward"] = lambda *inputs, **options: output(forward(*inputs, **options)).clone()
    try:
        yield output
    finally:
        # The function refers to the module: without it, the network is freed with its last reference.
        del vars(module)["forward"]


def _interpolation(layer: Layer, axis: int, count: int, size: int) -> Tensor:
    """(size, count): the weights of a layer's `count` positions along an axis at each of `size` pixels."""
    if layer.stride is None or layer.offset is None:  # every position sees the whole picture
        stride = size / count
        first = (stride - 1) / 2
    else:
        stride, first = layer.stride[axis], layer.offset[axis]
    places = ((torch.arange(size) - first) / stride).clamp(0, count - 1)
    return (1 - (places[:, None] - torch.arange(count)).abs()).clamp(min=0)
