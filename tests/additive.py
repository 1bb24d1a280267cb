"""Networks whose parts have known effects on the score."""

import math

from torch import nn

import memviz
from memviz.explanation.measure import REPLACEMENTS
from memviz.models import InputSpec

INPUTS = InputSpec(size=(4, 4), resize=(4, 4))


class Channel(nn.Module):
    """The mean of one colour, (N, 1)."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, pictures):
        return pictures[:, self.channel].mean((1, 2))[:, None]


class Additive(nn.Module):
    """`weights[0] * red + weights[1] * green`, each by a branch of its own, and what comes after it."""

    def __init__(self, *weights, after=None):
        super().__init__()
        self.red, self.green = Channel(0), Channel(1)
        self.weights = weights
        self.after = nn.Identity() if after is None else after

    def forward(self, pictures):
        return self.after(self.weights[0] * self.red(pictures) + self.weights[1] * self.green(pictures))


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, numbers):
        return numbers + self.by


def wrapped(network, inputs=INPUTS, branches=("red", "green"), **options):
    return memviz.wrap(network.eval(), inputs, "tiny", "memorability", branches, **options)


def find(effects, address):
    return [effects.effect(address, replacement) for replacement in REPLACEMENTS]


def flat(one):
    estimates = [one.mean_change, one.share, one.spearman]
    return [one.largest_change, one.sd] + [each.value if each else math.nan for each in estimates]
