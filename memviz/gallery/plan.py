"""A recipe resolved once: which layers and units of which networks, what must be rendered for them, and where."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.artefacts import Manifest
from memviz.errors import LayerError, RecipeError
from memviz.gallery.recipe import NEAREST, Panel, Recipe, Source, load_recipe
from memviz.gallery.units import choose
from memviz.index import Index, load_index
from memviz.layers import Layer
from memviz.layers.unit import Unit, units_of
from memviz.models import Model
from memviz.models.weights import finding
from memviz.rendering.job import RenderJob

if TYPE_CHECKING:
    from memviz.explanation import Checkup, Drivers, Labels

# Of a page that somebody reads; a figure of a thousand renders is metres high.
MOST_UNITS = 1000
LOWEST = "inhibition"  # the objective of what is lowest


@dataclass(frozen=True)
class Network:
    """A network that a gallery shows, as its index describes it.

    Attributes:
        source: how the recipe names it.
        label: what the page calls it: the model's name, with the weights' where the name is not enough.
        index: the photographs that excite its units.
    """

    source: Source
    label: str
    index: Index

    @property
    def slug(self) -> str:
        """How names of files and links begin that are about it."""
        return _plain(self.label)

    @property
    def model(self) -> str:
        """Its name."""
        return str(self.index.manifest.model)

    @property
    def weights(self) -> str:
        """SHA-256 of its weights."""
        return str(self.index.manifest.weights)

    @property
    def inputs(self) -> dict[str, Any]:
        """The preprocessing; of a mean image, which takes a megabyte in the index, only its checksum."""
        inputs, image = self.index.inputs.to_dict(), self.index.inputs.mean_image
        return inputs if image is None else inputs | {"mean_image": {"sha256": image.sha256}}

    @cached_property
    def checkup(self) -> Checkup | None:
        """The checkup that was kept beside its index."""
        from memviz.explanation.checkup import find_checkup

        return find_checkup(self.index)

    @cached_property
    def drivers(self) -> Drivers | None:
        """The survey of what its units contribute to the score, that was kept in its index."""
        from memviz.explanation.drivers import find_drivers

        return find_drivers(self.index)

    def drive(self, unit: Unit) -> float | None:
        """How much more a unit adds to the logit where it is one standard deviation more active; None if unknown."""
        if self.drivers is None or unit.address not in self.drivers.layers:
            return None
        return float(self.drivers.frame(unit.address)["drive"][unit.channel])

    def driven(self, address: str) -> dict[int, dict[str, Any]]:
        """What the survey says of a layer's units, by channel; empty where it says nothing."""
        if self.drivers is None or address not in self.drivers.layers:
            return {}
        table = self.drivers.frame(address).drop(columns="address")
        return {int(row.pop("channel")): row for row in table.to_dict("records")}

    @cached_property
    def labels(self) -> Labels:
        """The labels that are kept beside its index."""
        from memviz.explanation.labels import load_labels

        return load_labels(self.index)

    def finding(self, address: str) -> str:
        """What its checkup, or the registry of published weights, has to say of a layer: a phrase, or nothing."""
        return self.checkup.finding(address) if self.checkup else finding(self.weights, address)

    def is_of(self, model: Model) -> bool:
        """Whether the index was made with this model."""
        return model.fingerprint() == self.weights and model.inputs == self.index.inputs

    def to_dict(self) -> dict[str, Any]:
        """Plain data; nothing says where on the maker's disk its files lie."""
        manifest, result = self.index.manifest, self.index.result
        about = {name: getattr(manifest, name) for name in ("model", "weights", "created", "versions")}
        counts = {"photographs": result.photographs, "unreadable": result.unreadable, "copies": result.copies}
        surveyed = {"drivers": self.drivers.about} if self.drivers else {}
        return {"label": self.label, "inputs": self.inputs, "k": self.index.config.k} | about | counts | surveyed


