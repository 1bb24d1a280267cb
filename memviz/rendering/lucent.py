"""Objectives of lucent, which run as they are, and objectives of any pictures together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memviz.errors import LayerError, RenderError, did_you_mean
from memviz.models import Model
from memviz.rendering.objective import OUTPUT, Evaluation, Objective

LucentObjective = Callable[[Callable[[str], Tensor]], Tensor]


@dataclass(frozen=True)
class Lucent:
    """An objective of `lucent.optvis.objectives`, which is a loss to minimize.

    Attributes:
        objective: the objective, or anything that maps a function from layer name to activation
            (N, C, H, W) to a loss. Names are addresses, with or without lucent's underscores.
        images: pictures that it speaks about together, as `diversity` does.
    """

    objective: LucentObjective
    images: int = 1

    def __str__(self) -> str:
        return str(getattr(self.objective, "description", "") or "lucent")


def lucent_names(module: nn.Module) -> dict[str, str]:
    """Lucent's name of each layer (`alexnet_conv4`) and its address."""
    return {name.replace(".", "_"): name for name, _ in module.named_modules() if name}


def resolve_lucent(name: str, names: Mapping[str, str]) -> str:
    """The address behind a lucent layer name; "labels" is the network's output."""
    if name == "labels":
        return OUTPUT
    if name in names.values():
        return name
    if name not in names:
        raise LayerError(f"There is no layer {name!r}. {did_you_mean(name, names)}")
    return names[name]


def asks_for_no_place(objective: Objective | Lucent) -> bool:
    """Whether what an objective wants may lie anywhere in the picture; of lucent's, nobody knows."""
    return isinstance(objective, Objective) and all(term.anywhere for _, term in objective.terms)


def rows_of(objectives: Sequence[Objective | Lucent]) -> list[range]:
    """The rows of each objective's pictures."""
    ends = list(itertools.accumulate(objective.images for objective in objectives))
    return [range(end - objective.images, end) for end, objective in zip(ends, objectives, strict=True)]


class ObjectiveBatch:
    """Evaluates one objective for each picture of a batch, all of a class at a layer at once.

    Args:
        objectives: objectives of one picture each, or `Lucent` ones of several.
        model: whose layers they are about.
        names: lucent's layer names, from `lucent_names`.
    """

    def __init__(self, objectives: Sequence[Objective | Lucent], model: Model, names: Mapping[str, str]) -> None:
        self._names = names
        self._lucent: list[tuple[slice, Lucent]] = []
        own: list[tuple[int, Objective]] = []
        for objective, rows in zip(objectives, rows_of(objectives), strict=True):
            if isinstance(objective, Lucent):
                self._lucent.append((slice(rows.start, rows.stop), objective))
            else:
                own.append((rows.start, objective))
        self.count = sum(objective.images for objective in objectives)
        self._own = Evaluation(own, model.layers, model.device)

    def __call__(
        self,
        activations: Mapping[str, Tensor],
        pictures: Tensor,
        size: tuple[int, int],
        refining: bool = False,
        endless: bool = False,
    ) -> Tensor:
        """Values (N,) to maximize; of several pictures with one objective, each has its share.

        Args:
            activations: by address.
            pictures: (N, 3, H, W), before any transform.
            size: (height, width) at which the network saw them.
            refining: whether these are the last steps (`Term.refine`).
            endless: as `Batch` has it.
        """
        values = pictures.new_zeros(self.count, dtype=torch.float32)
        values = self._own.add(values, activations, size, refining, endless)
        for rows, objective in self._lucent:

            def look(name: str, rows: slice = rows) -> Tensor:
                if name == "input":
                    return pictures[rows]
                return activations[resolve_lucent(name, self._names)][rows]

            loss = objective.objective(look)
            if not isinstance(loss, Tensor):
                raise RenderError(
                    f"{objective} gave {loss!r} instead of a tensor. If it speaks about several pictures together, "
                    "say how many: memviz.objectives.Lucent(objective, images=4)."
                )
            gain = -loss / (rows.stop - rows.start)
            values = values.index_add(
                0, torch.arange(rows.start, rows.stop, device=values.device), gain.expand(rows.stop - rows.start)
            )
        return values
