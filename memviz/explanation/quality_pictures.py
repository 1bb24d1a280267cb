"""The pictures whose quality is asked for: of which layers folders hold some, and whether they are of this network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.artefacts import MANIFEST
from memviz.errors import StoreError
from memviz.files import read_json
from memviz.index import Index
from memviz.layers.unit import units_of
from memviz.models import Model
from memviz.rendering import RenderRecord, SavedRenders, load_renders
from memviz.rendering.job import KIND, render_manifest
from memviz.rendering.measure import as_photograph
from memviz.rendering.record import record_table
from memviz.rendering.store import from_pil

if TYPE_CHECKING:
    import pandas as pd

LEAST = "inhibition"  # the objective of pictures that excite a unit least


@dataclass(frozen=True)
class LayerPictures:
    """The pictures of a layer's units.

    Attributes:
        address: of the layer.
        best: of each unit, in order, the record that reaches the highest peak, of those that excite it most.
        drawn: every picture that there is of these units, with the folder that holds it.
    """

    address: str
    best: dict[int, RenderRecord]
    drawn: tuple[tuple[SavedRenders, RenderRecord], ...]

    @classmethod
    def of(cls, address: str, folders: Sequence[SavedRenders]) -> LayerPictures:
        """The pictures in the folders of a layer."""
        best: dict[int, RenderRecord] = {}
        for saved in folders:
            for unit, record in saved.units.items():
                if not _is_least(saved) and (unit not in best or _peak(record) > _peak(best[unit])):
                    best[unit] = record
        drawn = [
            (saved, record) for saved in folders for record in saved.records if record.shown and record.unit in best
        ]
        return cls(address, dict(sorted(best.items())), tuple(drawn))

    @property
    def table(self) -> pd.DataFrame:
        """A row a unit: unit, state and peak of its best picture."""
        return record_table(self.best.values())[["unit", "state", "peak"]]

    def places(self, negative: bool) -> dict[int, list[int]]:
        """By unit, which of `drawn` excite it most, or least."""
        found: dict[int, list[int]] = {unit: [] for unit in self.best}
        for place, (saved, record) in enumerate(self.drawn):
            if _is_least(saved) == negative:
                assert record.unit is not None
                found[record.unit].append(place)
        return found

    def write(self, folder: Path, model: Model) -> list[Path]:
        """Writes each picture as the network sees it among photographs; returns the files."""
        files = []
        for number, (saved, record) in enumerate(self.drawn):
            picture = saved.picture(record)
            assert picture is not None
            files.append(folder / f"{number:06d}.png")
            as_photograph(from_pil(picture), model.inputs).save(files[-1])
        return files


def find_layers(folders: Iterable[str | os.PathLike[str]], model: Model, index: Index) -> dict[str, LayerPictures]:
    """The pictures of each layer, in executed order.

    Args:
        folders: as `quality` takes them.
        model: whose pictures they must be.
        index: that must watch the layers.

    Raises:
        StoreError: a folder without pictures of units, or pictures of other weights or another preprocessing.
        LayerError: a layer that the index does not watch, or a unit that it does not have.
    """
    expected = render_manifest(model.name, model.fingerprint(), model.inputs, {}, 0)
    found: dict[str, list[SavedRenders]] = {}
    for folder in map(Path, folders):
        places = (
            [folder] if (folder / MANIFEST).is_file() else sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
        )
        opened = [load_renders(place) for place in places if read_json(place / MANIFEST, dict).get("kind") == KIND]
        opened = [saved for saved in opened if saved.manifest.config.get("layer") and saved.units]
        if not opened:
            raise StoreError(
                f"{folder} holds no pictures of units. Draw some: memviz render {model.name} LAYER --out {folder}."
            )
        for saved in opened:
            there = saved.manifest
            if (there.weights, _plain(there.inputs)) != (expected.weights, _plain(expected.inputs)):
                raise StoreError(
                    f"{saved.folder} holds pictures of {there.model} with weights {str(there.weights)[:12]}; the "
                    f"index {index.path} is of {model.name} with {str(expected.weights)[:12]}, or their preprocessing "
                    "differs. Draw them again, or give another index."
                )
            layer = index.layers[str(there.config["layer"])]
            units_of(layer, saved.units)
            found.setdefault(layer.address, []).append(saved)
    for address, several in found.items():
        if all(map(_is_least, several)):
            raise StoreError(
                f"Of {address} there are but pictures of what its units want least. Give others beside them."
            )
    order = [layer.address for layer in index.layers if layer.address in found]
    return {address: LayerPictures.of(address, found[address]) for address in order}


def digest(layers: Mapping[str, LayerPictures]) -> str:
    """Tells one set of pictures from another."""
    found = hashlib.sha256()
    for pictures in layers.values():
        for saved, record in pictures.drawn:
            about = [saved.manifest.config, saved.manifest.seed, asdict(record)]
            found.update(json.dumps(about, sort_keys=True).encode())
        found.update(json.dumps([asdict(record) for record in pictures.best.values()]).encode())
    return found.hexdigest()


def _is_least(saved: SavedRenders) -> bool:
    return saved.manifest.config.get("objective") == LEAST


def _peak(record: RenderRecord) -> float:
    return float("-inf") if record.peak is None else record.peak


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values))
