"""Mean and deviation of images that arrive in any order, to the last bit."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

Node = tuple[int, Tensor, Tensor]
"""How many images, the mean of each unit, and its sum of squared deviations."""


class Moments:
    """The moments of blocks of images, which are added up in an order that is that of the images, whoever brings them.

    Rounding depends on the order of additions. So blocks are the leaves of a binary tree, each node with a level and a
    place: two neighbours become their parent as soon as both are there, the lower one first. Of n blocks about log2(n)
    nodes are kept at a time, if they come in order.

    Attributes:
        nodes: by level and place, those whose sibling is not there yet.
    """

    def __init__(self, nodes: dict[tuple[int, int], Node] | None = None) -> None:
        self.nodes = nodes or {}

    @property
    def count(self) -> int:
        """How many images."""
        return sum(count for count, _, _ in self.nodes.values())

    def add(self, level: int, place: int, node: Node) -> None:
        """Adds a block (level 0) or a node; a second part of the same is right, but as exact as rounding is."""
        while (level, place) not in self.nodes and (level, place ^ 1) in self.nodes:
            sibling = self.nodes.pop((level, place ^ 1))
            node = _sum(sibling, node) if place & 1 else _sum(node, sibling)
            level, place = level + 1, place >> 1
        there = self.nodes.get((level, place))
        self.nodes[level, place] = node if there is None else _sum(there, node)

    def merge(self, other: Moments) -> None:
        """Adds all nodes of other images."""
        for (level, place), node in other.nodes.items():
            self.add(level, place, node)

    def total(self) -> Node | None:
        """The moments of all images; None of none."""
        return reduce(_sum, (self.nodes[key] for key in sorted(self.nodes, key=lambda key: key[1] << key[0])), None)

    def to(self, device: torch.device | str) -> Moments:
        """The same on a device."""
        return Moments({key: (count, a.to(device), b.to(device)) for key, (count, a, b) in self.nodes.items()})


def _sum(one: Node | None, other: Node) -> Node:
    # Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", equation 2.1.
    if one is None:
        return other
    count = one[0] + other[0]
    delta = other[1] - one[1]
    mean = one[1] + delta * (other[0] / count)
    return count, mean, one[2] + other[2] + delta.square() * (one[0] * other[0] / count)
