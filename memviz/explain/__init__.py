"""What drives the score."""

from memviz.explain.effect import Effect as Effect
from memviz.explain.effect import Effects as Effects
from memviz.explain.effect import Estimate as Estimate
from memviz.explain.effect import branch_effects as branch_effects
from memviz.explain.effect import layer_effects as layer_effects
from memviz.explain.weights import LayerWeights as LayerWeights
from memviz.explain.weights import check_weights as check_weights
