"""Is a network perceptual or conceptual, and at which depth? Its units' activations, explained by either."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memviz.artefacts import SHARDS, add_shard, claim, locked, read_result
from memviz.errors import LayerError, StoreError
from memviz.explanation.concepts import check_concepts, conceptual_features
from memviz.explanation.depth_layers import choose_layers, choose_units, count_convolutions, find_branch
from memviz.explanation.depth_result import Depth, Row, find_warnings, profile, units_frame
from memviz.explanation.partition import check_counts, held_out_errors
from memviz.explanation.perceptual import Features, perceptual_features
from memviz.explanation.responses import (
    STATISTICS,
    Responses,
    Statistic,
    check_files,
    draw_photographs,
    responses,
)
from memviz.explanation.twin import check_twin, random_twin
from memviz.files import replacing
from memviz.index import Index
from memviz.layers import Layer
from memviz.models import Model

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-depth", 1
DATA, UNITS = "depth.json", "units.parquet"


@dataclass(frozen=True)
class DepthConfig:
    """What decides a depth profile.

    Attributes:
        layers: addresses of watched layers; None for up to 14 of each branch, evenly through its depth.
        units: how many of each layer are explained, drawn at random; similarity is that of all of them.
        sample: photographs that are drawn, if there are more; memory grows with its square.
        statistic: "peak", as an index ranks by, or "mean".
        components: principal components of either set of features.
        folds: parts into which the photographs are divided, each held out once.
        twin: whether the same architecture with random weights is measured too.
    """

    layers: tuple[str, ...] | None = None
    units: int = 64
    sample: int = 2000
    statistic: Statistic = "peak"
    components: int = 50
    folds: int = 10
    twin: bool = True


def depth(
    model: Model,
    index: Index,
    *,
    concepts: Model | None = None,
    config: DepthConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Depth:
    """How much of units' activations perceptual and conceptual features explain, layer by layer.

    For a sample of each layer's units: the share of variance over held-out photographs that ridge regression explains
    by perceptual features, by conceptual ones, by both, and uniquely by each (`memviz.explanation.partition`); and for
    the layer as a whole the representational similarity to either set (`memviz.explanation.similarity`). What features
    these are is said in `memviz.explanation.perceptual` and `memviz.explanation.concepts`.

    Intervals are 95 % percentile bootstraps over photographs and, for the means over units, over units too; the fitted
    regressions stay as they are.

    Args:
        model: stays as it is.
        index: of this model; its photographs are read again, and its layers may be looked at.
        concepts: a network that names its outputs, better another than `model`, whose own class outputs its deep layers
            feed; None takes those.
        config: how, as `DepthConfig(units=32)`.
        seed: of the samples, the folds, the twin's weights and the intervals.
        out: a folder for the result; where the same is there already, it is read. What was measured before an
            interruption is not measured again.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        StoreError: an index of other weights; a photograph that changed; `out` holds another result.
        LayerError: a layer that the index does not watch, or none whose units the photographs move.
        ModelError: nothing conceptual to compare with; no twin can be made.
        ImageError: too few photographs for the folds.

    Example:
        >>> import memviz
        >>> model, index = memviz.load_model("resmem"), memviz.load_index("runs/photos")  # doctest: +SKIP
        >>> print(memviz.depth(model, index, out="runs/depth"))  # doctest: +SKIP
    """
    config = config or DepthConfig()
    index.check_model(model)
    layers = choose_layers(model, index, config.layers)
    if config.statistic not in STATISTICS:
        raise LayerError(f"statistic={config.statistic!r} is not possible: give {' or '.join(map(repr, STATISTICS))}.")
    if config.units < 1:
        raise LayerError(f"units={config.units} is not possible: give 1 or more.")
    paths, hashes = draw_photographs(index, config.sample, seed)
    check_counts(len(paths), config.components, config.folds)
    named = concepts or model
    check_concepts(named, paths)
    if config.twin:
        check_twin(model)
    manifest = model.manifest(
        KIND,
        FORMAT,
        {
            "photographs": index.config.photographs,
            "concepts": f"{named.name} {named.fingerprint()[:12]}",
            **asdict(config),
            "layers": [layer.address for layer in layers],
        },
        seed,
    )
    folder = None if out is None else Path(out)
    if folder is None or not (folder / DATA).is_file():
        check_files(index, paths, hashes)  # what cannot be done leaves no folder
    if folder is not None:
        claim(folder, manifest, {"config.photographs": "its photographs are others"})
        if (folder / DATA).is_file():
            return load_depth(folder)
    # Without a folder, what is measured is kept until all is.
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place, locked(Path(place)):
        study = _Study(model, paths, layers, config, seed, Path(place), progress)
        found, units = study.run(named, str(manifest.weights))
        if folder is not None:
            with replacing(folder / UNITS) as temporary:
                units.to_parquet(temporary, index=False)
            found.save(folder)
            for shard in (folder / SHARDS).iterdir():
                shard.unlink()
            (folder / SHARDS).rmdir()
    return found


def load_depth(folder: str | os.PathLike[str]) -> Depth:
    """The result that `depth` saved.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    return read_result(folder, KIND, FORMAT, DATA, Depth, "depth profile", "depth")


