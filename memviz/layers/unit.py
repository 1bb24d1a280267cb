"""What a unit is, how it is written, and what its activations are called: the glossary.

**Unit**
    A channel of a layer. It is written `address:channel`, as `resnet.layer3.20:5`; the layer may also be given by its
    convolution ordinal, as `resnet@139:5`.

**Activation**
    The signed output of the unit's module, as the module computed it: before the ReLU where there is a choice, and
    never a tensor that a later in-place operation has overwritten.

**mean** and **peak**
    Of one picture: the mean of the unit's activation over positions, and its largest activation over positions. Both
    are measured on the plain network, at the model's own input size, over the *interior*: the positions whose
    receptive field lies inside the picture. A layer that has no such position, because its units see more than the
    whole picture, is measured over all of them. Photographs and rendered pictures are measured alike
    (`memviz.layers.table.Layer.interior`), so that the two may be compared; a rendered picture, which is drawn at the
    scale of the network's input, is repeated to the size of a photograph and not enlarged to it
    (`memviz.rendering.measure.as_photograph`).

**succeeds**
    A rendered picture succeeds if its peak is above zero and above the best photograph's (`succeeds`): put among the
    photographs, it would be the first. The criterion is that of Zimmermann et al. 2021, "How Well do Feature
    Visualizations Support Causal Understanding of CNN Activations?". An activation below zero is inhibition, so a
    picture that merely inhibits a unit less than any photograph does not succeed.

**live**
    A unit that a photograph excites by more than `LIVE`: its best one then reaches something that a picture can be
    compared with.

**ratio**
    The picture's peak as a multiple of the best photograph's (`ratio`); defined only where both are above zero.

**dead**
    A unit whose activation is constant, so that no picture excites it. A unit that was merely not excited by what was
    tried is not called dead; its state says what was tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memviz.errors import LayerError

if TYPE_CHECKING:
    from memviz.layers.table import Layer, LayerTable

LIVE = 1e-6
# Torch's dotted names contain no path separators, so that files can be named after them.
_ADDRESS = re.compile(r"[^/\\\0:]+")
# The largest networks have layers of some thousand channels: a longer number is an error, or an attack.
_CHANNEL = re.compile(r"\d{1,7}", re.ASCII)


@dataclass(frozen=True, order=True)
class Unit:
    """A channel of a layer.

    Attributes:
        address: the layer's dotted address, never an ordinal.
        channel: from 0.

    Raises:
        LayerError: an address that no layer can have (for example with a slash), or a channel below 0.

    Example:
        >>> str(Unit("alexnet.conv4", 5))
        'alexnet.conv4:5'
    """

    address: str
    channel: int

    def __post_init__(self) -> None:
        check_address(self.address)
        if self.channel < 0:
            raise LayerError(f"{self.address}:{self.channel}: channels are counted from 0.")

    def __str__(self) -> str:
        return f"{self.address}:{self.channel}"

    @property
    def stem(self) -> str:
        """The beginning of the names of its files.

        >>> Unit("alexnet.conv4", 5).stem
        'alexnet.conv4-0005'
        """
        return f"{self.address}-{self.channel:04d}"

    @classmethod
    def parse(cls, text: str, layers: LayerTable) -> Unit:
        """The unit that `address:channel` or `ordinal:channel` names in a network.

        Raises:
            LayerError: text of another form, an unknown layer, or a channel that the layer does not have.
        """
        layer, mark, channel = text.rpartition(":")
        if not mark or not _CHANNEL.fullmatch(channel):
            raise LayerError(f"{text!r}: write a unit as address:channel, such as resnet.layer3.20:5.")
        return units_of(layers[layer], int(channel))[0]


def lies_in(address: str, part: str) -> bool:
    """Whether a layer is a part of a network, by their addresses, or lies in it.

    >>> lies_in("alexnet.conv4", "alexnet"), lies_in("alexnet", "alexnet"), lies_in("alexnets.conv4", "alexnet")
    (True, True, False)
    """
    return f"{address}.".startswith(f"{part}.")


def check_address(address: str) -> str:
    """Returns an address that a layer can have; raises a `LayerError` for others."""
    if not _ADDRESS.fullmatch(address) or address in (".", ".."):
        raise LayerError(f"{address!r} cannot be a layer's address, which contains no slash, backslash or colon.")
    return address


def units_of(layer: Layer, channels: int | Iterable[int] | None = None) -> list[Unit]:
    """The units of some channels of a layer, each once, in the order given; of all channels for None.

    Raises:
        LayerError: a channel that the layer does not have, no channel at all, or not a whole number.

    Example:
        >>> from memviz.layers.table import Layer
        >>> layer = Layer("conv", "Conv2d", 8, 1, 1, None, None, None, None, False)
        >>> [str(unit) for unit in units_of(layer, [3, 1, 3])]
        ['conv:3', 'conv:1']
    """
    if isinstance(channels, str):
        raise LayerError(f"{channels!r} is text: give channels as whole numbers, or as parse_channels({channels!r}).")
    if channels is None:
        wanted: list[int] = list(range(layer.channels))
    elif isinstance(channels, Iterable):
        wanted = list(dict.fromkeys(map(_to_channel, channels)))
    else:
        wanted = [_to_channel(channels)]
    wrong = [channel for channel in wanted if not 0 <= channel < layer.channels]
    if wrong or not wanted:
        given = f"given was {wrong[0]}" if wrong else "none was given"
        raise LayerError(f"{layer.address} has units 0 to {layer.channels - 1}; {given}.")
    return [Unit(layer.address, channel) for channel in wanted]


def _to_channel(channel: object) -> int:
    try:
        return channel.__index__()  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        raise LayerError(f"{channel!r} is no channel: give a whole number from 0.") from None


def parse_channels(text: str) -> list[int]:
    """The channels in a list such as "0-31,40".

    >>> parse_channels("0-2, 7")
    [0, 1, 2, 7]
    """
    channels: list[int] = []
    for item in text.split(","):
        first, dash, last = (end.strip() for end in item.partition("-"))
        ends = (first, last) if dash else (first,)
        if not all(map(_CHANNEL.fullmatch, ends)) or (dash and int(first) > int(last)):
            raise LayerError(f"{text!r}: write channels as 0-31,40.")
        channels += range(int(first), int(last if dash else first) + 1)
    return channels


def succeeds(peak: float | None, best: float | None) -> bool:
    """Whether a picture excites a unit more than the best photograph does; see the glossary above.

    >>> succeeds(2.0, 1.5), succeeds(-0.1, -0.2), succeeds(2.0, None)
    (True, False, False)
    """
    return peak is not None and best is not None and peak > max(best, 0.0)


def ratio(peak: float | None, best: float | None) -> float | None:
    """A picture's peak as a multiple of the best photograph's; None unless both are above zero.

    >>> ratio(3.0, 2.0), ratio(3.0, -2.0)
    (1.5, None)
    """
    return peak / best if peak is not None and best is not None and peak > 0 and best > 0 else None
