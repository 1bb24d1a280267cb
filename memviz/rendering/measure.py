"""Mean and peak of rendered pictures, measured as an index measures photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from memviz.layers.unit import Unit
from memviz.models import InputSpec, Model


@dataclass(frozen=True)
class Reading:
    """Mean and peak of a unit on one picture, as `memviz.layers.unit` defines them, and (y, x) of the peak."""

    mean: float
    peak: float
    position: tuple[int, int]


def to_pil(picture: Tensor) -> Image.Image:
    """A picture (3, H, W) uint8 as an image."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def as_photograph(picture: Tensor, inputs: InputSpec) -> Image.Image:
    """A picture (3, H, W) uint8, repeated to the size at which preprocessing takes a photograph without enlarging it.

    A picture of 128 px is drawn at the scale of the network's input. Preprocessing would enlarge it like a photograph
    of 128 px, to twice that scale for ResMem, and a filter finds nothing of what it wants in its pattern at twice the
    size. The picture is optimized as repeated, so that the repetition has no seams.
    """
    return to_pil(_repeated(picture, inputs))


def as_inputs(pictures: Tensor, inputs: InputSpec) -> Tensor:
    """Of pictures (N, 3, H, W), what the network sees of `as_photograph`, differentiably, before normalization.

    The same pixels; only pictures as large as what preprocessing resizes to, or larger, come as they are.
    """
    repeated = _repeated(pictures, inputs)
    if repeated is pictures:
        return pictures
    left, top = _corner(repeated, inputs)
    height, width = inputs.size
    return repeated[:, :, top:, left:][:, :, :height, :width]


def as_endless(pictures: Tensor, inputs: InputSpec) -> Tensor | None:
    """Of pictures (N, 3, H, W), the tile (N, 3, H, W) whose endless repetition begins with `as_inputs`, before
    normalization; None where that repeats nothing.

    It begins where `as_inputs` crops, since a network with a stride tells one beginning from another.
    """
    repeated = _repeated(pictures, inputs)
    if repeated is pictures:
        return None
    left, top = _corner(repeated, inputs)
    return pictures.roll((-top, -left), dims=(2, 3))


def _corner(repeated: Tensor, inputs: InputSpec) -> tuple[int, int]:
    """(left, top) of what the network sees of repeated pictures."""
    left, top = inputs.centre_corner((repeated.shape[3], repeated.shape[2]))
    return max(left, 0), max(top, 0)


def _repeated(pictures: Tensor, inputs: InputSpec) -> Tensor:
    resize = inputs.resize or inputs.size
    height, width = (resize, resize) if isinstance(resize, int) else resize
    down, across = -(-height // pictures.shape[-2]), -(-width // pictures.shape[-1])
    if down == across == 1:
        return pictures
    return pictures.repeat(*[1] * (pictures.dim() - 2), down, across)[..., :height, :width]


def measure(
    network: nn.Module, model: Model, pictures: Sequence[Tensor], units: Sequence[Unit | None]
) -> list[Reading | None]:
    """What units make of pictures, each repeated to the size of a photograph.

    Put among the photographs of an index, what `as_photograph` makes of them would have these values.

    Args:
        network: from inputs of `model` to activations by address, as `memviz.layers.truncate` makes it.
        model: whose preprocessing the pictures pass through.
        pictures: (3, H, W) uint8 each.
        units: one a picture; None is not measured.
    """
    wanted = [place for place, unit in enumerate(units) if unit is not None]
    readings: list[Reading | None] = [None] * len(units)
    if not wanted:
        return readings
    inputs = torch.stack([model.inputs.from_pil(as_photograph(pictures[place], model.inputs)) for place in wanted])
    inputs = inputs.to(model.device, model.dtype)
    with torch.no_grad():
        activations: Mapping[str, Tensor] = network(inputs)
    for row, place in enumerate(wanted):
        unit = units[place]
        assert unit is not None
        found = activations[unit.address][row, unit.channel].float()
        rows, columns = model.layers[unit.address].interior(model.inputs.size)
        inside = found[rows, columns] if found.dim() == 2 else found[None, None]
        y, x = divmod(int(inside.argmax()), inside.shape[1])
        readings[place] = Reading(inside.mean().item(), inside.max().item(), (rows.start + y, columns.start + x))
    return readings
