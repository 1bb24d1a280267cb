"""A job: the renders that were asked for, as one value that says the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from memviz.artefacts import Manifest
from memviz.errors import LayerError, RenderError, shown
from memviz.layers import Layer
from memviz.layers.unit import Unit, check_address, units_of
from memviz.models import InputSpec
from memviz.rendering.config import RenderConfig, read_table
from memviz.rendering.objective import UnitObjective, unit_objective

KIND, FORMAT = "memviz-renders", 2


@dataclass(frozen=True)
class RenderJob:
    """Units of a layer to render, and how; it knows no model, and serializes.

    Attributes:
        address: of the layer, or its ordinal.
        units: channels, each once.
        objective: the name of a unit objective.
        config: how.
        seed: from which each picture's own is made.

    Raises:
        LayerError: an address that no layer can have, or channels that are none.
        RenderError: an unknown objective, or a seed that is none.

    Example:
        >>> job = RenderJob("alexnet.conv4", (5, 7), "neuron", RenderConfig(steps=64))
        >>> RenderJob.from_dict(job.to_dict()) == job
        True
    """

    address: str
    units: tuple[int, ...]
    objective: str = "excitation"
    config: RenderConfig = field(default_factory=RenderConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_address(self.address)
        unit_objective(self.objective)
        if type(self.seed) is not int or abs(self.seed) >= 2**63:
            raise RenderError(f"seed must be a whole number of at most 63 bits; given was {shown(self.seed)}.")
        if not self.units or not all(type(unit) is int and 0 <= unit < 2**31 for unit in self.units):
            raise LayerError(f"units must be channels, from 0; given was {shown(self.units)}.")

    def resolve(self, layer: Layer, inputs: InputSpec) -> RenderJob:
        """The job with the layer's address and the pictures' size, and its units found valid.

        Raises:
            LayerError: a channel that the layer does not have.
        """
        units = tuple(unit.channel for unit in units_of(layer, self.units))
        anywhere = unit_objective(self.objective).anywhere
        layers = None if layer.receptive_field is None else [layer] if anywhere else []
        config = self.config.resolve(layers, inputs.size)
        return replace(self, address=layer.address, units=units, config=config)

    @property
    def files(self) -> list[str]:
        """The name of each picture's file."""
        return [f"{Unit(self.address, unit).stem}.png" for unit in self.units]

    def objectives(self) -> dict[int, UnitObjective]:
        """The objective of each unit."""
        make = unit_objective(self.objective)
        return {unit: make(self.address, unit) for unit in self.units}

    def manifest(self, model: str, weights: str, layer: Layer, inputs: InputSpec) -> Manifest:
        """Where its pictures come from, by which `SavedRenders` are compared with what is asked for.

        Args:
            model: its name.
            weights: the SHA-256 of its weights.
            layer: whose units they are.
            inputs: the model's preprocessing.
        """
        job = self.resolve(layer, inputs)
        config = {"layer": job.address, "objective": job.objective} | job.config.to_dict()
        return render_manifest(model, weights, inputs, config, job.seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` is the way back."""
        return {
            "address": self.address,
            "units": list(self.units),
            "objective": self.objective,
            "config": self.config.to_dict(),
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RenderJob:
        """The job that plain data describe.

        Raises:
            RenderError: an unknown or missing key, or a value of another type; also what the class itself raises.
        """
        values = dict(read_table(data, tuple(cls.__dataclass_fields__), "a render job"))
        if not isinstance(values.get("address"), str) or not isinstance(values.get("units"), list | tuple):
            raise RenderError(f"a render job has an address and a list of units; given was {shown(data)}.")
        values["units"] = tuple(values["units"])
        if "config" in values:
            values["config"] = RenderConfig.from_dict(values["config"])
        return cls(**values)


def render_manifest(model: str, weights: str, inputs: InputSpec, config: dict[str, Any], seed: int) -> Manifest:
    """The manifest of renders; of a mean image, which takes a megabyte, only the checksum is in it."""
    described = inputs.to_dict()
    if inputs.mean_image is not None:
        described["mean_image"] = {"sha256": inputs.mean_image.sha256}
    return Manifest(KIND, FORMAT, model, weights, described, config, seed)
