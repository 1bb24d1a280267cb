"""What `memviz quality` found, layer by layer and in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.explanation.effect import Estimate
from memviz.files import replacing, write_json

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("photographs", "alike", "renders")
"""By what units are explained: photographs, as many photographs as there are pictures, and pictures."""

LEAST = 5  # units, below which nothing is said of a layer


@dataclass(frozen=True)
class Choice:
    """The forced choice of a layer's units, by one kind of explanations; figures are means over units.

    Attributes:
        kind: one of `KINDS`.
        positives, negatives: explanations of a unit, at most.
        accuracy: share of tasks that are solved; a coin solves .5.
        score: the machine interpretability score (`memviz.explanation.forced_choice`).
        shuffled: the accuracy with the explanations of other units; None where there is one unit.
        gain: `accuracy` less `shuffled`.
    """

    kind: str
    positives: int
    negatives: int
    accuracy: Estimate
    score: Estimate
    shuffled: Estimate | None
    gain: Estimate | None

    @property
    def told(self) -> str:
        """Whether the explanations explain, in words: better than a coin, and than those of other units."""
        if self.accuracy.low <= 0.5:
            return "not better than chance"
        if self.gain and self.gain.low > 0:
            return "better than chance"
        return "better than a coin, but not than with the explanations of the layer's other units"


@dataclass(frozen=True)
class PathSimilarity:
    """How alike units' pictures and photographs are to a layer on their way (`memviz.explanation.path_similarity`).

    Attributes:
        address: of that layer.
        synthetic: mean rank correlation of a unit's pictures and its photographs.
        same: of two of its photographs.
        other: of a photograph of it and one of another unit.
        normalized: the share of the way from `other` to `same`; None where the interval of that way reaches 0.
    """

    address: str
    synthetic: float
    same: float
    other: float
    normalized: Estimate | None


@dataclass(frozen=True)
class LayerQuality:
    """What there is to say of a layer's pictures.

    Attributes:
        address: of the layer.
        branch: in which it lies; empty where there are none.
        units: that pictures were drawn of.
        live: of these, those that a photograph excites above zero.
        wins: of these, those whose picture succeeds (`memviz.layers.unit`): of several the best one.
        share: `wins` of `live`; None without any.
        ratio: median over live units of the picture's peak as a multiple of the best photograph's; None without any.
        asked: units of the forced choice, whose photographs differ and that have a picture.
        choices: one for each of `KINDS`; none where no unit was asked.
        difference: accuracy with pictures less that with as many photographs.
        path: of layers up to this one, from shallow to deep; empty for fewer than two units.
    """

    address: str
    branch: str
    units: int
    live: int
    wins: int
    share: Estimate | None
    ratio: float | None
    asked: int
    choices: tuple[Choice, ...]
    difference: Estimate | None
    path: tuple[PathSimilarity, ...]

    @property
    def own(self) -> Estimate | None:
        """The normalized path similarity at the layer itself."""
        return self.path[-1].normalized if self.path and self.path[-1].address == self.address else None

    def sentences(self, encoder: str) -> Iterator[str]:
        """In words: who wins, what explains, and on which path.

        Args:
            encoder: by whose eyes.
        """
        if self.share:
            times = "" if self.ratio is None else f"; the median picture reaches {self.ratio:.2f} times as much"
            yield f"{self.wins} of {self.live} live units, {_percent(self.share)}, prefer their picture to the best "
            yield f"photograph{times}"
        else:
            yield "no photograph excites any of its units"
        if self.asked < LEAST:
            yield f". {self.asked} units that can be asked about are too few to say more"
            return
        for choice in self.choices:
            if choice.kind == "alike":
                continue
            yield f". Seen by {encoder}, {_many(choice)} what excites a unit in {_percent(choice.accuracy)} of "
            yield f"choices, and those of another unit in {_percent(choice.shuffled)}: {choice.told}"
        if self.difference:
            low, value, high = (
                -100 * each for each in (self.difference.high, self.difference.value, self.difference.low)
            )
            yield f"; as many photographs change that by {value:+.1f} points (95 %: {low:+.1f} to {high:+.1f})"
        if not self.path:
            return
        if self.own is None:
            yield ". To the layer as a whole, photographs of one unit are no more alike than those of different ones"
        else:
            yield f". To the layer as a whole, pictures are {_percent(self.own)} of the way from photographs of other "
            yield "units to those of the same one"
        on = [each.normalized for each in self.path[:-1] if each.normalized]
        if on:
            yield f"; on the way there, {min(each.value for each in on):.0%} to {max(each.value for each in on):.0%}"


@dataclass(frozen=True)
class Quality:
    """Whether pictures of units are true.

    Attributes:
        model, weights: the model's name and fingerprint.
        encoder, licence: by whose eyes pictures were compared, and the licence of its weights.
        photographs: how many tasks were drawn from.
        config: `QualityConfig` as plain data.
        layers: in executed order.
        warnings: by branch, what is known of its weights, where they are at their random start.
        seed: of everything that was drawn.
    """

    model: str
    weights: str
    encoder: str
    licence: str
    photographs: int
    config: dict[str, Any]
    layers: tuple[LayerQuality, ...]
    warnings: dict[str, str]
    seed: int

    @property
    def verdict(self) -> list[str]:
        """A paragraph a layer."""
        found = []
        for layer in self.layers:
            told = f"{layer.address}: {''.join(layer.sentences(self.encoder))}."
            if layer.branch in self.warnings:
                told += f" Beware: {self.warnings[layer.branch]}."
            found.append(told)
        return found

    def frame(self) -> pd.DataFrame:
        """A row a layer: the counts, and each estimate as three columns, as accuracy_renders, accuracy_renders_low."""
        import pandas as pd

        rows = []
        for layer in self.layers:
            row: dict[str, Any] = {name: getattr(layer, name) for name in ("address", "units", "live", "wins")}
            row |= Estimate.columns("share", layer.share) | {"ratio": layer.ratio, "asked": layer.asked}
            choices = {choice.kind: choice for choice in layer.choices}
            for kind in KINDS:
                for name in ("accuracy", "score", "shuffled", "gain"):
                    row |= Estimate.columns(f"{name}_{kind}", getattr(choices.get(kind), name, None))
            row |= Estimate.columns("difference", layer.difference) | Estimate.columns("path", layer.own)
            rows.append(row)
        return pd.DataFrame(rows)

    def path_frame(self) -> pd.DataFrame:
        """A row a layer and layer on the way to it: address, at, synthetic, same, other, normalized."""
        import pandas as pd

        names = ("synthetic", "same", "other")
        return pd.DataFrame(
            [
                {"address": layer.address, "at": each.address, **{name: getattr(each, name) for name in names}}
                | Estimate.columns("normalized", each.normalized)
                for layer in self.layers
                for each in layer.path
            ]
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `quality.json`, `layers.csv`, `path.csv`, and the figure as PNG and PDF."""
        from memviz.evaluation.plots import save
        from memviz.explanation.quality_figure import quality_figure

        folder = Path(folder)
        save(quality_figure(self), folder / "quality")
        for name, table in (("layers", self.frame()), ("path", self.path_frame())):
            with replacing(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
        write_json(folder / "quality.json", asdict(self))  # last: where it is, the others are

    def __str__(self) -> str:
        return "\n".join(self.verdict)


def _many(choice: Choice) -> str:
    """Explanations by their number, as "its 9 best and 9 lowest photographs tell"."""
    if choice.kind == "photographs":
        return f"its {choice.positives} best and {choice.negatives} lowest photographs tell"
    drawn = f"{choice.positives} picture{'s' if choice.positives > 1 else ''} of what it wants"
    if choice.negatives:
        return f"{drawn} and {choice.negatives} of what it wants least tell"
    return f"{drawn} {'tell' if choice.positives > 1 else 'tells'}"


def _percent(each: Estimate | None) -> str:
    return "none" if each is None else f"{each.value:.0%} (95 %: {each.low:.0%} to {each.high:.0%})"
