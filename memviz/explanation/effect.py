"""Does it matter? What becomes of the score when the output of a branch or a layer is replaced.

An output is replaced in two ways. **By its mean** over the photographs: it still has its usual size, but says nothing
of the photograph (mean ablation; Morcos et al. 2018, "On the importance of single directions for generalization"). And
**by another photograph's** output, which no mean of photographs resembles as little (permutation importance; Breiman
2001, "Random forests", section 10): the photographs are put in a random order, and each gets what its predecessor gave,
the first what the last gave, so that none keeps its own.

The **share** of the score's variance that goes is, with f the score before and g after,

- by the mean: `Var(f - g) / Var f`; that all scores move alike is no loss,
- by others: the total-effect index of Sobol in Jansen's form, `E (f - g)^2 / (2 Var f)` (Jansen 1999, "Analysis of
  variance designs for model output").

Both are 0 for what does not matter, and, where the score is a sum of terms that are independent of each other, the
variance of the layer's term as a share of the whole. Layers and branches look at the same photographs, so shares need
not add up to 1, and may exceed it.

**On the logit**: where a network ends in an `nn.Sigmoid`, shares and rank correlations are those of its input, since a
saturated sigmoid hides effects; elsewhere those of the score before it is clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from memviz.errors import LayerError, ModelError, StoreError
from memviz.evaluation.metrics import Statistic, bootstrap_interval, mae, spearman
from memviz.explanation.measure import Measured, Reading, Replacement, measure
from memviz.index import Index
from memviz.models import Model
from memviz.models.model import warn_unreadable

if TYPE_CHECKING:
    import pandas as pd

LEVEL, RESAMPLES = 0.95, 1000  # of the bootstrap intervals
# Scores that differ by less than the rounding of 32-bit numbers are equal: a few units in the last place.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
_Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval in which that of other photographs of the same kind is expected."""

    value: float
    low: float
    high: float

    @staticmethod
    def columns(name: str, found: Estimate | None) -> dict[str, float]:
        """An estimate in a table's row, also `_low` and `_high`; NaN where it is not defined.

        >>> Estimate.columns("share", Estimate(0.5, 0.4, 0.6))
        {'share': 0.5, 'share_low': 0.4, 'share_high': 0.6}
        """
        numbers = (found.value, found.low, found.high) if found else [float("nan")] * 3
        return dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))


@dataclass(frozen=True)
class Effect:
    """What becomes of the score when a module's output is replaced.

    Attributes:
        address: of the module.
        replacement: "mean", or "other" for another photograph's.
        mean_change: mean absolute change of the score, in its unit.
        largest_change: over the photographs; without an interval, since the bootstrap of an extreme is not valid
            (Bickel and Freedman 1981).
        sd: standard deviation of the score afterwards, in its unit, with n - 1.
        spearman: rank correlation of the score before and after; None where all scores are equal, before or after.
        share: of the score's variance that goes; None where the score had none.
    """

    address: str
    replacement: Replacement
    mean_change: Estimate
    largest_change: float
    sd: float
    spearman: Estimate | None
    share: Estimate | None


