"""A gallery as asked for: which networks, which layers and units, in which layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memviz.errors import MemvizError, RecipeError, shown
from memviz.files import read_json
from memviz.gallery.layouts import LAYOUTS
from memviz.gallery.schema import LabelledTable, PanelTable, RowTable, SourceTable, read_table, read_toml
from memviz.rendering.config import RenderConfig
from memviz.rendering.job import RenderJob

NEAREST = "nearest:"
_FILES = ("mean", "index", "photos")  # of a source


@dataclass(frozen=True)
class Source:
    """Which network, and where the photographs that excite its units are found.

    Attributes:
        model: a name that `memviz.load_model` knows, or the folder of a trained model.
        weights: "published", a file or folder of weights, or None for random ones.
        mean: a mean image's file, for models that subtract one.
        options: of the architecture, as pairs of name and value.
        index: folder of the index; None where the caller gives it.
        photos: the folder below which its photographs lie now, if they moved.
    """

    model: str
    weights: str | None = "published"
    mean: Path | None = None
    options: tuple[tuple[str, str], ...] = ()
    index: Path | None = None
    photos: Path | None = None


@dataclass(frozen=True)
class Panel:
    """Units of one layer.

    Attributes:
        layer: an address (`alexnet.conv4`), an ordinal (`resnet@13`), or, at the right of a row,
            `nearest:resnet`: the layer below that name whose receptive field is nearest to the left one's.
        units: channel numbers, or `selective:5`: among the units that photographs excite at all, the half
            that they excite more; of these, the five whose best photograph stands out most from the mean
            over the photographs, in standard deviations. `raising:4` and `lowering:4` are the four with the highest
            and the lowest drive (`memviz.explanation.moments`), by the survey of `memviz drivers` over most
            photographs; `drivers:8` is four of each, or one more raising, the raising ones first.
        source: the network, where it is not the recipe's own.
        lowest: whether it shows what lowers the units instead: the photographs with the lowest peaks, and renders that
            minimize the mean.
    """

    layer: str
    units: tuple[int, ...] | str
    source: Source | None = None
    lowest: bool = False


@dataclass(frozen=True)
class Row:
    """Panels side by side, with a label."""

    panels: tuple[Panel, ...]
    label: str = ""


@dataclass(frozen=True)
class Recipe:
    """A gallery as asked for; `load_recipe` reads one from TOML.

    Attributes:
        source: the network of all panels that name none of their own.
        layout: `grid` (a plate of renders), `photographs` (each render beside its nine top
            photographs) or `branches` (rows of two layers side by side).
        columns: how many pictures a row of the grid has.
        render, objective, seed: how the units are rendered.
    """

    title: str
    source: Source
    layout: str
    rows: tuple[Row, ...]
    columns: int = 5
    intro: str = ""
    caption: str = ""
    render: RenderConfig = field(default_factory=RenderConfig)
    objective: str = "excitation"
    seed: int = 0


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Reads a recipe; files and folders named in it are relative to the recipe's own.

    Raises:
        RecipeError: a file that is missing or not TOML, a key or value that no recipe has.
    """
    path = Path(path)
    return parse_recipe(read_toml(path), where=str(path), folder=path.parent)


