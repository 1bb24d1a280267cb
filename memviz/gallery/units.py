"""Which units of a layer a panel shows, where the recipe says how to choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memviz.errors import RecipeError
from memviz.index import Index

if TYPE_CHECKING:
    from memviz.explanation import Drivers

SELECTIVE, DRIVERS, RAISING, LOWERING = "selective", "drivers", "raising", "lowering"


def choose(how: str, address: str, index: Index, drivers: Drivers | None) -> list[int]:
    """The channels that a phrase such as "selective:5" or "drivers:8" chooses.

    Args:
        how: the phrase, as `memviz.gallery.recipe.Panel` describes it.
        address: of the layer.
        index: of the network.
        drivers: the survey of its units; None where there is none.

    Raises:
        RecipeError: fewer units of the kind than are asked for, or no survey.
    """
    kind, _, number = how.partition(":")
    count = int(number)
    if kind == SELECTIVE:
        return _selective(address, count, index)
    if drivers is None:
        raise RecipeError(
            f"{how!r} shows the units that drive the score, of which the index {index.path} knows nothing yet. Make "
            f"them first: memviz drivers {index.manifest.model} --index {index.path}."
        )
    if kind != DRIVERS:
        return _driving(drivers, address, count, kind)
    return _driving(drivers, address, count - count // 2, RAISING) + _driving(drivers, address, count // 2, LOWERING)


def _driving(drivers: Drivers, address: str, count: int, kind: str) -> list[int]:
    found = drivers.strongest(address, count, "up" if kind == RAISING else "down")["channel"].tolist()
    if len(found) < count:
        raise RecipeError(f"{address} has {len(found)} units {kind} the score, but the recipe asks for {count}.")
    return [int(channel) for channel in found]


def _selective(address: str, count: int, index: Index) -> list[int]:
    stats = index.stats(address)
    # A unit that never varies selects nothing, and one that is never positive is silent behind its ReLU.
    stats = stats[(stats["std"] > 0) & (stats["peak"] > 0)]
    if len(stats) < count:
        raise RecipeError(
            f"{address} has {len(stats)} units that some photograph of the index excites, "
            f"but the recipe asks for the {count} most selective ones."
        )
    # An almost silent unit's single faint answer stands out by many deviations, so the livelier half comes first.
    stats = stats.assign(
        lively=stats["peak"] >= stats["peak"].median(),
        selectivity=(stats["peak"] - stats["mean"]) / stats["std"],
    )
    ranked = stats.sort_values(["lively", "selectivity", "channel"], ascending=[False, False, True])
    return [int(unit) for unit in ranked["channel"][:count]]
