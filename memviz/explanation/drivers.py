"""Which units drive a score? What each unit of each layer contributes to the logit, over the photographs of an index.

`memviz.explanation.moments` says what a contribution is, and why. One forward and one backward pass a photograph serve
all layers; what is kept of it are sums, which shards of photographs add up to, so that an interrupted survey continues.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from memviz.artefacts import SHARDS, Manifest, add_shard, claim, locked
from memviz.errors import ImageError, LayerError, StoreError, did_you_mean
from memviz.evaluation.evaluate import FEW
from memviz.explanation.measure import Reading
from memviz.explanation.moments import Moments
from memviz.explanation.survey import Survey, Surveying
from memviz.files import replacing
from memviz.index import Index
from memviz.models import Model
from memviz.models.model import warn_unreadable
from memviz.progress import progress as show_progress
from memviz.work import work

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-drivers", 1
TABLE = "drivers.parquet"
SAMPLE = 200  # photographs
SHARD = 48  # photographs: what an interruption may cost, a minute of ResMem
Direction = Literal["up", "down", "either"]


@dataclass(frozen=True, eq=False)
class Drivers:
    """What each unit contributes to the logit; `drivers` makes it, `load_drivers` reads it.

    Attributes:
        path: its folder.
        manifest: where it came from.
    """

    path: Path
    manifest: Manifest

    @property
    def photographs(self) -> int:
        """Over how many photographs."""
        return int(self.manifest.result["photographs"])

    @property
    def about(self) -> dict[str, int]:
        """Which survey of its index it is: how many photographs, and the seed by which they were drawn."""
        return {"photographs": self.photographs, "seed": int(self.manifest.seed or 0)}

    @property
    def layers(self) -> dict[str, int]:
        """The layers' addresses, with how many units each has."""
        return dict(self.manifest.config["layers"])

    @cached_property
    def _table(self) -> pd.DataFrame:
        import pandas as pd

        columns = ["address", "channel", "name", *Moments.none(0).figures()]
        units = [(address, channel) for address, channels in self.layers.items() for channel in range(channels)]
        try:
            table = pd.read_parquet(self.path / TABLE)[columns]
        except (OSError, KeyError, ValueError) as error:
            raise StoreError(f"{self.path / TABLE} is missing or damaged ({error}). {_AGAIN}") from error
        if list(zip(table["address"], table["channel"], strict=True)) != units:
            raise StoreError(f"{self.path / TABLE} has other units than its manifest says. {_AGAIN}")
        return table

    def frame(self, layer: str | None = None) -> pd.DataFrame:
        """A row a unit of a layer, or of all.

        Returns:
            address, channel, name (as of a class, where the network has such), and what
            `memviz.explanation.moments.Moments.figures` describes: mean, contribution, sd, strength, consistency and
            drive.

        Raises:
            LayerError: a layer that was not surveyed.
            StoreError: the table is missing or damaged.
        """
        if layer is None:
            return self._table.copy()
        if layer not in self.layers:
            raise LayerError(
                f"The units of {layer!r} were not ranked: the index does not watch it. "
                f"{did_you_mean(layer, self.layers)}"
            )
        return self._table[self._table["address"] == layer].reset_index(drop=True)

    def strongest(self, layer: str, count: int, direction: Direction = "either") -> pd.DataFrame:
        """The units of a layer that drive the score most, as rows of `frame`, the strongest first.

        Args:
            layer: its address.
            count: how many; where a layer has fewer of the kind, these.
            direction: "up" gives those with the highest drive above 0, "down" those with the lowest below 0, "either"
                those with the highest strength.
        """
        table = self.frame(layer)
        if direction == "either":
            return table.sort_values("strength", ascending=False, kind="stable").head(count)
        sign = 1 if direction == "up" else -1
        order = (sign * table["drive"]).sort_values(ascending=False, kind="stable")
        return table.loc[order.index[order > 0][:count]]


_AGAIN = "Delete the folder and run `memviz drivers` again."