def parse_recipe(data: Mapping[str, Any], where: str = "the recipe", folder: Path | None = None) -> Recipe:
    """The recipe that a TOML document describes.

    Args:
        data: the document.
        where: what messages call it.
        folder: to which paths in it are relative.

    Raises:
        RecipeError: a key or value that no recipe has.

    Example:
        >>> recipe = parse_recipe(
        ...     {
        ...         "title": "Edges",
        ...         "model": "resmem",
        ...         "layout": "grid",
        ...         "panels": [{"layer": "alexnet.conv1", "units": [3, 5]}],
        ...     }
        ... )
        >>> recipe.rows[0].panels[0].units
        (3, 5)
    """
    table = read_table(data, where)
    if table.layout not in LAYOUTS:
        raise RecipeError(f"{where}: layout is {shown(table.layout)}; it can be {', '.join(LAYOUTS)}.")
    needed = LAYOUTS[table.layout].table
    other = "rows" if needed == "panels" else "panels"
    if getattr(table, other):
        raise RecipeError(f"{where}: the layout {table.layout!r} is made of [[{needed}]], not of [[{other}]].")
    reader = _Reader(table.model, folder or Path())
    rows = tuple(reader.row(entry, f"{where}, {needed}[{place}]") for place, entry in enumerate(getattr(table, needed)))
    if not rows:
        raise RecipeError(f"{where}: a recipe needs at least one [[{needed}]].")
    config, objective, seed = _render(table.render, f"{where}, [render]", reader)
    return Recipe(
        title=table.title.strip(),
        source=reader.source(table),
        layout=table.layout,
        rows=rows,
        columns=table.columns,
        intro=table.intro.strip(),
        caption=table.caption.strip(),
        render=config,
        objective=objective,
        seed=seed,
    )


@dataclass(frozen=True)
class _Reader:
    """What the tables of a recipe need of the whole: its model, and the folder that it lies in."""

    model: str
    folder: Path

    def row(self, table: RowTable | LabelledTable, where: str) -> Row:
        if isinstance(table, LabelledTable):
            return Row((self.panel(table, where, first=True),), table.label.strip())
        sides = {side: panel for side in ("left", "right") if (panel := getattr(table, side)) is not None}
        if not sides:
            raise RecipeError(f"{where}: a row needs `left`, `right` or both, each with a layer and units.")
        panels = [self.panel(panel, f"{where}.{side}", side == next(iter(sides))) for side, panel in sides.items()]
        return Row(tuple(panels), table.label.strip())

    def panel(self, table: PanelTable, where: str, first: bool) -> Panel:
        if first and table.layer.startswith(NEAREST):
            raise RecipeError(
                f"{where}: {table.layer!r} needs a layer at its left to be nearest to; only the right of a row has one."
            )
        units = table.units if isinstance(table.units, str) else tuple(table.units)
        if len(set(units)) < len(units) and not isinstance(units, str):
            raise RecipeError(f"{where}: units names a unit twice: {shown(table.units)}.")
        if not any(getattr(table, key) for key in SourceTable.__struct_fields__):
            return Panel(table.layer, units, lowest=table.lowest)
        if table.index is None:
            raise RecipeError(f"{where}: a panel that names a network of its own also names its index, index = FOLDER.")
        return Panel(table.layer, units, self.source(table), table.lowest)

    def source(self, table: SourceTable) -> Source:
        model, weights = table.model or self.model, table.weights or "published"
        # A name has no slash, and a folder is written with one.
        return Source(
            model=self.path(model) if "/" in model else model,
            weights=None if weights == "random" else weights if weights == "published" else self.path(weights),
            options=tuple(sorted(table.options.items())),
            **{name: Path(self.path(text)) for name in _FILES if (text := getattr(table, name))},
        )

    def path(self, text: str) -> str:
        return str(self.folder / Path(text).expanduser())


def _render(data: Mapping[str, Any], where: str, reader: _Reader) -> tuple[RenderConfig, str, int]:
    """The `[render]` table: the fields of a `RenderConfig`, the objective and the seed."""
    fields: dict[str, Any] = {"objective": Recipe.objective, "seed": Recipe.seed, **data}
    objective, seed = fields.pop("objective"), fields.pop("seed")
    # TOML has no null.
    fields |= {name: None for name in ("transforms", "refinement") if fields.get(name) is False}
    try:
        if isinstance(file := fields.get("parameterization"), str):  # the spectrum that `memviz render` has saved
            fields["parameterization"] = read_json(reader.path(file))
        config = RenderConfig.from_dict(fields)
        RenderJob("layer", (0,), objective, config, seed)
    except (MemvizError, RecursionError) as error:
        raise RecipeError(f"{where}: {error}") from error
    return config, objective, seed
