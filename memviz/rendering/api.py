"""`memviz.render`: from units or objectives to pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from memviz.artefacts import MANIFEST, Manifest, check_folder, claim
from memviz.errors import LayerError, RenderError, StoreError
from memviz.files import provenance
from memviz.layers.unit import Unit, units_of
from memviz.models import Model
from memviz.progress import progress as show_progress
from memviz.rendering.config import RenderConfig
from memviz.rendering.engine import Engine, RenderResult, layers_of
from memviz.rendering.job import RenderJob, render_manifest
from memviz.rendering.lucent import Lucent
from memviz.rendering.measure import to_pil
from memviz.rendering.objective import Objective, unit_objective
from memviz.rendering.objectives import as_objective
from memviz.rendering.record import RenderRecord, record_table
from memviz.rendering.sheet import contact_sheet
from memviz.rendering.store import WORDS, load_renders

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Renders:
    """Rendered pictures and what they reach; unpacks into `images, table`.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1], in steps of 1/255 as a PNG holds them, on the CPU.
        records: one a picture.
        manifest: where they come from.
    """

    images: Tensor
    records: tuple[RenderRecord, ...]
    manifest: Manifest

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.table))

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a picture, with the columns of `RenderRecord`."""
        return record_table(self.records)

    def pil(self) -> list[Image.Image]:
        """The pictures as 8-bit images."""
        return [to_pil(image) for image in (self.images * 255).round().to(torch.uint8)]

    def sheet(self, title: str = "", columns: int | None = None) -> Image.Image:
        """All pictures on one labelled sheet."""
        pictures = [
            image if record.shown else record.state for image, record in zip(self.pil(), self.records, strict=True)
        ]
        return contact_sheet(pictures, [record.label for record in self.records], title, columns)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the pictures, a contact sheet, records and the manifest into a folder; `load_renders` opens it.

        Raises:
            StoreError: the folder holds something else.
        """
        path = Path(folder)
        claim(path, self.manifest, WORDS)
        layer = self.manifest.config["layer"]
        files = [
            f"{place:04d}.png" if layer is None or record.unit is None else f"{Unit(layer, record.unit).stem}.png"
            for place, record in enumerate(self.records)
        ]
        pictures = (self.images * 255).round().to(torch.uint8)
        saved = load_renders(path)
        saved.add([RenderResult(*each) for each in zip(pictures, self.records, strict=True)], files)
        saved.merge()
        return path

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.sheet().save(buffer, format="PNG")
        return buffer.getvalue()


def render(
    model: Model,
    layer: str | None = None,
    units: int | Iterable[int] | None = None,
    *,
    objective: str | Any | Sequence[Any] = "excitation",
    config: RenderConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Renders:
    """Draws what units want to see: activation maximization of many units at once.

    Each picture maximizes its unit's activation, on average over the positions, by gradient ascent on
    the picture (Erhan et al. 2009; Olah, Mordvintsev and Schubert, "Feature Visualization", Distill
    2017). It depends on the weights, the config, the seed and the unit, not on the other units. The
    model is not changed.

    Args:
        model: from `memviz.load_model` or `memviz.wrap`.
        layer: an address or ordinal (`"alexnet.conv4"`, `"resnet@139"`), also with a unit
            (`"alexnet.conv4:5"`).
        units: one, several, or None for all.
        objective: of each unit, the name of a `memviz.objectives.UnitObjective`: "excitation" (mean over
            positions, inhibition counting half), "channel" (the plain mean), "neuron" (the centre), or one of
            your own; or, without a layer, an objective or a list of them: from `memviz.objectives`, or any of
            `lucent.optvis.objectives`.
        config: how, as `RenderConfig(size=224, steps=64)`.
        seed: another one gives other pictures.
        out: a folder; the pictures of each layer go into a folder `out/<address>` as PNG with a contact
            sheet and a manifest, as soon as they are done, and those already there are not drawn again.
            Several processes may draw into it at the same time.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        `Renders`: images (N, 3, H, W) float32 in [0, 1], and the table.

    Raises:
        LayerError: a layer or a unit that the model does not have.
        RenderError: a setting or size that does not work.
        StoreError: `out` holds pictures of other weights or settings.

    Example:
        >>> import memviz
        >>> model = memviz.load_model("memnet", weights=None)
        >>> config = memviz.RenderConfig(size=64, steps=2)
        >>> images, table = memviz.render(model, "alexnet.conv2", units=[0, 1], config=config)
        >>> images.shape
        torch.Size([2, 3, 64, 64])
    """
    if not isinstance(model, Model):
        raise RenderError(
            f"render takes a model of memviz; given was {type(model).__name__}. Make one of any network: "
            "memviz.wrap(module, inputs=...)."
        )
    config = config or RenderConfig()
    if layer is not None:
        address, channels = _chosen(model, layer, units)
        unit_objective(objective)
        assert isinstance(objective, str)
        return render_job(model, RenderJob(address, channels, objective, config, seed), out, progress)
    if isinstance(objective, str) or units is not None or out is not None:
        raise RenderError("Give a layer, or an objective such as memviz.objectives.Score() (without units and out).")
    given = objective if isinstance(objective, (list, tuple)) else [objective]
    if not given:
        raise RenderError("The list of objectives is empty. Give one or more.")
    return _render_objectives(model, [as_objective(item) for item in given], config, seed, progress)


def render_job(
    model: Model, job: RenderJob, out: str | os.PathLike[str] | None = None, progress: bool | None = None
) -> Renders:
    """Does a job on a model; arguments, result and errors are those of `render`."""
    layer = model.layers[job.address]
    job = job.resolve(layer, model.inputs)
    objectives = job.objectives()
    manifest = job.manifest(model.name, model.fingerprint(), layer, model.inputs)
    label = f"Rendering {job.address}"

    def make() -> Engine:
        return Engine(model, list(objectives.values()), job.config, job.seed)

    if out is None:
        results = [result for batch in _batches(make(), list(objectives.values()), progress, label) for result in batch]
        return _in_memory(results, manifest)
    folder = Path(out) / job.address
    check_folder(folder)
    # What cannot be drawn leaves no folder.
    engine = None if (folder / MANIFEST).is_file() else make()
    claim(folder, manifest, WORDS)
    saved = load_renders(folder)
    if missing := saved.missing(job):
        files = iter(replace(job, units=missing).files)
        for batch in _batches(engine or make(), [objectives[unit] for unit in missing], progress, label):
            saved.add(batch, [next(files) for _ in batch])
    saved = saved.merge(f"{model.name}  {job.address}")
    size = job.config.size
    if gone := saved.missing(job):
        raise StoreError(
            f"{folder} lost the pictures of the units {', '.join(map(str, gone[:5]))} while others were drawn: another "
            "process removes files there. Give the same call again, or another folder."
        )
    records = tuple(saved.units[unit] for unit in job.units)
    images = saved.images(records, model.inputs.size if size is None else (size, size))
    return Renders(images, tuple(replace(record, file=None) for record in records), saved.manifest)


def _render_objectives(
    model: Model, objectives: list[Objective | Lucent], config: RenderConfig, seed: int, progress: bool | None
) -> Renders:
    objectives = [each.validate(model.layers) if isinstance(each, Objective) else each for each in objectives]
    config = config.resolve(layers_of(model, objectives), model.inputs.size)
    described = {"layer": None, "objectives": [str(each) for each in objectives]} | config.to_dict()
    manifest = render_manifest(model.name, model.fingerprint(), model.inputs, described, seed)
    engine = Engine(model, objectives, config, seed)
    return _in_memory([result for batch in _batches(engine, objectives, progress) for result in batch], manifest)


def _chosen(model: Model, layer: str, units: int | Iterable[int] | None) -> tuple[str, tuple[int, ...]]:
    if ":" in layer:
        if units is not None:
            raise LayerError(f"{layer!r} names a unit already: then give no units.")
        unit = Unit.parse(layer, model.layers)
        return unit.address, (unit.channel,)
    row = model.layers[layer]
    return row.address, tuple(unit.channel for unit in units_of(row, units))


def _batches(
    engine: Engine, objectives: Sequence[Objective | Lucent], progress: bool | None, label: str = "Rendering"
) -> Iterator[list[RenderResult]]:
    images = sum(objective.images for objective in objectives)
    with show_progress(label, images * engine.config.steps, "steps", progress) as advance:
        for chunk in engine.chunks(objectives):
            yield engine.draw(chunk, advance)


def _in_memory(results: Sequence[RenderResult], manifest: Manifest) -> Renders:
    images = torch.stack([result.picture for result in results]).float() / 255
    return Renders(images, tuple(result.record for result in results), replace(manifest, **provenance()))