def drivers(
    model: Model,
    index: Index,
    *,
    sample: int | None = SAMPLE,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    progress: bool | None = None,
) -> Drivers:
    """Surveys what every unit of an index's layers contributes to the logit.

    The layers are those that the index watches, and those whose units have names. A model that averages over ten crops
    is surveyed at the centre crop. Interrupted in whatever way, the same call continues.

    Args:
        model: with a score; it stays as it is.
        index: of this model.
        sample: how many of its photographs are drawn; None takes all.
        seed: of the sample.
        out: the result's folder; by default one in the index, where galleries find it. Where the same is there already,
            it is read.
        batch_size: photographs in one pass; beyond rounding it changes nothing.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        StoreError: an index of other weights; `out` holds another result, and the message says in which fields.
        ImageError: the index or the sample has fewer than 12 photographs that can be read.
        ModelError: the model does not give one finite number a picture, or it has no finite gradients.

    Example:
        >>> import memviz
        >>> model, index = memviz.load_model("resmem"), memviz.load_index("runs/photos")  # doctest: +SKIP
        >>> memviz.drivers(model, index).strongest("resnet.layer4.2", 5, "up")  # doctest: +SKIP
    """
    index.check_model(model)
    reading = Reading.draw(index, sample, seed, batch_size, workers, progress)
    if len(reading.paths) < FEW:
        raise ImageError(
            f"The index {index.path} ranks {len(reading.paths)} photographs, and over fewer than {FEW} nothing can be "
            "said about what drives their scores. Build an index of more photographs."
        )
    wanted = {layer.address for layer in index.layers} | set(model.named)
    layers = {layer.address: layer.channels for layer in model.layers if layer.address in wanted}
    config = {"photographs": index.config.photographs, "layers": layers, "sample": sample}
    manifest = model.manifest(KIND, FORMAT, config, seed)
    folder = drivers_folder(index) / f"{'all' if sample is None else sample}-{seed}" if out is None else Path(out)
    surveying = Surveying(layers, reading)
    Survey(model, layers).check()  # before the folder is claimed
    manifest = claim(folder, manifest, {"config.photographs": "its photographs are others"})
    with locked(folder):
        manifest = Manifest.read(folder, KIND, FORMAT)  # another process may have finished it meanwhile
        if not manifest.result:
            moments, unreadable = _survey(model, surveying, folder)
            _write(folder / TABLE, moments, layers, model)
            manifest = manifest.finished(photographs=moments.photographs, unreadable=unreadable)
            manifest.write(folder)
            warn_unreadable(unreadable)
        shutil.rmtree(folder / SHARDS, ignore_errors=True)
    return Drivers(folder, manifest)


def load_drivers(folder: str | os.PathLike[str]) -> Drivers:
    """The result that `drivers` saved.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder, KIND, FORMAT)
    if not manifest.result:
        raise StoreError(f"The survey in {folder} is not finished. Run `memviz drivers` again, which continues it.")
    found = Drivers(folder, manifest)
    found.frame()
    return found


def drivers_folder(index: Index) -> Path:
    """Where the surveys of an index's units are kept, for galleries to find: a folder a sample."""
    return index.path.resolve() / "drivers"


def find_drivers(index: Index) -> Drivers | None:
    """Of the finished surveys of an index's units the one of most photographs; None if there is none."""
    found = []
    for path in sorted(drivers_folder(index).glob("*/manifest.json")):
        manifest = Manifest.read(path.parent, KIND, FORMAT)
        if manifest.result and manifest.weights == index.manifest.weights:
            found.append(Drivers(path.parent, manifest))
    return max(found, key=lambda each: each.photographs, default=None)


def _survey(model: Model, surveying: Surveying, folder: Path) -> tuple[Moments, dict[str, str]]:
    """The moments over all photographs, and why some could not be read: from the shards, made where missing."""
    reading, place = surveying.reading, folder / SHARDS
    parts = {
        f"{start:07d}-{SHARD}.npz": range(start, min(start + SHARD, len(reading.paths)))
        for start in range(0, len(reading.paths), SHARD)
    }
    missing = {part.start: name for name, part in parts.items() if not (place / name).exists()}
    with show_progress("Surveying units", len(reading.paths), "photographs", reading.progress) as advance:
        advance(sum(len(part) for part in parts.values() if part.start not in missing))
        with closing(work(model, surveying, [parts[name] for name in missing.values()], advance)) as results:
            for start, moments, unreadable in results:
                count, failures = np.array(moments.photographs), np.array(json.dumps(unreadable))
                write = partial(np.savez, count=count, failures=failures, sums=moments.sums)
                add_shard(folder, missing[start], write)
    total, skipped = Moments.none(surveying.units), dict[str, str]()
    for path in (place / name for name in parts):
        try:
            with np.load(path) as found:
                total += Moments(int(found["count"]), found["sums"])
                skipped |= json.loads(str(found["failures"]))
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{path} is damaged ({error}). Delete it and run `memviz drivers` again.") from error
    if total.photographs < FEW:
        raise ImageError(
            f"{total.photographs} of {len(reading.paths)} photographs can be read, and over fewer than {FEW} "
            "nothing can be said about what drives their scores. Put them back, or build the index again."
        )
    return total, skipped


def _write(path: Path, moments: Moments, layers: dict[str, int], model: Model) -> None:
    import pandas as pd

    names: Sequence[str] = [
        name for address, channels in layers.items() for name in model.named.get(address, [""] * channels)
    ]
    table = pd.DataFrame(
        {
            "address": np.repeat(list(layers), list(layers.values())),
            "channel": np.concatenate([np.arange(channels, dtype=np.int32) for channels in layers.values()]),
            "name": names,
            **moments.figures(),
        }
    )
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
