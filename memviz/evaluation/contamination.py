"""Detects test images that were in the training of a model, or of its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.files import sha256
from memviz.models import Model
from memviz.models.weights import RESMEM

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED_RESMEM = RESMEM.fingerprint
PHOTOGRAPHS = "photographs.csv"
_DATASETS = ("lamem", "memcat")  # what the published ResMem was trained on, as the paper says
_PUBLISHED = (
    "The published ResMem was trained on LaMem and MemCat. Its test subset was drawn without a seed and is not known, "
    "so it has seen most of the {images} here: errors are too low and correlations too high."
)
# By the key of the card: warnings about the model that a model started from, or whose scores it learned.
_PUBLISHED_BEFORE = {
    "start": "{model} started{through} from the weights of the published ResMem, which was trained on LaMem and MemCat "
    "and has seen most of the {images} here: errors are too low and correlations too high.",
    "distilled_from": "{model} learned{through} the scores of the published ResMem, which was itself trained on LaMem "
    "and MemCat and has seen most of the {images} here: people's scores of them may have come through to it.",
}
_ROLE = {"start": "its predecessor", "distilled_from": "its teacher"}
_TOO_GOOD = "errors are too low and correlations too high"
_EFFECT = {"start": _TOO_GOOD, "distilled_from": "people's scores of them may have come through to it"}
_SEEN = {
    "train": "{count} of {all} images were in {whose} training subset: {effect}.",
    "validation": "{count} of {all} images were in {whose} validation subset, on which its training was stopped: the "
    "measures are somewhat too good.",
}
_UNKNOWN = "Whether {model} was trained on images of the table cannot be checked: {reason}."
_SYNTHETIC = "{model} was trained on synthetic data: its scores say nothing about memorability."


def contamination(model: Model, weights: str, images: pd.DataFrame) -> list[str]:
    """Warnings about images that the model, or one that it derives from, was trained on.

    Photographs are identified by the SHA-256 of their files' bytes, whatever their names; a copy that was resaved or
    resized is not recognized. Models that the model started from or whose scores it learned, and their predecessors,
    are checked too, as far as its card records them.

    Args:
        model: whose `model.card`, and `photographs.csv` in `model.folder`, describe its training.
        weights: its fingerprint.
        images: columns `path`, of readable files, and `source`.
    """
    warnings = []
    known = images["source"].isin(_DATASETS)
    named = f"{known.sum()} images from {' and '.join(sorted(set(images['source'][known])))}"
    if weights == PUBLISHED_RESMEM and known.any():
        warnings.append(_PUBLISHED.format(images=named))
    if model.card is None:
        return warnings
    before = list(_list_ancestors(vars(model.card)))
    for kind, text in _PUBLISHED_BEFORE.items():
        found = [
            through
            for each, made, through in before
            if each == kind and PUBLISHED_RESMEM in (made.get("fingerprint"), made.get("weights"))
        ]
        if found and known.any():
            warnings.append(text.format(model=model.name, through=min(found), images=named))
    if model.card.data.get("synthetic"):
        warnings.append(_SYNTHETIC.format(model=model.name))
    checksums = images["path"].map(sha256)
    trained = [(model.name, "this model's", model.folder, _TOO_GOOD)]
    for kind, made, _ in before:
        if "folder" in made:
            described = f"{_ROLE[kind]} {made['folder']}"
            trained.append((described, f"{described}'s", Path(made["folder"]), _EFFECT[kind]))
    for described, whose, folder, effect in trained:
        try:
            subsets = _read_subsets(folder)
        except (OSError, ValueError) as error:
            warnings.append(_UNKNOWN.format(model=described, reason=error))
            continue
        for subset, text in _SEEN.items():
            if count := checksums.isin(subsets[subset]).sum():
                warnings.append(text.format(count=count, all=len(images), whose=whose, effect=effect))
    return warnings


def _list_ancestors(made: Mapping[str, Any], through: str = "", taught: bool = False) -> Iterator[tuple[str, Any, str]]:
    """All models that a model with this card derives from: the relation, its record, and words for an indirect one."""
    for key in ("start", "distilled_from"):
        if record := made.get(key):
            learned = taught or key == "distilled_from"
            yield "distilled_from" if learned else "start", record, through
            yield from _list_ancestors(record, ", through other models,", learned)


def _read_subsets(folder: Path | None) -> dict[str, set[str]]:
    """The checksums of the photographs in the subsets of a model's training; `OSError` or `ValueError` if not known."""
    import pandas as pd

    if folder is None:
        raise ValueError("it was not loaded from its folder")
    path = folder / PHOTOGRAPHS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := {"subset", "sha256"} - set(table):
        raise ValueError(f"{path} has no column {' and '.join(sorted(missing))}")
    return {subset: set(table["sha256"][table["subset"] == subset]) for subset in _SEEN}