@dataclass(frozen=True)
class PlannedPanel:
    """A panel's units, found in the index of its network."""

    network: Network
    layer: Layer
    units: tuple[Unit, ...]
    lowest: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Of the job that renders its units: panels of one layer share it, if they show the same side."""
        return self.network.label, f"{self.layer.address}{' (lowest)' if self.lowest else ''}"


@dataclass(frozen=True)
class PlannedRow:
    """Panels side by side, with a label."""

    panels: tuple[PlannedPanel, ...]
    label: str


@dataclass(frozen=True)
class PlannedJob:
    """What must be rendered of one layer, and the folder in which its network's renders are kept."""

    network: Network
    layer: Layer
    job: RenderJob
    renders: Path

    @property
    def folder(self) -> Path:
        """Of this layer's renders."""
        return self.renders / self.layer.address

    @property
    def manifest(self) -> Manifest:
        """What the renders' manifest must say."""
        network = self.network
        return self.job.manifest(network.model, network.weights, self.layer, network.index.inputs)


@dataclass(frozen=True)
class Plan:
    """A gallery whose layers and units are found: the render jobs, the page and the figure are made from it.

    Made by `plan_gallery`. The same recipe and indexes give the same plan.

    Attributes:
        recipe: what was asked for.
        networks: whose units are shown.
        rows: the units.
        renders: the folder given for renders, or None.
    """

    recipe: Recipe
    networks: tuple[Network, ...]
    rows: tuple[PlannedRow, ...]
    renders: Path | None = None

    @property
    def panels(self) -> list[PlannedPanel]:
        """All panels, in the order in which they are shown."""
        return [panel for row in self.rows for panel in row.panels]

    @cached_property
    def jobs(self) -> dict[tuple[str, str], PlannedJob]:
        """What must be rendered, by the `key` of the panels that show it: one job for each layer of a network."""
        units: dict[tuple[str, str], set[int]] = {}
        for panel in self.panels:
            units.setdefault(panel.key, set()).update(unit.channel for unit in panel.units)
        return {panel.key: self._job(panel, tuple(sorted(units[panel.key]))) for panel in self.panels}

    def _job(self, panel: PlannedPanel, channels: tuple[int, ...]) -> PlannedJob:
        recipe, network = self.recipe, panel.network
        objective = LOWEST if panel.lowest else recipe.objective
        job = RenderJob(panel.layer.address, channels, objective, recipe.render, recipe.seed)
        # Renders of one layer are in one folder, which holds one objective.
        renders = self._renders_of(network) / (LOWEST if panel.lowest else "")
        return PlannedJob(network, panel.layer, job.resolve(panel.layer, network.index.inputs), renders)

    def _renders_of(self, network: Network) -> Path:
        """Where a network's renders are kept, in it a folder a layer, as `memviz render` writes them.

        Where nothing was given, or several networks share what was given, those of other weights and settings have
        folders of their own.
        """
        if self.renders is not None and len(self.networks) == 1:
            return self.renders
        recipe = self.recipe
        look = [network.weights, network.inputs, recipe.render.to_dict(), recipe.objective, recipe.seed]
        digest = hashlib.blake2b(json.dumps(look, sort_keys=True).encode(), digest_size=6).hexdigest()
        return (self.renders or network.index.path.resolve().parent / "renders") / f"{_plain(network.model)}-{digest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the gallery's manifest has it."""
        recipe = self.recipe
        rows = [
            {
                "label": row.label,
                "panels": [
                    {"network": panel.network.label, "units": [str(unit) for unit in panel.units]}
                    | ({"lowest": True} if panel.lowest else {})
                    for panel in row.panels
                ],
            }
            for row in self.rows
        ]
        about = {name: getattr(recipe, name) for name in ("title", "layout", "columns", "intro", "caption")}
        render = {"objective": recipe.objective, "seed": recipe.seed} | recipe.render.to_dict()
        return about | {"networks": [each.to_dict() for each in self.networks], "rows": rows, "render": render}


