"""What a depth profile found, layer by layer and in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memviz.explanation.effect import LEVEL, RESAMPLES, Estimate
from memviz.explanation.partition import Errors, scaled
from memviz.explanation.perceptual import Features
from memviz.explanation.similarity import dissimilarities, pair_ranks, rank_correlations
from memviz.files import replacing, write_json
from memviz.layers.unit import lies_in
from memviz.layers.weights import check_weights, finding
from memviz.models import Model
from memviz.models.weights import finding as recorded_finding

if TYPE_CHECKING:
    import pandas as pd

PAPER = {"alexnet": "perceptual", "resnet": "conceptual"}
"""What Needell and Bainbridge 2022 say of the branches of ResMem."""

_OF_BRANCHES = ("only_perceptual", "only_conceptual", "balance")
_Values = NDArray[np.float64]


@dataclass(frozen=True)
class LayerDepth:
    """What explains a layer.

    Attributes:
        address: of the layer.
        branch: in which it lies; empty where there are none.
        convolutions: of its branch, shortcuts not counted, up to its end.
        twin: whether this is the twin with random weights.
        units: how many were explained.
        still: how many have the same value on half of the photographs or more, and were not drawn from.
        perceptual, conceptual, both: mean over the units of R^2 on held-out photographs.
        only_perceptual, only_conceptual: of both, what the other set does not explain.
        balance: `only_conceptual` less `only_perceptual`, which is also `conceptual` less `perceptual`, whatever both
            together explain: above 0 the layer is rather conceptual.
        similarity_perceptual, similarity_conceptual: Spearman's correlation of its dissimilarities, over all its
            units that vary, with those of the features; None where too few units vary to tell pairs apart.
    """

    address: str
    branch: str
    convolutions: int
    twin: bool
    units: int
    still: int
    perceptual: Estimate
    conceptual: Estimate
    both: Estimate
    only_perceptual: Estimate
    only_conceptual: Estimate
    balance: Estimate
    similarity_perceptual: Estimate | None
    similarity_conceptual: Estimate | None


@dataclass(frozen=True)
class BranchDepth:
    """A branch as a whole, or a network without branches.

    Attributes:
        branch: empty where there are none.
        only_perceptual, only_conceptual, balance: means over its layers of what `LayerDepth` calls so.
        twin: the mean balance of the twin with random weights; None where it was not measured.
        learned: `balance` less `twin`, with the interval of the difference.
    """

    branch: str
    only_perceptual: Estimate
    only_conceptual: Estimate
    balance: Estimate
    twin: Estimate | None
    learned: Estimate | None


@dataclass(frozen=True)
class Depth:
    """A network's depth profile.

    Attributes:
        model, weights: the model's name and fingerprint.
        concepts: the name of the network whose classes are the conceptual features.
        own_concepts: whether that is the model itself, so that its deep layers feed what they are compared with.
        photographs: how many there were.
        statistic: "peak" or "mean", which was taken of each unit.
        layers: in executed order; first the model's, then the twin's.
        branches: one entry each.
        warnings: by branch, what is known of its weights, where it is at its random start.
        seed: of everything that was drawn.
    """

    model: str
    weights: str
    concepts: str
    own_concepts: bool
    photographs: int
    statistic: str
    layers: tuple[LayerDepth, ...]
    branches: tuple[BranchDepth, ...]
    warnings: dict[str, str]
    seed: int

    @property
    def verdict(self) -> list[str]:
        """The whole in sentences: the paper's claim, where the branches are its own, and each branch."""
        sentences = [self.claim] if self.claim else []
        sentences += [self._describe(each) for each in self.branches]
        if self.own_concepts:
            sentences.append(
                f"The concepts are {self.model}'s own class outputs, which its deep layers feed: that these are "
                "conceptual is partly so by construction. Compare with another network's classes."
            )
        return sentences

    @property
    def claim(self) -> str:
        """Whether the paper's claim holds for this network, in a sentence; empty where its branches are others."""
        found = {each.branch: each.balance for each in self.branches}
        if not found.keys() >= PAPER.keys():
            return ""
        holds = {branch: _kind(found[branch]) == kind for branch, kind in PAPER.items()}
        sentence = "The paper's claim, AlexNet perceptual and ResNet conceptual, "
        if all(holds.values()):
            sentence += "holds for this network"
        elif any(holds.values()):
            sentence += f"holds for {next(branch for branch, held in holds.items() if held)} alone"
        else:
            sentence += "does not hold for this network"
        parts = [f"{branch} {_points(found[branch])}" for branch in PAPER]
        sentence += f": unique conceptual less unique perceptual share, mean over layers, {'; '.join(parts)}."
        for branch in PAPER.keys() & self.warnings.keys():
            sentence += f" But of {branch} it says nothing about learning ({self.warnings[branch]})."
        return sentence

    def _describe(self, each: BranchDepth) -> str:
        own = [layer for layer in self.layers if layer.branch == each.branch and not layer.twin]
        kind = _kind(each.balance) or "neither more perceptual nor more conceptual"
        deepest = own[-1]
        told = (
            f"{each.branch or self.model}: {kind} on the whole; over {len(own)} layers perceptual features uniquely "
            f"explain {each.only_perceptual.value:.1%} and conceptual ones {each.only_conceptual.value:.1%}, a "
            f"difference of {_points(each.balance)}; at its deepest layer, {deepest.address}, "
            f"{_points(deepest.balance)}"
        )
        if each.twin and each.learned:
            told += f"; its twin with random weights {_points(each.twin)}, from which it differs by "
            told += _points(each.learned)
        others = [place for place, layer in enumerate(own) if layer.balance.low <= 0]
        if others and others[-1] + 1 < len(own):  # what is conceptual and stays so
            turn = own[others[-1] + 1]
            told += f"; of these layers, conceptual from {turn.address} on ({turn.convolutions} convolutions deep)"
        if each.branch in self.warnings:
            told += f". Beware: {self.warnings[each.branch]}"
        return f"{told}."

    def frame(self) -> pd.DataFrame:
        """A row a layer: what `LayerDepth` holds, each estimate as three columns: perceptual, perceptual_low, ..."""
        import pandas as pd

        rows = []
        for layer in self.layers:
            row: dict[str, Any] = {}
            for name, value in vars(layer).items():
                if isinstance(value, Estimate):
                    row |= Estimate.columns(name, value)
                else:
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `depth.json`, `layers.csv` and the figure as PNG and PDF."""
        from memviz.evaluation.plots import save
        from memviz.explanation.depth_figure import depth_figure

        folder = Path(folder)
        save(depth_figure(self), folder / "depth")
        with replacing(folder / "layers.csv") as temporary:
            self.frame().to_csv(temporary, index=False)
        write_json(folder / "depth.json", asdict(self))  # last: where it is, the others are

    def __str__(self) -> str:
        return "\n".join(self.verdict)


@dataclass(frozen=True, eq=False)
class Row:
    """The activations of a layer: `values` (photographs, all units), of which `channels` are explained."""

    address: str
    branch: str
    convolutions: int
    twin: bool
    channels: NDArray[np.intp]
    still: int
    values: NDArray[np.float32]


def profile(
    rows: Sequence[Row], errors: Errors, perceptual: Features, conceptual: Features, seed: int
) -> tuple[tuple[LayerDepth, ...], tuple[BranchDepth, ...]]:
    """Shares and similarities with their intervals.

    Args:
        rows: of the network, then of the twin, each in executed order.
        errors: of the chosen units of all rows, one row after the other.
        perceptual, conceptual: features of the same photographs.
        seed: of the resamples.
    """
    random = np.random.default_rng([seed, 1])
    photographs = len(errors.base)
    # The first row is no resample: every photograph once.
    drawn = random.multinomial(photographs, np.full(photographs, 1 / photographs), RESAMPLES)
    weights = np.vstack([np.ones(photographs), drawn]).astype(np.float64)
    shares = errors.shares(weights)
    ranks = {
        name: pair_ranks(dissimilarities(scaled(features)))
        for name, features in (("perceptual", perceptual), ("conceptual", conceptual))
    }
    found: list[dict[str, _Values]] = []
    start = 0
    for row in rows:
        columns = slice(start, start := start + len(row.channels))
        counts = random.multinomial(len(row.channels), np.full(len(row.channels), 1 / len(row.channels)), RESAMPLES)
        units = np.vstack([np.ones(len(row.channels)), counts]) / len(row.channels)
        own = {name: (share[:, columns] * units).sum(1) for name, share in shares.items()}
        own["only_perceptual"] = own["both"] - own["conceptual"]
        own["only_conceptual"] = own["both"] - own["perceptual"]
        own["balance"] = own["only_conceptual"] - own["only_perceptual"]
        alike = pair_ranks(dissimilarities(_standardize(row.values)))
        for name, other in ranks.items():
            own[f"similarity_{name}"] = rank_correlations(alike, other, weights)
        found.append(own)
    layers = tuple(
        LayerDepth(
            row.address,
            row.branch,
            row.convolutions,
            row.twin,
            len(row.channels),
            row.still,
            **{name: None if np.isnan(values[0]) else _estimate(values) for name, values in own.items()},  # type: ignore[arg-type]
        )
        for row, own in zip(rows, found, strict=True)
    )
    branches = []
    for branch in dict.fromkeys(row.branch for row in rows if not row.twin):
        trained, control = (
            [each for row, each in zip(rows, found, strict=True) if (row.branch, row.twin) == (branch, twin)]
            for twin in (False, True)
        )
        means = {name: np.mean([each[name] for each in trained], axis=0) for name in _OF_BRANCHES}
        random_weights = np.mean([each["balance"] for each in control], axis=0) if control else None
        branches.append(
            BranchDepth(
                branch,
                **{name: _estimate(values) for name, values in means.items()},
                twin=None if random_weights is None else _estimate(random_weights),
                learned=None if random_weights is None else _estimate(means["balance"] - random_weights),
            )
        )
    return layers, tuple(branches)


def units_frame(rows: Sequence[Row], errors: Errors) -> pd.DataFrame:
    """A row a unit: address, channel, twin, and its shares."""
    import pandas as pd

    shares = errors.shares()
    table = pd.DataFrame(
        [(row.address, int(channel), row.twin) for row in rows for channel in row.channels],
        columns=["address", "channel", "twin"],
    ).assign(**shares)
    table["only_perceptual"] = table["both"] - table["conceptual"]
    table["only_conceptual"] = table["both"] - table["perceptual"]
    return table


def find_warnings(model: Model, weights: str) -> dict[str, str]:
    """By branch, what is amiss with its weights: as the registry knows it, or as `memviz checkup` judges them."""
    checked = check_weights(model.module)
    found = {}
    for branch in model.branches or ("",):
        known = recorded_finding(weights, branch) if branch else ""
        found[branch] = known or finding([each for each in checked if not branch or lies_in(each.address, branch)])
    return {branch: text for branch, text in found.items() if text}


def _standardize(values: NDArray[np.float32]) -> _Values:
    numbers = values.astype(np.float64)
    spread = numbers.std(0)
    varied = spread > 0
    found: _Values = (numbers[:, varied] - numbers[:, varied].mean(0)) / spread[varied]
    return found


def _estimate(values: _Values) -> Estimate:
    """The first value, and the interval of the others."""
    low, high = np.nanquantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def _kind(balance: Estimate) -> str:
    return "perceptual" if balance.high < 0 else "conceptual" if balance.low > 0 else ""


def _points(each: Estimate) -> str:
    low, high = 100 * each.low, 100 * each.high
    return f"{100 * each.value:+z.1f} points (95 %: {low:+z.1f} to {high:+z.1f})"
