"""What we look into: architectures, weights, preprocessing, and the registry."""

from memviz.models.card import ModelCard, save_trained
from memviz.models.inputs import InputSpec
from memviz.models.model import Model, wrap
from memviz.models.outputs import OutputSpec
from memviz.models.registry import list_models, load_model

__all__ = ["InputSpec", "Model", "ModelCard", "OutputSpec", "list_models", "load_model", "save_trained", "wrap"]