class _Study:
    """The measurements, each kept in a shard as soon as it is made."""

    def __init__(
        self,
        model: Model,
        paths: Sequence[Path],
        layers: Sequence[Layer],
        config: DepthConfig,
        seed: int,
        folder: Path,
        progress: bool | None,
    ) -> None:
        self._model, self._paths, self._layers, self._config = model, paths, layers, config
        self._seed, self._folder, self._progress = seed, folder, progress

    def run(self, named: Model, weights: str) -> tuple[Depth, pd.DataFrame]:
        """The profile, and a row a unit."""
        perceptual = self._features(
            "perceptual", lambda: perceptual_features(self._paths, self._model.inputs, progress=self._progress)
        )
        conceptual = self._features(
            "conceptual", lambda: conceptual_features(named, self._paths, progress=self._progress)
        )
        values = {False: self._measure("network", lambda: self._model)}
        if self._config.twin:
            values[True] = self._measure("twin", lambda: random_twin(self._model, self._paths, self._seed))
        rows = [
            self._row(layer, twin, by_layer[layer.address])
            for twin, by_layer in values.items()
            for layer in self._layers
        ]
        if flat := [row.address for row in rows if not len(row.channels) and not row.twin]:
            raise LayerError(f"No unit of {flat[0]} is moved by these photographs. Leave it out, or give others.")
        rows = [row for row in rows if len(row.channels)]
        errors = held_out_errors(
            perceptual,
            conceptual,
            np.hstack([row.values[:, row.channels] for row in rows]),
            self._config.components,
            self._config.folds,
            self._seed,
        )
        model, config = self._model, self._config
        layers, branches = profile(rows, errors, perceptual, conceptual, self._seed)
        warnings = find_warnings(model, weights)
        about = model.name, weights, named.name, named is model, len(self._paths), config.statistic
        return Depth(*about, layers, branches, warnings, self._seed), units_frame(rows, errors)

    def _row(self, layer: Layer, twin: bool, values: NDArray[np.float32]) -> Row:
        channels, still = choose_units(layer.address, values, self._config.units, self._seed)
        branch, place = find_branch(self._model, layer.address), count_convolutions(self._model.layers, layer.address)
        return Row(layer.address, branch, place, twin, channels, still, values)

    def _features(self, name: str, make: Callable[[], Features]) -> Features:
        kept = self._keep(name, lambda: {key: np.array(value) for key, value in vars(make()).items()})
        return Features(kept["values"], tuple(kept["names"].tolist()), tuple(kept["groups"].tolist()))

    def _measure(self, name: str, make: Callable[[], Model]) -> dict[str, NDArray[np.float32]]:
        def measure() -> dict[str, NDArray[np.float32]]:
            wanted = {layer.address: None for layer in self._layers}
            statistic = self._config.statistic
            found: Responses = responses(make(), self._paths, wanted, statistic=statistic, progress=self._progress)
            return found.values

        return self._keep(name, measure)

    def _keep(self, name: str, make: Callable[[], dict[str, NDArray]]) -> dict[str, NDArray]:  # type: ignore[type-arg]
        path = self._folder / SHARDS / f"{name}.npz"
        if not path.exists():
            add_shard(self._folder, path.name, partial(np.savez, **make()))  # type: ignore[arg-type]
        try:
            with np.load(path) as found:
                return dict(found)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}). Delete it and run `memviz depth` again.") from error
