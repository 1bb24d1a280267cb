"""The exceptions that memviz raises on purpose.

Each message says what was given, what is valid and what to do::

    MemvizError
    ├── ModelError          a model that cannot be built or wrapped
    │   └── WeightsError    weights that are missing, damaged, or not this model's
    ├── LayerError          an address, an ordinal or a unit that the model does not have
    ├── ImageError          a picture, or a folder of them, that cannot be read
    │   └── FormatError     a file that is no picture in a format that memviz reads
    ├── RenderError         a rendering that cannot be done as asked
    ├── TrainingError       a training that cannot be done as asked
    │   └── DivergedError   a training whose loss is no longer a number
    ├── LabelError          labels of units that cannot be read or made
    ├── StoreError          a saved index or rendering that is missing, damaged, or of other weights
    ├── ClusterError        work that a cluster cannot do as asked
    ├── AppError            a web application that cannot be started
    ├── NotebookError       a widget that cannot be shown as asked
    └── RecipeError         a gallery recipe that cannot be followed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MemvizError(Exception):
    """Base of everything that memviz raises on purpose."""


class ModelError(MemvizError):
    """A model that cannot be built or wrapped."""


class WeightsError(ModelError):
    """Weights that are missing, damaged, or not this model's."""


class LayerError(MemvizError, LookupError):
    """An address, an ordinal or a unit that the model does not have."""


class ImageError(MemvizError, ValueError):
    """A picture, or a folder of them, that cannot be read."""


class FormatError(ImageError):
    """A file that is no picture in a format that memviz reads."""


class RenderError(MemvizError):
    """A rendering that cannot be done as asked."""


class TrainingError(MemvizError):
    """A training that cannot be done as asked."""


class DivergedError(TrainingError):
    """A training whose loss is no longer a number."""


class LabelError(MemvizError, ValueError):
    """Labels of units that cannot be read or made."""


class StoreError(MemvizError):
    """A saved index or rendering that is missing, damaged, or of other weights."""


class ClusterError(MemvizError):
    """Work that a cluster cannot do as asked."""


class AppError(MemvizError):
    """A web application that cannot be started."""


class NotebookError(MemvizError, ValueError):
    """A widget that cannot be shown as asked."""


class RecipeError(MemvizError, ValueError):
    """A gallery recipe that cannot be followed."""


def shown(value: object) -> str:
    """A value for a message, cut short; Python itself writes no deep nest and no number of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    except RecursionError:
        return "a value that is nested too deeply"
    return text if len(text) <= 100 else f"{text[:100]}..."


def did_you_mean(given: str, valid: Iterable[str], most: int = 5) -> str:
    """A sentence that lists the names in `valid` closest to `given`.

    >>> did_you_mean("alexnet.conv", ["alexnet.conv1", "head"])
    'Close names: alexnet.conv1.'
    """
    names = list(valid)
    close = difflib.get_close_matches(given, names, n=most, cutoff=0.5)
    if close:
        return f"Close names: {', '.join(close)}."
    shown = ", ".join(names[:most])
    return f"Valid names: {shown}{' ...' if len(names) > most else ''}."
