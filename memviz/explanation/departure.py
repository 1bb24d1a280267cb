"""Away from a photograph, as far as is allowed: gradient ascent on its Fourier coefficients, at growing distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from memviz.errors import RenderError
from memviz.rendering.parameterize import Fourier

Parameters = Literal["fourier", "phase"]
# By the root of the frequency: with Lucid's whole power (1), which suits Adam's equal steps, plain gradients change
# little but the light; with none they are noise. On ResMem the root raised the logit most (see `Departure.climb`).
DECAY = 0.5
# Of the directions of former steps. Each step is as long as this many steps of the radius, so that the ascent can also
# turn and not only go on.
MOMENTUM, STRIDE = 0.9, 3.0
# A radius is met to this share of it, in so many tries at most; each changes the offset by no more than this factor.
CLOSE, TRIES, FACTOR = 0.01, 12, 4.0


class Departure:
    """A photograph as the parameters of pictures near it.

    Args:
        photograph: (1, 3, H, W) float32 in [0, 1].
        parameters: "fourier": its coefficients in decorrelated colours; "phase": their phases alone, so that the
            spectrum stays the photograph's, as in MACO (Fel et al. 2023, "Unlocking feature visualization for deep
            networks with magnitude constrained optimization").
        distance: of a picture (1, 3, H, W) from the photograph.
    """

    def __init__(self, photograph: Tensor, parameters: Parameters, distance: Callable[[Tensor], float]) -> None:
        self._fourier = Fourier(decay=DECAY)
        self._size = (photograph.shape[2], photograph.shape[3])
        self._start = self._fourier.parameters(photograph)
        self._phase = parameters == "phase"
        self._distance = distance

    @property
    def still(self) -> Tensor:
        """The offset of the photograph itself, 0."""
        return torch.zeros_like(self._start[..., 0] if self._phase else self._start)

    def picture(self, offset: Tensor) -> Tensor:
        """The picture (1, 3, H, W) at an offset of the parameters, differentiably."""
        coefficients = self._start
        if self._phase:
            turned = torch.view_as_complex(coefficients) * torch.polar(torch.ones_like(offset), offset)
            coefficients = torch.view_as_real(turned)
        else:
            coefficients = coefficients + offset
        return self._fourier.pictures(coefficients, self._size)

    @torch.no_grad()
    def at(self, offset: Tensor, radius: float) -> Tensor:
        """An offset made longer or shorter until its picture lies at a distance, or as near to it as was found."""
        for _ in range(TRIES):
            found = self._distance(self.picture(offset))
            if abs(found / radius - 1) < CLOSE:
                break
            offset = offset * min(max(radius / found if found else FACTOR, 1 / FACTOR), FACTOR)
        return offset

    def climb(self, value: Callable[[int, Tensor], Tensor], radii: Sequence[float]) -> Iterator[Tensor]:
        """The offsets at which an ascent has arrived at each radius.

        The ascent follows the gradient with momentum, whatever its length, and is brought back to the radius after each
        step. From one photograph of a snake and in 12 steps to a distance of .3, it raised ResMem's logit of 2.5 to
        12.1, Adam to 12.7 with a change of the pixels that was 13 % larger.

        Args:
            value: what to raise, from the number of the step and a picture (1, 3, H, W) to one number, differentiably.
            radii: the distance after each step.

        Raises:
            RenderError: no gradient reaches the photograph, or one that is not finite.
        """
        offset, velocity, stride = self.still, self.still, 0.0
        for step, radius in enumerate(radii):
            climbing = offset.clone().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(value(step, self.picture(climbing)), [climbing])
            norm = float(gradient.norm())
            if not norm < float("inf") or not (norm or stride):
                raise RenderError(
                    f"The gradient on the photograph is {norm:g}, so that it shows no way to change it. Its score is "
                    "saturated, or the unit is dead; choose another photograph or unit."
                )
            # Where a number has come to its end, as ResMem's score at .41, there is no gradient any more.
            velocity = MOMENTUM * velocity + (gradient / norm if norm else 0.0)
            direction = velocity / velocity.norm()
            offset = self.at(offset + stride * direction if stride else direction, radius)
            stride = stride or STRIDE * float(offset.norm())
            yield offset