def plan_gallery(
    recipe: Recipe | str | os.PathLike[str],
    *,
    index: Index | str | os.PathLike[str] | None = None,
    renders: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
) -> Plan:
    """Finds a recipe's layers and units in its indexes.

    Args:
        recipe: a recipe or its TOML file.
        index: the index of the recipe's own network, or its folder; None takes the one that the recipe names.
        renders: where renders are kept: in it a folder a layer, as `memviz render` writes them, or, of a recipe of
            several networks, a folder a network with such folders. None is `renders` beside each index.
        photos: the folder below which that index's photographs lie now, if they moved; None takes what the recipe says.

    Raises:
        RecipeError: a recipe that cannot be followed with these indexes.
        StoreError: an index that is missing or damaged.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    sources = [panel.source or recipe.source for row in recipe.rows for panel in row.panels]
    indexes = {
        source: _index(source, *((index, photos) if source == recipe.source else (None, None)))
        for source in dict.fromkeys(sources)
    }
    networks = _networks(indexes)
    rows = []
    for row in recipe.rows:
        panels: list[PlannedPanel] = []
        for panel in row.panels:
            network = networks[panel.source or recipe.source]
            layer = _layer(panel.layer, network, panels[0].layer if panels else None)
            panels.append(PlannedPanel(network, layer, tuple(_units(panel, layer, network)), panel.lowest))
        rows.append(PlannedRow(tuple(panels), row.label))
    count = sum(len(panel.units) for row in rows for panel in row.panels)
    if count > MOST_UNITS:
        raise RecipeError(f"The recipe {recipe.title!r} shows {count:,} units; a gallery shows at most {MOST_UNITS:,}.")
    shown = tuple({network.label: network for network in networks.values()}.values())
    return Plan(recipe, shown, tuple(rows), None if renders is None else Path(renders))


def _index(
    source: Source, given: Index | str | os.PathLike[str] | None, photos: str | os.PathLike[str] | None
) -> Index:
    photos = source.photos if photos is None else photos
    if isinstance(given, Index):
        return given if photos is None else load_index(given.path, photos)
    folder = given if given is not None else source.index
    if folder is None:
        raise RecipeError(
            f"The recipe names no index of {source.model}. Make one, `memviz index {source.model} PHOTOS "
            "--out runs/photos`, and give it with --index runs/photos, or as index= in the recipe."
        )
    return load_index(folder, photos)


def _networks(indexes: dict[Source, Index]) -> dict[Source, Network]:
    """The network of each source; sources with the same index are the same network."""
    by_path: dict[Path, tuple[Source, Index]] = {}
    for source, index in indexes.items():
        model = str(index.manifest.model)
        # The folder of a trained model does not say its architecture's name; its weights are checked later.
        if "/" not in source.model and source.model != model:
            raise RecipeError(
                f"The recipe is about the model {source.model!r}, but the index {index.path} is of {model!r}. "
                f"Give an index made with `memviz index {source.model} PHOTOS --out INDEX`, or change the recipe."
            )
        by_path.setdefault(index.path.resolve(), (source, index))
    names = Counter(str(index.manifest.model) for _, index in by_path.values())
    networks = {}
    for path, (source, index) in by_path.items():
        name = str(index.manifest.model)
        label = name if names[name] == 1 else f"{name} {str(index.manifest.weights)[:8]}"
        networks[path] = Network(source, label, index)
    if len({network.slug for network in networks.values()}) < len(networks):
        raise RecipeError("The recipe names two indexes of the same weights. Name one of them everywhere.")
    return {source: networks[index.path.resolve()] for source, index in indexes.items()}


def _layer(name: str, network: Network, left: Layer | None) -> Layer:
    if left is not None and name.startswith(NEAREST):
        return _nearest(name.removeprefix(NEAREST), left, network.index)
    try:
        return network.index.layers[name]
    except LayerError as error:
        raise RecipeError(f"The index of {network.label} does not watch {name!r}. {error}") from error


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


def _units(panel: Panel, layer: Layer, network: Network) -> list[Unit]:
    if not isinstance(panel.units, str):
        try:
            return units_of(layer, panel.units)
        except LayerError as error:
            raise RecipeError(str(error)) from error
    return units_of(layer, choose(panel.units, layer.address, network.index, network.drivers))


def _plain(name: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)
