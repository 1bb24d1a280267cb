"""`memviz.render`: from units or objectives to pictures."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from memviz.errors import LayerError, RenderError
from memviz.files import provenance, replacing, write_json
from memviz.layers import Layer
from memviz.models import Model
from memviz.progress import progress as show_progress
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.config import RenderConfig
from memviz.rendering.engine import Engine, RenderResult
from memviz.rendering.objectives import Lucent, Objective, as_objective, channel, checked, excitation, neuron
from memviz.rendering.parameterize import Parameterization
from memviz.rendering.sheet import contact_sheet
from memviz.rendering.store import MANIFEST, SavedRenders, open_renders, to_pil

if TYPE_CHECKING:
    import pandas as pd

UnitObjective = Literal["excitation", "channel", "neuron"]
_UNIT_OBJECTIVES = {"excitation": excitation, "channel": channel, "neuron": neuron}
CONTACT_SHEET = "contact_sheet.png"
_UNCHANGED: Any = object()


@dataclass(frozen=True)
class Renders:
    """Rendered pictures and what they reach; unpacks into `images, table`.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1], on the CPU.
        table: one row a picture: `unit` (missing for a free objective), `objective`, `activation`
            (of a unit the mean over positions on the finished picture, else the objective's value),
            `peak` (the largest activation over positions), `steps`, `seed`, and `state`: "ok",
            "redirected" (it started with redirected ReLU gradients) or "dead" (no gradient reaches it:
            its picture shows nothing).
        manifest: model, weights, config and versions.
    """

    images: Tensor
    table: pd.DataFrame
    manifest: dict[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.table))

    def __len__(self) -> int:
        return len(self.images)

    def pil(self) -> list[Image.Image]:
        """The pictures as 8-bit images."""
        return [to_pil(image) for image in self.images]

    def sheet(self, title: str = "", columns: int | None = None) -> Image.Image:
        """All pictures on one labelled sheet."""
        import pandas as pd

        rows = self.table.itertuples()
        labels = [str(row.objective) if pd.isna(row.unit) else str(row.unit) for row in rows]
        states = self.table["state"].tolist()
        pictures = [None if state == "dead" else image for state, image in zip(states, self.pil(), strict=True)]
        return contact_sheet(pictures, labels, title, columns)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the pictures as `000.png`, ..., a contact sheet and the manifest into a folder."""
        path = Path(folder)
        files = []
        for place, (image, state) in enumerate(zip(self.pil(), self.table["state"], strict=True)):
            files.append(None if state == "dead" else f"{place:03d}.png")
            if files[-1]:
                with replacing(path / files[-1]) as temporary:
                    image.save(temporary)
        with replacing(path / CONTACT_SHEET) as temporary:
            self.sheet().save(temporary)
        rows = json.loads(self.table.assign(file=files).to_json(orient="records"))
        write_json(path / MANIFEST, self.manifest | {"pictures": rows})
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
    objective: UnitObjective | Any | Sequence[Any] = "excitation",
    size: int | None = _UNCHANGED,
    steps: int = _UNCHANGED,
    learning_rate: float = _UNCHANGED,
    parameterization: Parameterization = _UNCHANGED,
    transforms: RandomTransforms | None = _UNCHANGED,
    batch_size: int | None = _UNCHANGED,
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
        objective: of each unit its "excitation" (mean over positions, inhibition counting half),
            "channel" (the plain mean) or "neuron" (the centre); or, without a layer, an objective or a
            list of them: from `memviz.objectives`, or any of `lucent.optvis.objectives`.
        size, steps, learning_rate, parameterization, transforms, batch_size: see `RenderConfig`.
        config: a whole `RenderConfig`, which the above change.
        seed: another one gives other pictures.
        out: a folder; the pictures of each layer go into a folder `out/<address>` as PNG with a contact
            sheet and a manifest, as soon as they are done, and those already there are not drawn again.
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
        >>> images, table = memviz.render(model, "alexnet.conv4", units=[0, 1], size=64, steps=2)
        >>> images.shape
        torch.Size([2, 3, 64, 64])
    """
    if not isinstance(model, Model):
        raise RenderError(
            f"render takes a model of memviz; given was {type(model).__name__}. Make one of any network: "
            "memviz.wrap(module, inputs=...)."
        )
    settings: dict[str, Any] = {
        "size": size,
        "steps": steps,
        "learning_rate": learning_rate,
        "parameterization": parameterization,
        "transforms": transforms,
        "batch_size": batch_size,
    }
    changed = {name: value for name, value in settings.items() if value is not _UNCHANGED}
    config = replace(config or RenderConfig(), **changed)
    if layer is None:
        if isinstance(objective, str) or units is not None or out is not None:
            raise RenderError(
                "Give a layer, or an objective such as memviz.objectives.score() (without units and out)."
            )
        given = objective if isinstance(objective, (list, tuple)) else [objective]
        if not given:
            raise RenderError("The list of objectives is empty. Give one or more.")
        objectives = [_checked(as_objective(item), model) for item in given]
        header = _header(model, objectives, config, seed)
        return _table(_draw(model, objectives, config, seed, progress), objectives, [None] * len(objectives), header)
    row, wanted = _units(model, layer, units)
    if not isinstance(objective, str) or objective not in _UNIT_OBJECTIVES:
        raise RenderError(
            f"objective={objective!r}: of the units of a layer, give 'excitation', 'channel' or 'neuron'."
        )
    make = _UNIT_OBJECTIVES[objective]
    by_unit = {unit: make(row.address, unit) for unit in wanted}
    header = _header(model, list(by_unit.values()), config, seed)
    header["config"]["objective"] = objective
    if out is None:
        drawn = _draw(model, list(by_unit.values()), config, seed, progress)
        return _table(drawn, list(by_unit.values()), list(by_unit), header)
    saved = open_renders(Path(out) / row.address, header, row)
    missing = [unit for unit in wanted if unit not in saved.units]
    _draw_into(saved, model, {unit: by_unit[unit] for unit in missing}, config, seed, progress)
    return _loaded(saved, by_unit, config.size_for(model, list(by_unit.values())))


def _header(model: Model, objectives: Sequence[Objective | Lucent], config: RenderConfig, seed: int) -> dict[str, Any]:
    """What a manifest says of the pictures: with the same of these, they are the same."""
    height, _ = config.size_for(model, objectives)
    return {
        "model": model.name,
        "weights": model.fingerprint(),
        "config": config.to_dict() | {"size": height},
        "seed": seed,
    }


def _checked(objective: Objective | Lucent, model: Model) -> Objective | Lucent:
    return checked(objective, model.layers) if isinstance(objective, Objective) else objective


def _units(model: Model, layer: str, units: int | Iterable[int] | None) -> tuple[Layer, list[int]]:
    address, mark, unit = layer.rpartition(":")
    if mark:
        if units is not None or not unit.isdigit():
            raise LayerError(f"{layer!r}: write a unit as address:number, and then give no units.")
        layer, units = address, int(unit)
    row = model.layers[layer]
    wanted = (
        list(range(row.channels)) if units is None else [units] if isinstance(units, (int, np.integer)) else list(units)
    )
    wanted = list(dict.fromkeys(int(unit) for unit in wanted))
    wrong = [unit for unit in wanted if not 0 <= unit < row.channels]
    if wrong or not wanted:
        given = f"given was {wrong[0]}" if wrong else "none was given"
        raise LayerError(f"{row.address} has units 0 to {row.channels - 1}; {given}.")
    return row, wanted


def _draw(
    model: Model,
    objectives: Sequence[Objective | Lucent],
    config: RenderConfig,
    seed: int,
    progress: bool | None,
) -> list[RenderResult]:
    return [picture for _, batch in _batches(model, objectives, config, seed, progress) for picture in batch]


def _batches(
    model: Model, objectives: Sequence[Objective | Lucent], config: RenderConfig, seed: int, progress: bool | None
) -> Iterator[tuple[list[Objective | Lucent], list[RenderResult]]]:
    # The caller may be in inference mode, where there are no gradients.
    with torch.inference_mode(False):
        engine = Engine(model, objectives, config, seed)
    images = sum(objective.images for objective in objectives)
    with show_progress("Rendering", images * config.steps, "steps", progress) as advance:
        for chunk in engine.chunks(objectives):
            with torch.inference_mode(False):
                drawn = engine.draw(chunk, advance)
            yield chunk, drawn


def _draw_into(
    saved: SavedRenders,
    model: Model,
    objectives: dict[int, Objective],
    config: RenderConfig,
    seed: int,
    progress: bool | None,
) -> None:
    if objectives:
        left = iter(objectives)
        for _, batch in _batches(model, list(objectives.values()), config, seed, progress):
            for drawn in batch:
                record = {
                    "activation": drawn.activation,
                    "peak": drawn.peak,
                    "steps": config.steps,
                    "seed": seed,
                    "state": drawn.state,
                }
                saved.add(next(left), drawn.picture, record)
            saved.save()
    units = sorted(saved.units)
    sheet, manifest = saved.folder / CONTACT_SHEET, saved.folder / MANIFEST
    # An interrupted run leaves a sheet that is older than the manifest, or none.
    if not sheet.is_file() or sheet.stat().st_mtime_ns < manifest.stat().st_mtime_ns:
        pictures = [saved.picture(unit) for unit in units]
        drawn_sheet = contact_sheet(pictures, [str(unit) for unit in units], f"{model.name}  {saved.layer.address}")
        with replacing(sheet) as temporary:
            drawn_sheet.save(temporary)


def _table(
    drawn: Sequence[RenderResult],
    objectives: Sequence[Objective | Lucent],
    units: Sequence[int | None],
    header: dict[str, Any],
) -> Renders:
    import pandas as pd

    rows = []
    steps, seed = header["config"]["steps"], header["seed"]
    pictures = iter(drawn)
    for objective, unit in zip(objectives, units, strict=True):
        for _ in range(objective.images):
            picture = next(pictures)
            rows.append((unit, str(objective), picture.activation, picture.peak, steps, seed, picture.state))
    columns = ["unit", "objective", "activation", "peak", "steps", "seed", "state"]
    table = pd.DataFrame(rows, columns=columns).astype({"unit": "Int64"})
    return Renders(torch.stack([picture.picture for picture in drawn]), table, header | provenance())


def _loaded(saved: SavedRenders, objectives: dict[int, Objective], size: tuple[int, int]) -> Renders:
    import pandas as pd

    images, rows = [], []
    for unit, objective in objectives.items():
        record, picture = saved.units[unit], saved.picture(unit)
        # A dead unit has no picture: mid-grey stands for it, as its state says.
        array = np.asarray(picture, dtype=np.float32) / 255 if picture else np.full((*size, 3), 0.5, np.float32)
        images.append(torch.from_numpy(array).permute(2, 0, 1).contiguous())
        keys = ("activation", "peak", "steps", "seed", "state")
        rows.append({"unit": unit, "objective": str(objective)} | {key: record[key] for key in keys})
    return Renders(torch.stack(images), pd.DataFrame(rows).astype({"unit": "Int64"}), saved.manifest)
