"""The images that excite each unit most and least, kept while a data set streams by.

Exact and independent of batch size and order: an activation and its image make one integer whose
order is the ranking's, so that no two are equal and `torch.topk` has no ties to break.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memviz.errors import StoreError
from memviz.index.moments import Moments, Node

# Images gathered before they are ranked together: ranking 64 at once costs hardly more than ranking 1.
BUFFER = 64
# Units ranked together, so that what a ranking touches stays in the processor's cache.
_CHUNK = 4096
_SIGNS = (1.0, -1.0)  # the lowest activations are the highest of the negated ones
_LOW_WORD = 2**32 - 1


class Ranking(NamedTuple):
    """The images of one side, best first: three tensors (units, min(k, images)).

    `values` float32, `images` int64, and `positions` int32 as they were given to `TopK.update`.
    """

    values: Tensor
    images: Tensor
    positions: Tensor


class TopK:
    """The k highest and k lowest activations of each unit, with image and position, mean and deviation.

    Equal activations are ranked by image, the lowest first; -0.0 equals 0.0. States of disjoint sets of
    images can be merged, in any order, to the state of their union. It is bit for bit the same, however they were cut,
    where images are ranked in blocks: those numbered from a multiple of `BUFFER` up to the next, as `flush` ends them.

    Args:
        units: how many units are watched.
        k: how many images are kept at each side.
        device: where the state lives.

    Example:
        >>> state = TopK(units=1, k=2)
        >>> activations = torch.tensor([[0.5], [2.0], [2.0]])
        >>> state.update(activations, positions=torch.zeros(3, 1, dtype=torch.int32), images=torch.arange(3))
        >>> state.top().images, state.bottom().values
        (tensor([[1, 2]]), tensor([[0.5000, 2.0000]]))
    """

    def __init__(self, units: int, k: int, device: torch.device | str = "cpu") -> None:
        self.units, self.k = units, k
        self._keys = torch.empty(2, units, 0, dtype=torch.int64, device=device)
        self._positions = torch.empty(2, units, 0, dtype=torch.int32, device=device)
        self._moments = Moments()
        self._waiting = 0
        self._new_values = torch.empty(BUFFER, units, dtype=torch.float32, device=device)
        self._new_positions = torch.empty(BUFFER, units, dtype=torch.int32, device=device)
        self._new_images = torch.empty(BUFFER, dtype=torch.int64, device=device)

    @property
    def count(self) -> int:
        """Images that are ranked."""
        return self._moments.count

    @property
    def waiting(self) -> int:
        """Images in the buffer, which are not ranked yet."""
        return self._waiting

    def update(self, values: Tensor, positions: Tensor, images: Tensor) -> None:
        """Takes the activations of some images.

        Args:
            values: (N, units) float32, without NaN.
            positions: (N, units), any int32 that says where in the image.
            images: (N,), numbers from 0 to 2^32 - 1, each given once in the life of the state.
        """
        for start in range(0, len(images), BUFFER):
            part = slice(start, start + BUFFER)
            count = len(images[part])
            if self._waiting + count > BUFFER:
                self.flush()
            rows = slice(self._waiting, self._waiting + count)
            self._new_values[rows] = values[part]
            self._new_positions[rows] = positions[part]
            self._new_images[rows] = images[part]
            self._waiting += count

    def flush(self) -> None:
        """Ranks the images that wait in the buffer, which other methods do when they need it."""
        count, self._waiting = self._waiting, 0
        if not count:
            return
        width = min(self.k, self.count + count)
        keys = self._keys.new_empty(2, self.units, width)
        positions = self._positions.new_empty(2, self.units, width)
        images = self._new_images[:count]
        mean = torch.empty(self.units, dtype=torch.float64, device=keys.device)
        squares = torch.empty_like(mean)
        for start in range(0, self.units, _CHUNK):
            part = slice(start, start + _CHUNK)
            values = self._new_values[:count, part].T.contiguous()
            places = self._new_positions[:count, part].T
            for side, sign in enumerate(_SIGNS):
                keys[side, part], positions[side, part] = _best(
                    torch.cat((self._keys[side, part], _to_keys(sign * values, images)), dim=1),
                    torch.cat((self._positions[side, part], places), dim=1),
                    width,
                )
            exact = values.double()
            mean[part] = exact.mean(dim=1)
            squares[part] = (exact - mean[part, None]).square().sum(dim=1)
        self._moments.add(0, int(images[0]) // BUFFER, (count, mean, squares))
        self._keys, self._positions = keys, positions

    def merge(self, other: TopK) -> None:
        """Takes over what `other` saw of other images.

        Raises:
            StoreError: the states have different units or k.
        """
        if (self.units, self.k) != (other.units, other.k):
            raise StoreError(
                f"A state of {other.units} units and k={other.k} cannot be merged into one of "
                f"{self.units} units and k={self.k}: both must watch the same layers with the same k."
            )
        self.flush()
        other.flush()
        device = self._keys.device
        self._keys, self._positions = _best(
            torch.cat((self._keys, other._keys.to(device)), dim=2),
            torch.cat((self._positions, other._positions.to(device)), dim=2),
            min(self.k, self.count + other.count),
        )
        self._moments.merge(other._moments.to(device))

    def top(self) -> Ranking:
        """The highest activations, highest first."""
        return self._ranking(0)

    def bottom(self) -> Ranking:
        """The lowest activations, lowest first."""
        return self._ranking(1)

    def _ranking(self, side: int) -> Ranking:
        self.flush()
        keys = self._keys[side]
        values = _ordered((keys >> 32).int()).view(torch.float32)
        # Adding 0.0 turns the -0.0 of a negated zero into 0.0.
        return Ranking(_SIGNS[side] * values + 0.0, _LOW_WORD - (keys & _LOW_WORD), self._positions[side])

    def mean(self) -> Tensor:
        """The mean over images, (units,) float64."""
        self.flush()
        return self._total()[1].clone()

    def std(self) -> Tensor:
        """The standard deviation over images, (units,) float64: the root of the mean squared deviation."""
        self.flush()
        count, _, squares = self._total()
        return (squares / max(count, 1)).sqrt()

    def _total(self) -> Node:
        zeros = torch.zeros(self.units, dtype=torch.float64, device=self._keys.device)
        return self._moments.total() or (0, zeros, zeros)

    def to_dict(self) -> dict[str, Any]:
        """The state as tensors and numbers that `torch.save` writes and `from_dict` takes, on the CPU."""
        self.flush()
        return {
            "k": self.k,
            "units": self.units,
            "keys": self._keys.cpu(),
            "positions": self._positions.cpu(),
            "moments": self._moments.to("cpu").nodes,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], device: torch.device | str = "cpu") -> TopK:
        """The state that `to_dict` described."""
        state = cls(units=data["units"], k=data["k"], device=device)
        state._keys, state._positions = data["keys"].to(device), data["positions"].to(device)
        state._moments = Moments(dict(data["moments"])).to(device)
        return state


def _best(keys: Tensor, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` greatest keys of each row, in order, and their positions."""
    best, order = keys.topk(width, dim=-1)
    return best, positions.gather(-1, order)


def _to_keys(values: Tensor, images: Tensor) -> Tensor:
    """One int64 a pair of value (float32) and image, in the order of the ranking: none are equal."""
    return (_ordered((values + 0.0).view(torch.int32)).long() << 32) | (_LOW_WORD - images)


def _ordered(bits: Tensor) -> Tensor:
    """The bits of float32 numbers as int32 numbers in the same order, and back.

    IEEE 754 stores sign and magnitude: among negative numbers the order of the bits is reversed.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