@dataclass(frozen=True)
class Effects:
    """The effects of some modules on the score, over the same photographs.

    Attributes:
        model, weights: the model's name and fingerprint.
        target: what its score means, as "memorability".
        scale: of `spearman` and `share`: "logit", or "score".
        photographs: how many there were.
        sd: standard deviation of their scores, with n - 1.
        effects: two for each module, "mean" and "other".
        unreadable: path of a file that was skipped, and why.
        seed: of the photographs' order, by which they are drawn and exchanged, and of the bootstrap.
        level, resamples: of the bootstrap.
        notes: what a reader must know, as that the score has no variance.
    """

    model: str
    weights: str
    target: str | None
    scale: Literal["logit", "score"]
    photographs: int
    sd: float
    effects: tuple[Effect, ...]
    unreadable: dict[str, str]
    seed: int
    level: float
    resamples: int
    notes: tuple[str, ...] = ()

    def effect(self, address: str, replacement: Replacement) -> Effect:
        """That of one module, replaced in one way; an unknown one is a `LayerError`."""
        for each in self.effects:
            if (each.address, each.replacement) == (address, replacement):
                return each
        measured = ", ".join(dict.fromkeys(each.address for each in self.effects))
        raise LayerError(
            f"The effect of {address!r}, replaced by {replacement!r}, was not measured; of {measured} it was."
        )

    def frame(self) -> pd.DataFrame:
        """A row an effect; of each estimate also `_low` and `_high`, NaN where it is not defined."""
        import pandas as pd

        rows = []
        for each in self.effects:
            row: dict[str, Any] = {}
            for name, value in vars(each).items():
                if name in ("mean_change", "spearman", "share"):
                    row |= Estimate.columns(name, value)
                else:
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Effects:
        """What `to_dict` described; a `StoreError` if it is not that."""
        try:
            return msgspec.convert(data, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise StoreError(f"This describes no effects: {error}.") from error


def branch_effects(
    model: Model,
    photographs: Index | str | Path | Iterable[str | Path],
    *,
    sample: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> Effects:
    """How much each of `model.branches` matters to the score.

    Each branch runs once a photograph, or twice where the outputs of all photographs would take more than 1 GB; what
    follows the branches runs twice for each. A network without branches has nothing to compare: replacing the one path
    through it leaves no score, whatever it has learned.

    Args:
        model: with a score; it stays as it is.
        photographs: files and folders, which are searched with their subfolders, or an index: then those that it ranks.
        sample: how many of them are drawn; None takes all.
        seed: of the sample, of whose output replaces whose, and of the intervals.
        batch_size: photographs in one forward pass; beyond rounding it changes nothing.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        The effects, in the branches' order. Unreadable files are skipped, with a warning.

    Raises:
        ModelError: a model without branches, or that does not give one finite number a picture.
        LayerError: a branch that does not run, or does not return one tensor.
        ImageError: no photograph was found, or fewer than 12 can be read.

    Example:
        >>> import memviz
        >>> effects = branch_effects(memviz.load_model("resmem"), "photos/")  # doctest: +SKIP
        >>> effects.effect("alexnet", "mean").largest_change  # doctest: +SKIP
    """
    if not model.branches:
        raise ModelError(
            f"{model.name} has no branches whose effects could be compared. Give layers to layer_effects, or name "
            "top-level modules that work side by side: memviz.wrap(module, inputs, branches=[...])."
        )
    reading = Reading.draw(photographs, sample, seed, batch_size, workers, progress)
    return _effects(model, model.branches, reading, seed)


def layer_effects(
    model: Model,
    photographs: Index | str | Path | Iterable[str | Path],
    layers: str | Iterable[str],
    *,
    sample: int | None = 100,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> Effects:
    """How much each of some layers matters to the score.

    Each layer takes two forward passes of its branch a photograph; branches in which none of the layers is run once.

    Args:
        model: with a score; it stays as it is.
        photographs: files and folders, which are searched with their subfolders, or an index: then those that it ranks.
        layers: addresses of any modules that return one tensor, or ordinals, as "resnet@139".
        sample: how many photographs are drawn; None takes all.
        seed: of the sample, of whose output replaces whose, and of the intervals.
        batch_size: photographs in one forward pass; beyond rounding it changes nothing.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        The effects, in the layers' order. Unreadable files are skipped, with a warning.

    Raises:
        ModelError: the model does not give one finite number a picture.
        LayerError: a layer that the model does not have, that does not run, or does not return one tensor.
        ImageError: no photograph was found, or fewer than 12 can be read.

    Example:
        >>> import memviz
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for red in range(12):
        ...     Image.new("RGB", (4, 4), (20 * red, 0, 0)).save(folder / f"{red}.png")
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 4), torch.nn.Flatten())
        >>> model = memviz.wrap(network, memviz.InputSpec(size=(4, 4), resize=(4, 4)))
        >>> round(layer_effects(model, folder, "0").effect("0", "mean").share.value, 3)
        1.0
    """
    wanted = find_addresses(model, layers)
    if not wanted:
        raise LayerError("No layer was asked for. Give at least one address, such as 'alexnet.conv4'.")
    reading = Reading.draw(photographs, sample, seed, batch_size, workers, progress)
    return _effects(model, wanted, reading, seed)


def find_addresses(model: Model, layers: str | Iterable[str]) -> tuple[str, ...]:
    """The addresses of layers that are given by them or by ordinals, each once."""
    given = [layers] if isinstance(layers, str) else layers
    return tuple(dict.fromkeys(model.layers[each].address if "@" in each else each for each in given))


def _effects(model: Model, addresses: Sequence[str], reading: Reading, seed: int) -> Effects:
    measured = measure(model, addresses, reading)
    warn_unreadable(measured.unreadable, stacklevel=4)
    scores, scaled = _read(model, measured, measured.before)
    effects = []
    for (address, replacement), outputs in measured.after.items():
        changed, rescaled = _read(model, measured, outputs)
        effects.append(_compare(address, replacement, (scores, changed), (scaled, rescaled), seed))
    notes = []
    if _is_flat(scaled):
        notes.append(
            f"All {len(scores)} photographs have the same score, {scores[0]:.4g}: it has no variance, of which a share "
            "could go, and no order."
        )
    return Effects(
        model.name,
        model.fingerprint(),
        model.target,
        "logit" if measured.logit else "score",
        len(scores),
        _sd(scores),
        tuple(effects),
        measured.unreadable,
        seed,
        LEVEL,
        RESAMPLES,
        tuple(notes),
    )


def _read(model: Model, measured: Measured, outputs: _Scores) -> tuple[_Scores, _Scores]:
    """The scores of outputs (N, crops), and what is compared: the mean logit, or the score before it is clipped."""
    numbers = torch.from_numpy(outputs)
    if measured.logit:
        return model.score_spec(numbers.sigmoid()).numpy(), outputs.mean(1)
    return model.score_spec(numbers).numpy(), model.score_spec.unclipped(numbers.mean(1)).numpy()


def _compare(
    address: str,
    replacement: Replacement,
    scores: tuple[_Scores, _Scores],
    scaled: tuple[_Scores, _Scores],
    seed: int,
) -> Effect:
    """The effect that scores before and after show; `scaled` as they are compared, logits or not clipped."""
    before, after = scaled
    flat = _is_flat(before)
    share = _lost_variance if replacement == "mean" else _total_effect
    return Effect(
        address,
        replacement,
        _estimate(mae, *scores, seed),
        float(np.abs(scores[1] - scores[0]).max()),
        _sd(scores[1]),
        None if flat or _is_flat(after) else _estimate(spearman, before, after, seed),
        None if flat else _estimate(share, before, after, seed),
    )


def _estimate(statistic: Statistic, before: _Scores, after: _Scores, seed: int) -> Estimate:
    return Estimate(statistic(before, after), *bootstrap_interval(before, after, statistic, RESAMPLES, LEVEL, seed))


def _lost_variance(before: _Scores, after: _Scores) -> float:
    # A resample may have no variance, where all the scores have.
    return float("nan") if _is_flat(before) else float((before - after).var(ddof=1) / before.var(ddof=1))


def _total_effect(before: _Scores, after: _Scores) -> float:
    return float("nan") if _is_flat(before) else float(np.square(before - after).mean() / (2 * before.var(ddof=1)))


def _sd(scores: _Scores) -> float:
    return 0.0 if _is_flat(scores) else float(scores.std(ddof=1))


def _is_flat(scores: _Scores) -> bool:
    return bool(np.ptp(scores) <= _ROUNDING * np.abs(scores).max())
