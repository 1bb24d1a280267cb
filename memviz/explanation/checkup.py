"""Has a network learned, and does it matter? Its weights, and what becomes of its score without its branches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memviz.artefacts import claim, read_result
from memviz.explanation.effect import Effect, Effects, branch_effects, find_addresses, layer_effects
from memviz.explanation.measure import Reading
from memviz.explanation.silent import SilentUnits, describe_silent, silent_units
from memviz.files import replacing, write_json
from memviz.images import list_images, state
from memviz.index import Index
from memviz.layers.unit import lies_in
from memviz.layers.weights import LayerWeights, check_weights, finding, judgement
from memviz.models import Model

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-checkup", 2
DATA = "checkup.json"
# A part has no effect if, at the ends of both intervals that are worst for that, it takes less than a thousandth of the
# score's variance, and leaves the order of the photographs as it is to a rank correlation of more than that.
NO_SHARE, SAME_ORDER = 0.001, 0.999
SAMPLE = 200  # photographs, with which a rank correlation of .999 is known to a thousandth


@dataclass(frozen=True)
class Checkup:
    """What a checkup found.

    Attributes:
        model, weights: the model's name and fingerprint.
        branches: of the model; none where it has one path.
        layers: one entry for each parameter with weights.
        effects: of the branches on the score; None where that was not measured, or there are no branches.
        layer_effects: of the layers that were asked for.
        silent: the units of each watched layer that the photographs do not move; None without photographs.
    """

    model: str
    weights: str
    branches: tuple[str, ...]
    layers: tuple[LayerWeights, ...]
    effects: Effects | None = None
    layer_effects: Effects | None = None
    silent: tuple[SilentUnits, ...] | None = None

    def finding(self, address: str) -> str:
        """What a reader should know of a layer or a branch, in a phrase; empty where nothing is amiss.

        >>> from torch import nn
        >>> Checkup("net", "", (), check_weights(nn.Sequential(nn.Conv2d(3, 64, 7)))).finding("0")
        'weights at their random start'
        """
        within = [each for each in self.layers if lies_in(each.address, address)]
        phrases = [finding(within), "no effect on the score" if self._is_idle(address) else ""]
        return "; ".join(phrase for phrase in phrases if phrase)

    @property
    def verdict(self) -> list[str]:
        """The whole in sentences: one for each branch, or for the network."""
        sentences = []
        for part in self.branches or ("",):
            within = [each for each in self.layers if not part or lies_in(each.address, part)]
            sentence = f"{part or self.model}: {judgement(within)}"
            if self.effects and part:
                sentence += f"; {self._effect(part)}"
            if moved := describe_silent(self.silent or (), part):
                sentence += f"; {moved}"
            sentences.append(f"{sentence}.")
        return sentences

    def frame(self) -> pd.DataFrame:
        """A row a layer: address, kind, weights, verdict, start, std, and what is clearest against chance."""
        import pandas as pd

        rows = []
        for each in self.layers:
            clearest, ratio = each.evidence[0] if each.evidence else ("", float("nan"))
            row = (each.address, each.parameter, each.kind, each.count, each.verdict, each.start or each.family or "")
            rows.append((*row, each.std, clearest, ratio, each.sentence))
        names = ["address", "parameter", "kind", "weights", "verdict", "start", "std", "clearest", "times_chance"]
        return pd.DataFrame(rows, columns=[*names, "sentence"])

    def silent_frame(self) -> pd.DataFrame:
        """A row a watched layer: its units, and how many of them are constant, silent and unknown."""
        import pandas as pd

        table = pd.DataFrame([asdict(each) for each in self.silent or ()], columns=list(SilentUnits.__annotations__))
        return table.astype({"silent": "Int64"})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `checkup.json`, `layers.csv`, where there are any `effects.csv` and `units.csv`, and the figure."""
        import pandas as pd

        from memviz.evaluation.plots import save
        from memviz.explanation.figure import checkup_figure

        folder = Path(folder)
        save(checkup_figure(self), folder / "checkup")
        with replacing(folder / "layers.csv") as temporary:
            self.frame().to_csv(temporary, index=False)
        measured = [each.frame() for each in (self.effects, self.layer_effects) if each]
        if measured:
            with replacing(folder / "effects.csv") as temporary:
                pd.concat(measured).to_csv(temporary, index=False)
        if self.silent is not None:
            with replacing(folder / "units.csv") as temporary:
                self.silent_frame().to_csv(temporary, index=False)
        write_json(folder / DATA, asdict(self))  # last: where it is, the others are

    def __str__(self) -> str:
        return "\n".join(self.verdict)

    def _is_idle(self, address: str) -> bool:
        """Whether what `address` lies in has no effect on the score."""
        measured = [*self._measured(self.effects, address), *self._measured(self.layer_effects, address)]
        return any(
            all(each.share and each.share.high < NO_SHARE for each in both)
            and all(each.spearman and each.spearman.low > SAME_ORDER for each in both)
            for both in measured
        )

    @staticmethod
    def _measured(effects: Effects | None, address: str) -> Iterator[list[Effect]]:
        """The effects, by its mean and by others, of each module that is `address` or around it."""
        by_address: dict[str, list[Effect]] = {}
        for each in effects.effects if effects else ():
            if lies_in(address, each.address):
                by_address.setdefault(each.address, []).append(each)
        yield from by_address.values()

    def _effect(self, part: str) -> str:
        """What a branch does to the score, in words."""
        assert self.effects
        mean, other = (self.effects.effect(part, kind) for kind in ("mean", "other"))
        if mean.share is None or other.share is None:
            return "all photographs have the same score"
        if self._is_idle(part):
            return (
                f"no effect on the score, which moves by {max(mean.largest_change, other.largest_change):.1e} at most"
            )
        return (
            f"{_percent(mean.share.value)} of the score's variance goes with it (95 %: {_percent(mean.share.low)} to "
            f"{_percent(mean.share.high)}; with another photograph's output {_percent(other.share.value)})"
        )


