"""Does the score change as contributions say? Units are replaced, and what becomes of the logit is compared.

A unit is replaced on each photograph **by its mean** over the photographs and positions, and **by another
photograph's** values, at each position; the rest of its layer stays. Its **effect** is the logit before minus that
after: what it adds by being what it is. `memviz.explanation.effect` replaces whole layers likewise, and names the
sources.

Replaced are the strongest units of a layer by a survey (`memviz.explanation.drivers`), the weakest, and units drawn at
random from the others. Contributions are those to the same photographs, so that only the approximation is tested, not
the sample; how well the whole survey predicts these effects is a figure of its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from memviz.errors import ImageError, StoreError
from memviz.evaluation.evaluate import FEW
from memviz.evaluation.metrics import bootstrap_interval, spearman
from memviz.explanation.drivers import Drivers
from memviz.explanation.effect import LEVEL, RESAMPLES, Estimate
from memviz.explanation.measure import Reading
from memviz.explanation.moments import Numbers
from memviz.explanation.replay import Replay
from memviz.explanation.survey import Survey
from memviz.files import read_json, write_json
from memviz.images import stream
from memviz.index import Index
from memviz.layers import isolated
from memviz.models import Model
from memviz.progress import progress as show_progress

if TYPE_CHECKING:
    import pandas as pd

Group = Literal["strongest", "weakest", "random"]
COUNT, PHOTOGRAPHS = 32, 24  # units of each kind; ResNet-152's layer2 takes a quarter of an hour of one processor
BATCH = 8  # photographs in one pass


@dataclass(frozen=True)
class AblatedUnit:
    """A unit that was replaced.

    Attributes:
        channel: of the layer.
        group: why it was chosen.
        surveyed: its contribution in the survey.
        contribution, strength, drive: as `Moments.figures` says, over the photographs on which it was replaced.
        by_mean: its mean effect, replaced by its mean.
        size_by_mean: the root mean square of that effect, to be compared with the strength.
        drive_by_mean: what `drive` says, with the effect in the contribution's place.
        by_other, size_by_other: mean effect and root mean square, replaced by another photograph's values.
    """

    channel: int
    group: Group
    surveyed: float
    contribution: float
    strength: float
    drive: float
    by_mean: float
    size_by_mean: float
    drive_by_mean: float
    by_other: float
    size_by_other: float


@dataclass(frozen=True)
class Ablation:
    """What became of the logit when units of a layer were replaced.

    Attributes:
        address: of the layer.
        photographs: on how many.
        count: units of each group that were asked for.
        seed: of the photographs, the random units and the intervals.
        survey: photographs of the survey.
        units: that were replaced.
    """

    address: str
    photographs: int
    count: int
    seed: int
    survey: int
    units: tuple[AblatedUnit, ...]

    def correlation(self, one: str, two: str, groups: Iterable[Group] | None = None) -> Estimate | None:
        """Spearman's rank correlation of two figures over the units, by their names, with its bootstrap interval.

        Args:
            one, two: attributes of `AblatedUnit`.
            groups: of these units only.

        Returns:
            The figure with the interval in which that of other units of the kind is expected; None where one of the
            figures is the same for all.
        """
        units = [each for each in self.units if groups is None or each.group in groups]
        first, second = ([getattr(each, name) for each in units] for name in (one, two))
        if len(set(first)) < 2 or len(set(second)) < 2:
            return None
        return Estimate(
            spearman(first, second), *bootstrap_interval(first, second, spearman, RESAMPLES, LEVEL, self.seed)
        )

    def ratio(self) -> float | None:
        """How much larger the strongest units' effect (`size_by_mean`, its mean) is than that of random ones."""
        strong, usual = (
            [each.size_by_mean for each in self.units if each.group == group] for group in ("strongest", "random")
        )
        return float(np.mean(strong) / np.mean(usual)) if strong and usual and np.mean(usual) > 0 else None

    def frame(self) -> pd.DataFrame:
        """A row a unit."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.units])

    def __str__(self) -> str:
        def told(found: Estimate | None) -> str:
            return "not defined" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"

        ratio = self.ratio()
        lines = [
            f"{self.address}: {len(self.units)} units replaced on {self.photographs} photographs; rank correlations "
            f"(95 %, over units):",
            f"  contribution and effect, by the mean: {told(self.correlation('contribution', 'by_mean'))}",
            f"  the same of the random units alone: {told(self.correlation('contribution', 'by_mean', ['random']))}",
            f"  contribution and effect, by another photograph's values: "
            f"{told(self.correlation('contribution', 'by_other'))}",
            f"  strength and size of the effect, by the mean: {told(self.correlation('strength', 'size_by_mean'))}",
            f"  drive, by contribution and by effect: {told(self.correlation('drive', 'drive_by_mean'))}",
            f"  the survey's contribution over {self.survey} photographs and effect: "
            f"{told(self.correlation('surveyed', 'by_mean'))}",
        ]
        if ratio is not None:
            lines.append(f"  the strongest units' effect is {ratio:.3g} times that of random ones")
        return "\n".join(lines)


def ablate(
    model: Model,
    index: Index,
    survey: Drivers,
    layer: str,
    *,
    count: int = COUNT,
    photographs: int = PHOTOGRAPHS,
    seed: int = 0,
    progress: bool | None = None,
) -> Ablation:
    """Replaces units of a layer one by one, and keeps what it finds beside the survey; the same call reads it.

    What comes before the layer runs once a photograph, the rest twice for each unit.

    Args:
        model: of the survey; it stays as it is.
        index: of the survey: its photographs are drawn.
        survey: chooses the units.
        layer: address of one of its layers.
        count: how many of the strongest, of the weakest and of others, at random; a layer that has fewer than three
            times as many is divided into thirds.
        photographs: how many are drawn.
        seed: of the photographs, the random units and the intervals.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        LayerError: a layer that was not surveyed.
        StoreError: an index or a survey of other weights.
        ImageError: fewer than 12 photographs can be read.
    """
    index.check_model(model)
    if survey.manifest.weights != index.manifest.weights:
        raise StoreError(f"The survey {survey.path} is of other weights than the index {index.path}. Make it again.")
    chosen = _choose(survey, layer, count, seed)
    path = survey.path / f"ablation-{layer}.json"
    asked = (layer, count, seed, survey.photographs)
    if path.is_file():
        found = read_json(path, Ablation)
        if (found.address, found.count, found.seed, found.survey) == asked and found.photographs == photographs:
            return found
    pictures = _read(model, Reading.draw(index, photographs, seed, BATCH, 2, progress))
    effects, figures, levels = _measure(model, layer, list(chosen), pictures, progress)
    surveyed = survey.frame(layer)["contribution"]
    units = []
    for place, (channel, group) in enumerate(chosen.items()):
        by_mean, by_other = effects[:, place]
        own = {name: float(figures[name][channel]) for name in ("contribution", "strength", "drive")}
        units.append(
            AblatedUnit(
                channel,
                group,
                float(surveyed[channel]),
                by_mean=float(by_mean.mean()),
                size_by_mean=_size(by_mean),
                drive_by_mean=_drive(by_mean, levels[place]),
                by_other=float(by_other.mean()),
                size_by_other=_size(by_other),
                **own,
            )
        )
    ablation = Ablation(layer, len(pictures), count, seed, survey.photographs, tuple(units))
    write_json(path, asdict(ablation))
    return ablation


def load_ablations(survey: Drivers) -> list[Ablation]:
    """What `ablate` kept beside a survey, in the order of its layers."""
    paths = [survey.path / f"ablation-{layer}.json" for layer in survey.layers]
    return [read_json(path, Ablation) for path in paths if path.is_file()]


def _choose(survey: Drivers, layer: str, count: int, seed: int) -> dict[int, Group]:
    ranked = survey.strongest(layer, survey.layers.get(layer, 0))["channel"].tolist()
    each = max(1, min(count, len(ranked) // 3))
    rest = ranked[each:-each]
    drawn = np.random.default_rng(seed).permutation(rest)[: count if len(ranked) >= 3 * count else None]
    return {
        **dict.fromkeys(ranked[:each], "strongest"),
        **dict.fromkeys(ranked[-each:] if len(ranked) > each else [], "weakest"),
        **dict.fromkeys(drawn.tolist(), "random"),
    }


def _read(model: Model, reading: Reading) -> Tensor:
    """The photographs that can be read (N, 3, H, W)."""
    batches = stream(reading.paths, model.inputs.from_pil, BATCH, workers=reading.workers, hashes=reading.hashes)
    pictures = torch.cat([batch.pictures for batch in batches if len(batch.indices)] or [torch.empty(0)])
    if len(pictures) < FEW:
        raise ImageError(
            f"{len(pictures)} of {len(reading.paths)} photographs can be read, and on fewer than {FEW} no effect can "
            "be measured. Build an index of more photographs."
        )
    return pictures.to(model.device, model.dtype)


def _measure(
    model: Model, layer: str, channels: list[int], pictures: Tensor, progress: bool | None
) -> tuple[Numbers, dict[str, Numbers], Numbers]:
    """Effects (2, units, photographs), the layer's figures, and the units' mean activations (units, photographs)."""
    # Of equal size, since in a batch of one there is no other photograph.
    batches = pictures.tensor_split(math.ceil(len(pictures) / BATCH))
    survey = Survey(model, {layer: model.layers[layer].channels})
    figures = reduce(operator.add, map(survey.add, batches)).figures()
    replay = Replay(model, layer)
    effects, levels = [], []
    with (
        isolated(model.device),
        show_progress(f"Replacing units of {layer}", len(channels) * len(pictures), "units", progress) as advance,
    ):
        for batch in batches:
            before = replay.record(batch).double()
            output = replay.output
            levels.append(output[:, channels].flatten(2).mean(2) if output.dim() > 2 else output[:, channels])
            found = torch.empty(2, len(channels), len(batch), dtype=torch.float64)
            for place, channel in enumerate(channels):
                own = output[:, channel].clone()
                for way, values in enumerate((figures["mean"][channel], own.roll(1, 0))):
                    output[:, channel] = values
                    found[way, place] = (before - replay.run(output).double()).cpu()
                output[:, channel] = own
                advance(len(batch))
            effects.append(found)
    return torch.cat(effects, 2).numpy(), figures, torch.cat(levels).double().T.cpu().numpy()


def _size(effects: Numbers) -> float:
    return float(np.sqrt(np.square(effects).mean()))


def _drive(effects: Numbers, levels: Numbers) -> float:
    spread = levels.std()
    together = np.mean((effects - effects.mean()) * (levels - levels.mean()))
    return float(together / spread) if spread > 0 else 0.0
