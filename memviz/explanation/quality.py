"""`memviz.quality`: is a picture of a unit true? Whether it wins, what it explains, and on which path it excites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from memviz.artefacts import claim, locked, read_result
from memviz.errors import ModelError, StoreError
from memviz.explanation.depth_result import find_warnings
from memviz.explanation.encoder import EfficientNetLite0, Encoder
from memviz.explanation.forced_choice import check_photographs
from memviz.explanation.quality_layer import Settings, judge
from memviz.explanation.quality_pictures import digest, find_layers
from memviz.explanation.quality_result import Quality
from memviz.explanation.quality_study import Study
from memviz.files import replacing
from memviz.index import Index
from memviz.models import Model

KIND, FORMAT = "memviz-quality", 1
DATA, UNITS = "quality.json", "units.parquet"


@dataclass(frozen=True)
class QualityConfig:
    """What decides a quality beside pictures, photographs and encoder.

    Attributes:
        explanations: photographs that explain a unit, of each kind; 9 in the paper.
        tasks: for each unit; 20 in the paper.
        quantile: the share of the photographs, at either end, that queries are drawn from.
        temperature: T of the score (`memviz.explanation.forced_choice`).
        sample: photographs that are drawn, if there are more.
    """

    explanations: int = 9
    tasks: int = 20
    quantile: float = 0.25
    temperature: float = 0.16
    sample: int = 2000

    def __post_init__(self) -> None:
        """Refuses what no task can be set with."""
        if self.tasks < 1 or not self.temperature > 0:
            raise ModelError(f"tasks={self.tasks}, temperature={self.temperature}: give 1 or more, and above 0.")


def quality(
    model: Model,
    renders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    index: Index,
    *,
    encoder: Encoder | None = None,
    config: QualityConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Quality:
    """Says of each rendered layer whether its pictures are true: three tests, of which none needs a person.

    - **Does it win?** The share of live units whose picture excites them more than the best photograph
      (`memviz.layers.unit`, "succeeds").
    - **Does it explain?** In a two-alternative forced choice a machine is to tell by the pictures which of two
      photographs excites the unit: accuracy and machine interpretability score, beside those of photographs as
      explanations, of as many of them as there are pictures, and with the explanations of other units
      (`memviz.explanation.forced_choice`).
    - **Is it processed like a photograph?** The path similarity of pictures and photographs
      (`memviz.explanation.path_similarity`), at the layer and at up to five before it.

    Of photographs and pictures the encoder sees what the network sees: the cropped photograph, and the picture repeated
    to its size. Intervals are 95 % percentile bootstraps over units, of a share Wilson's.

    The activations of the index's photographs and what the encoder makes of them are kept beside the index, for the
    next call, whatever its pictures.

    Args:
        model: of the index; it stays as it is.
        renders: folders as `memviz.render(..., out=)` writes them, or those of layers in them. Several, as of other
            seeds, give a unit several pictures; those of the objective "inhibition" are its negative explanations,
            without which there are positive ones alone.
        index: of this model; its photographs are read again.
        encoder: by whose eyes pictures are alike; None for EfficientNet-Lite0, which needs the extra `quality`.
        config: how, as `QualityConfig(tasks=50)`.
        seed: of the photographs, the tasks, the shuffles and the intervals.
        out: a folder for the result; where the same is there already, it is read.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        StoreError: an index or pictures of other weights, or another preprocessing; a folder without pictures of units;
            a photograph that changed; `out` holds another result, and the message says in which fields.
        LayerError: a layer that the index does not watch.
        ImageError: too few photographs for the tasks.
        ModelError: the encoder cannot be had.

    Example:
        >>> import memviz
        >>> model, index = memviz.load_model("resmem"), memviz.load_index("runs/photos")  # doctest: +SKIP
        >>> print(memviz.quality(model, "renders", index, out="runs/quality"))  # doctest: +SKIP
    """
    config = config or QualityConfig()
    index.check_model(model)
    if model.inputs != index.inputs:
        raise StoreError(f"The index {index.path} was made with another preprocessing than that of {model.name}.")
    folders = [renders] if isinstance(renders, str | os.PathLike) else list(renders)
    layers = find_layers(folders, model, index)
    encoder = encoder or EfficientNetLite0(model.device)
    study = Study(model, index, encoder, config.sample, seed, progress)
    check_photographs(len(study.paths), config.explanations, config.quantile)
    manifest = model.manifest(
        KIND,
        FORMAT,
        {
            **asdict(config),
            "photographs": index.config.photographs,
            "encoder": encoder.name,
            "layers": list(layers),
            "renders": digest(layers),
        },
        seed,
    )
    folder = None if out is None else Path(out)
    words = {"config.photographs": "its photographs are others", "config.renders": "its renders are others"}
    if folder is not None:
        claim(folder, manifest, words)
        if (folder / DATA).is_file():
            return load_quality(folder)
    vectors = study.measure(layers)
    settings = Settings(config.explanations, config.tasks, config.quantile, config.temperature, seed)
    judged = [judge(study.layer(pictures, vectors), settings) for pictures in layers.values()]
    found = Quality(
        model.name,
        str(manifest.weights),
        encoder.name,
        encoder.licence,
        len(study.paths),
        asdict(config),
        tuple(layer for layer, _ in judged),
        find_warnings(model, str(manifest.weights)),
        seed,
    )
    if folder is not None:
        import pandas as pd

        with locked(folder, wait=True):
            with replacing(folder / UNITS) as temporary:
                pd.concat([table for _, table in judged], ignore_index=True).to_parquet(temporary, index=False)
            found.save(folder)
    return found


def load_quality(folder: str | os.PathLike[str]) -> Quality:
    """The result that `quality` saved; of each unit there is more in its `units.parquet`.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    return read_result(folder, KIND, FORMAT, DATA, Quality, "quality", "quality")