def checkup(
    model: Model,
    photographs: Index | str | Path | Iterable[str | Path] | None = None,
    *,
    layers: str | Iterable[str] = (),
    sample: int = SAMPLE,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Checkup:
    """Looks whether each layer of a network has learned, and whether its branches matter to the score.

    Weights are judged by `memviz.layers.weights.check_weights`, effects are measured by `branch_effects` and
    `layer_effects`, which say what they do and whose methods they are.

    Args:
        model: stays as it is.
        photographs: on which the effects are measured: files and folders, or an index of this model; None measures
            none. The units that they do not move are counted too: over the sample, or all that an index ranks.
        layers: addresses of layers whose effects are measured too.
        sample: how many photographs are drawn, if there are more.
        seed: of the sample, of whose output replaces whose, and of the intervals.
        out: a folder for the result; where the same is there already, it is read.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        LayerError, ModelError, ImageError: as `branch_effects` and `layer_effects` say.
        StoreError: an index of other weights; `out` holds another result, and the message says in which fields.

    Example:
        >>> import memviz
        >>> from torch import nn
        >>> model = memviz.wrap(
        ...     nn.Sequential(nn.Conv2d(3, 1000, 1), nn.ReLU()), memviz.InputSpec(size=(9, 9)), name="net"
        ... )
        >>> print(checkup(model))
        net: weights at their random start (0 of 1 layers have learned; 0 have too little to tell).
    """
    if isinstance(photographs, Index):
        photographs.check_model(model)
    addresses = find_addresses(model, layers)
    folder = None if out is None else Path(out)
    manifest = model.manifest(
        KIND,
        FORMAT,
        {"photographs": _digest(photographs), "layers": list(addresses), "sample": sample},
        seed,
    )
    if folder is not None:
        claim(folder, manifest, {"config.photographs": "its photographs are others"})
        if (folder / DATA).is_file():
            return load_checkup(folder)
    effects, of_layers = None, None
    if photographs is not None:
        if model.branches:
            effects = branch_effects(model, photographs, sample=sample, seed=seed, progress=progress)
        if addresses:
            of_layers = layer_effects(model, photographs, addresses, sample=sample, seed=seed, progress=progress)
    weights = check_weights(model.module)
    silent = None
    if isinstance(photographs, Index):
        silent = silent_units(model, photographs)
    elif photographs is not None:
        silent = silent_units(model, Reading.draw(photographs, sample, seed, 16, 2, progress).paths, progress)
    found = Checkup(model.name, str(manifest.weights), tuple(model.branches), weights, effects, of_layers, silent)
    if folder is not None:
        found.save(folder)
    return found


def load_checkup(folder: str | os.PathLike[str]) -> Checkup:
    """The result that `checkup` saved.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    return read_result(folder, KIND, FORMAT, DATA, Checkup, "checkup", "checkup")


def find_checkup(index: Index) -> Checkup | None:
    """The finished checkup that is kept beside an index; None if there is none."""
    folder = checkup_folder(index)
    return load_checkup(folder) if (folder / DATA).is_file() else None


def checkup_folder(index: Index) -> Path:
    """Where the checkup of an index's network is kept, beside the index, for galleries to find."""
    return index.path.resolve().parent / "checkups" / str(index.manifest.weights)[:12]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def _digest(photographs: Index | str | Path | Iterable[str | Path] | None) -> str | None:
    """Tells one set of photographs from another by names and sizes, or as an index knows them."""
    if photographs is None:
        return None
    if isinstance(photographs, Index):
        return str(photographs.config.photographs)
    known = sorted((path.name, state(path)[0]) for path in list_images(photographs))
    return hashlib.sha256(repr(known).encode()).hexdigest()
