"""What drives the score."""

from memviz.explain.weights import LayerWeights as LayerWeights
from memviz.explain.weights import check_weights as check_weights
