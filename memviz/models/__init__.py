"""What we look into: architectures, weights, preprocessing, and the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memviz.models.card import ModelCard, save_trained
from memviz.models.inputs import InputSpec
from memviz.models.model import Model, wrap
from memviz.models.score_spec import ScoreSpec

if TYPE_CHECKING:
    from memviz.models.registry import list_models as list_models
    from memviz.models.registry import load_model as load_model

__all__ = ["InputSpec", "Model", "ModelCard", "ScoreSpec", "list_models", "load_model", "save_trained", "wrap"]


def __getattr__(name: str) -> Any:
    # The architectures bring torchvision, whose import takes seconds; looking into an index needs neither.
    if name in ("list_models", "load_model"):
        from memviz.models import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
