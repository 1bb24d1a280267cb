"""A gallery as asked for: which model, which layers and units, in which layout."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.errors import LayerError, RecipeError, RenderError, did_you_mean
from memviz.rendering.config import RenderConfig
from memviz.rendering.job import RenderJob

if TYPE_CHECKING:
    from memviz.index import Index
    from memviz.layers import Layer

LAYOUTS = ("grid", "photographs", "branches")
_SELECTIVE = re.compile(r"selective:([1-9]\d*)")
_NEAREST = "nearest:"


@dataclass(frozen=True)
class Panel:
    """Units of one layer.

    Attributes:
        layer: an address (`alexnet.conv4`), an ordinal (`resnet@13`), or, at the right of a row,
            `nearest:resnet`: the layer below that name whose receptive field is nearest to the left one's.
        units: channel numbers, or `selective:5`: among the units that photographs excite at all, the half
            that they excite more; of these, the five whose best photograph stands out most from the mean
            over the photographs, in standard deviations.
    """

    layer: str
    units: tuple[int, ...] | str


@dataclass(frozen=True)
class Row:
    """Panels side by side, with a label."""

    panels: tuple[Panel, ...]
    label: str = ""


@dataclass(frozen=True)
class Choice:
    """A panel's layer and units, found in an index."""

    layer: Layer
    units: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """A gallery as asked for; `load_recipe` reads one from TOML.

    Attributes:
        layout: `grid` (a plate of renders), `photographs` (each render beside its nine top
            photographs) or `branches` (rows of two layers side by side).
        columns: how many pictures a row of the grid has.
        index: folder of the index; the caller may give another one.
        render, objective, seed: how the units are rendered.
    """

    title: str
    model: str
    layout: str
    rows: tuple[Row, ...]
    columns: int = 5
    intro: str = ""
    caption: str = ""
    index: Path | None = None
    render: RenderConfig = field(default_factory=RenderConfig)
    objective: str = "excitation"
    seed: int = 0

    def resolve(self, index: Index) -> tuple[tuple[Choice, ...], ...]:
        """The layers and units of each row, as found in `index`; the same index gives the same choice."""
        given = index.manifest.model
        if given != self.model:
            raise RecipeError(
                f"The recipe {self.title!r} is about the model {self.model!r}, but the index is of {given!r}. "
                f"Give an index made with `memviz index {self.model} PHOTOS --out INDEX`, or change the recipe's model."
            )
        return tuple(_resolve_row(row, index) for row in self.rows)

    def jobs(self, index: Index) -> list[RenderJob]:
        """What must be rendered for this gallery: one job a layer, in the order of the rows."""
        units: dict[str, tuple[Layer, set[int]]] = {}
        for row in self.resolve(index):
            for choice in row:
                units.setdefault(choice.layer.address, (choice.layer, set()))[1].update(choice.units)
        return [
            RenderJob(address, tuple(sorted(chosen)), self.objective, self.render, self.seed).resolve(
                layer, index.inputs
            )
            for address, (layer, chosen) in units.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the index's folder, which is the caller's own."""
        plain = {key: value for key, value in asdict(self).items() if key != "index"}
        return plain | {"render": self.render.to_dict()}


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Reads a recipe; a folder named in it is relative to the recipe's own.

    Raises:
        RecipeError: a file that is missing or not TOML, a key or value that no recipe has.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(file.name for file in path.parent.glob("*.toml"))
        raise RecipeError(
            f"There is no recipe {path}. {did_you_mean(path.name, near) if near else ''}".strip()
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}.") from error
    return parse_recipe(data, where=str(path), folder=path.parent)


def parse_recipe(data: Mapping[str, Any], where: str = "the recipe", folder: Path | None = None) -> Recipe:
    """The recipe that a TOML document describes.

    >>> parse_recipe(
    ...     {
    ...         "title": "Edges",
    ...         "model": "resmem",
    ...         "layout": "grid",
    ...         "panels": [{"layer": "alexnet.conv1", "units": [3, 5]}],
    ...     }
    ... ).rows[0].panels[0].units
    (3, 5)
    """
    document = _Table(data, where, "title model layout panels rows columns intro caption index render")
    layout = document.text("layout")
    if layout not in LAYOUTS:
        raise RecipeError(f"{where}: layout is {layout!r}; it can be {', '.join(LAYOUTS)}.")
    needed, other = ("rows", "panels") if layout == "branches" else ("panels", "rows")
    if other in data:
        raise RecipeError(f"{where}: the layout {layout!r} is made of [[{needed}]], not of [[{other}]].")
    parse = _row if layout == "branches" else _panel_row
    rows = [parse(entry, f"{where}, {needed}[{place}]") for place, entry in enumerate(document.tables(needed), start=1)]
    if not rows:
        raise RecipeError(f"{where}: a recipe needs at least one [[{needed}]].")
    index = document.text("index", "")
    config, objective, seed = _render(document.table("render"), f"{where}, [render]")
    return Recipe(
        title=document.text("title"),
        model=document.text("model"),
        layout=layout,
        rows=tuple(rows),
        columns=document.positive("columns", 5),
        intro=document.text("intro", ""),
        caption=document.text("caption", ""),
        index=(folder or Path()) / Path(index).expanduser() if index else None,
        render=config,
        objective=objective,
        seed=seed,
    )


class _Table:
    """A TOML table whose keys and types are checked as they are taken."""

    def __init__(self, data: object, where: str, known: str) -> None:
        if not isinstance(data, Mapping):
            raise RecipeError(f"{where} should be a table, but is {data!r}.")
        for key in data:
            if key not in known.split():
                raise RecipeError(f"{where}: unknown key {key!r}. {did_you_mean(str(key), known.split(), most=10)}")
        self.data, self.where = data, where

    def text(self, key: str, default: str | None = None) -> str:
        value = self.data.get(key, default)
        if value is None or (default is None and value == ""):
            raise RecipeError(f"{self.where}: {key!r} is missing.")
        if not isinstance(value, str):
            raise RecipeError(f"{self.where}: {key} should be text, but is {value!r}.")
        return value.strip()

    def positive(self, key: str, default: int) -> int:
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{self.where}: {key} should be a whole number from 1, but is {value!r}.")
        return value

    def tables(self, key: str) -> list[object]:
        value = self.data.get(key, [])
        if not isinstance(value, list):
            raise RecipeError(f"{self.where}: write each of {key} as a table under [[{key}]].")
        return value

    def table(self, key: str) -> object:
        return self.data.get(key, {})


def _render(data: object, where: str) -> tuple[RenderConfig, str, int]:
    """The `[render]` table: the fields of a `RenderConfig`, the objective and the seed."""
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where} should be a table, but is {data!r}.")
    fields = {"objective": Recipe.objective, "seed": Recipe.seed} | dict(data)
    objective, seed = fields.pop("objective"), fields.pop("seed")
    if fields.get("transforms") is False:  # TOML has no null
        fields["transforms"] = None
    try:
        config = RenderConfig.from_dict(fields)
        RenderJob("layer", (0,), objective, config, seed)
    except RenderError as error:
        raise RecipeError(f"{where}: {error}") from error
    return config, objective, seed


def _row(data: object, where: str) -> Row:
    table = _Table(data, where, "label left right")
    sides = [side for side in ("left", "right") if side in table.data]
    if not sides:
        raise RecipeError(f"{where}: a row needs `left`, `right` or both, each with a layer and units.")
    panels = tuple(_panel(_Table(table.data[side], f"{where}.{side}", "layer units")) for side in sides)
    if panels[0].layer.startswith(_NEAREST):
        raise RecipeError(f"{where}: {panels[0].layer!r} needs a layer at its left to be nearest to.")
    return Row(panels, table.text("label", ""))


def _panel_row(data: object, where: str) -> Row:
    table = _Table(data, where, "label layer units")
    panel = _panel(table)
    if panel.layer.startswith(_NEAREST):
        raise RecipeError(f"{where}: {panel.layer!r} can only be the right of a row in the layout 'branches'.")
    return Row((panel,), table.text("label", ""))


def _panel(table: _Table) -> Panel:
    layer = table.text("layer")
    units = table.data.get("units")
    if isinstance(units, str) and _SELECTIVE.fullmatch(units):
        return Panel(layer, units)
    if isinstance(units, list) and units and all(type(unit) is int and unit >= 0 for unit in units):
        if len(set(units)) < len(units):
            raise RecipeError(f"{table.where}: units names a unit twice: {units}.")
        return Panel(layer, tuple(units))
    raise RecipeError(
        f"{table.where}: units is {units!r}; "
        'it can be a list of channel numbers, as [0, 5], or "selective:5" for the five most selective ones.'
    )


def _resolve_row(row: Row, index: Index) -> tuple[Choice, ...]:
    choices: list[Choice] = []
    for panel in row.panels:
        if panel.layer.startswith(_NEAREST):
            layer = _nearest(panel.layer.removeprefix(_NEAREST), choices[0].layer, index)
        else:
            layer = _layer(panel.layer, index)
        choices.append(Choice(layer, _units(panel.units, layer, index)))
    return tuple(choices)


def _layer(name: str, index: Index) -> Layer:
    try:
        return index.layers[name]
    except LayerError as error:
        raise RecipeError(f"The index does not watch {name!r}. {error}") from error


def _nearest(branch: str, to: Layer, index: Index) -> Layer:
    """The layer of `branch` with the receptive field nearest to that of `to`: of equals a block, then the first."""
    candidates = [layer for layer in index.layers if layer.address.startswith(f"{branch}.") and layer.receptive_field]
    if not candidates:
        branches = sorted({layer.address.split(".")[0] for layer in index.layers})
        raise RecipeError(
            f"The index watches no layer with a receptive field in {branch!r}. It has {', '.join(branches)}."
        )
    if to.receptive_field is None:
        raise RecipeError(f"{to.address} sees the whole picture, so no layer of {branch!r} is nearest to it.")
    sought = to.receptive_field
    return min(
        candidates,
        key=lambda layer: (
            max(abs(a - b) for a, b in zip(layer.receptive_field or (), sought, strict=True)),
            not layer.block,
        ),
    )


def _units(units: tuple[int, ...] | str, layer: Layer, index: Index) -> tuple[int, ...]:
    if not isinstance(units, str):
        beyond = [unit for unit in units if unit >= layer.channels]
        if beyond:
            raise RecipeError(f"{layer.address} has units 0 to {layer.channels - 1}, but the recipe asks for {beyond}.")
        return units
    count = int(units.removeprefix("selective:"))
    stats = index.stats(layer.address)
    # A unit that never varies selects nothing, and one that is never positive is silent behind its ReLU.
    stats = stats[(stats["std"] > 0) & (stats["peak"] > 0)]
    if len(stats) < count:
        raise RecipeError(
            f"{layer.address} has {len(stats)} units that some photograph of the index excites, "
            f"but the recipe asks for the {count} most selective ones."
        )
    # An almost silent unit's single faint answer stands out by many deviations, so the livelier half comes first.
    stats = stats.assign(
        lively=stats["peak"] >= stats["peak"].median(),
        selectivity=(stats["peak"] - stats["mean"]) / stats["std"],
    )
    ranked = stats.sort_values(["lively", "selectivity", "channel"], ascending=[False, False, True])
    return tuple(int(unit) for unit in ranked["channel"][:count])
