"""What we look into: architectures, weights, preprocessing, and the registry."""

from memviz.models.inputs import InputSpec
from memviz.models.model import Model, wrap
from memviz.models.registry import list_models, load_model

__all__ = ["InputSpec", "Model", "list_models", "load_model", "wrap"]
