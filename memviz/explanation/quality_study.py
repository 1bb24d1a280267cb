"""What `memviz quality` measures: of photographs once, beside the index for the next call; of pictures each time."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memviz.artefacts import SHARDS, add_shard, claim, locked
from memviz.errors import StoreError
from memviz.explanation.depth_layers import find_branch
from memviz.explanation.encoder import Encoder, encode
from memviz.explanation.quality_layer import Measured
from memviz.explanation.quality_pictures import LayerPictures
from memviz.explanation.responses import check_files, draw_photographs, responses
from memviz.index import Index
from memviz.models import Model

KIND, FORMAT = "memviz-quality-photographs", 1
SHARD = 200  # photographs that are measured, and kept, together: a few minutes' work
STEPS = 6  # layers on the way to a unit's at which pictures and photographs are compared, its own included
Array = NDArray[np.float32]


class Study:
    """The measurements for a quality: those of photographs are kept as soon as they are made.

    Args:
        model: whose they are.
        index: of its photographs.
        encoder: of photographs and pictures.
        sample: photographs that are drawn, if there are more.
        seed: of the sample.
        progress: None shows it on a terminal, True also in a log, False never.
    """

    def __init__(
        self, model: Model, index: Index, encoder: Encoder, sample: int, seed: int, progress: bool | None
    ) -> None:
        self._model, self._index, self._encoder, self._progress = model, index, encoder, progress
        self.paths, self._hashes = draw_photographs(index, sample, seed)
        config = {"photographs": index.config.photographs, "sample": sample}
        self._manifest = model.manifest(KIND, FORMAT, config, seed)
        name = f"{model.fingerprint()[:12]}-{index.config.photographs[:12]}-{sample}-{seed}"
        self._folder = index.path.resolve().parent / "quality-photographs" / name

    def measure(self, layers: Iterable[str]) -> Array:
        """Measures the photographs for all layers together, as far as they were not before; returns their vectors.

        A second process waits, and finds what this one measured.

        Raises:
            StoreError: a photograph that changed, or cannot be read.
        """
        name = f"encoder-{re.sub('[^A-Za-z0-9_.-]+', '-', self._encoder.name)}"
        wanted = dict.fromkeys(step for address in layers for step in self._way(address))
        claim(self._folder, self._manifest)
        with locked(self._folder, wait=True):
            if any(self._missing([name, *wanted], start) for start in self._starts):
                check_files(self._index, self.paths, self._hashes)
            for start in self._starts:
                part = slice(start, start + SHARD)
                if missing := self._missing(wanted, start):
                    found = responses(self._model, self.paths[part], dict.fromkeys(missing), progress=self._progress)
                    for path, why in found.unreadable.items():
                        raise StoreError(f"{path}: {why}. Put it back, or build the index again.")
                    for address, values in found.values.items():
                        self._keep(address, start, values)
                if self._missing([name], start):
                    paths, hashes = self.paths[part], self._hashes[part]
                    vectors = encode(self._encoder, paths, self._model.inputs, hashes, progress=self._progress)
                    self._keep(name, start, vectors)
        return self._read(name)

    def layer(self, pictures: LayerPictures, vectors: Array) -> Measured:
        """What is to be known of a layer; its photographs must be measured."""
        address, model = pictures.address, self._model
        way = self._way(address)
        drawn = np.empty((0, vectors.shape[1]), np.float32)
        seen = {step: np.empty((0, model.layers[step].channels), np.float32) for step in way}
        with tempfile.TemporaryDirectory() as place:
            if files := pictures.write(Path(place), model):
                drawn = encode(self._encoder, files, model.inputs, progress=self._progress)
                seen = responses(model, files, dict.fromkeys(way), progress=self._progress).values
        positive, negative = (
            {unit: len(vectors) + np.array(places, np.intp) for unit, places in pictures.places(side).items()}
            for side in (False, True)
        )
        stats = self._index.stats(address)
        return Measured(
            address,
            find_branch(model, address),
            pictures.table,
            dict(zip(stats["channel"].tolist(), stats["peak"].tolist(), strict=True)),
            self._read(address),
            vectors @ np.concatenate([vectors, drawn]).T,
            positive,
            negative,
            {step: (self._read(step), seen[step]) for step in way},
        )

    def _way(self, address: str) -> list[str]:
        """Layers of the same branch, evenly up to this one: blocks where there are some."""
        branch = find_branch(self._model, address)
        names = [layer for layer in self._index.layers if find_branch(self._model, layer.address) == branch]
        names = names[: [layer.address for layer in names].index(address) + 1]
        blocks = [layer for layer in names if layer.block]
        pool = [layer.address for layer in (blocks if len(blocks) > 1 else names) if layer.address != address]
        chosen = np.linspace(0, len(pool), min(STEPS, len(pool) + 1)).round().astype(int)
        return [[*pool, address][place] for place in dict.fromkeys(chosen.tolist())]

    @property
    def _starts(self) -> range:
        return range(0, len(self.paths), SHARD)

    def _file(self, name: str, start: int) -> Path:
        return self._folder / SHARDS / f"{name}-{start:07d}.npy"

    def _missing(self, names: Iterable[str], start: int) -> list[str]:
        return [name for name in names if not self._file(name, start).exists()]

    def _keep(self, name: str, start: int, values: Array) -> None:
        add_shard(self._folder, self._file(name, start).name, lambda path: np.save(path, values))

    def _read(self, name: str) -> Array:
        parts = []
        for start in self._starts:
            path = self._file(name, start)
            try:
                values: Array = np.load(path)
            except (OSError, ValueError, EOFError) as error:
                raise StoreError(f"{path} is damaged ({error}). Delete it and run `memviz quality` again.") from error
            if values.ndim != 2 or len(values) != len(self.paths[start : start + SHARD]):
                raise StoreError(f"{path} is of other photographs. Delete it and run `memviz quality` again.")
            parts.append(values)
        return np.concatenate(parts)
