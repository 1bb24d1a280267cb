"""What drives a score: whether each part of a network has learned, and how much it matters to it."""

from memviz.explanation.ablation import Ablation, ablate, load_ablations
from memviz.explanation.accentuate import AccentuateConfig, Accentuation, accentuate, load_accentuation
from memviz.explanation.attribution import Attributions, attribute
from memviz.explanation.automatic import label_units
from memviz.explanation.checkup import Checkup, checkup, load_checkup
from memviz.explanation.clip import Words
from memviz.explanation.depth import DepthConfig, depth, load_depth
from memviz.explanation.depth_result import Depth
from memviz.explanation.drivers import Drivers, drivers, load_drivers
from memviz.explanation.effect import Effect, Effects, Estimate, branch_effects, layer_effects
from memviz.explanation.encoder import Encoder, load_encoder
from memviz.explanation.explain import explain, load_explanations
from memviz.explanation.labellers import Categories, Concepts, Labeller, NamedOutputs
from memviz.explanation.labels import Label, Labels, LayerLabels, load_labels
from memviz.explanation.maps import METHODS, image_map
from memviz.explanation.quality import QualityConfig, load_quality, quality
from memviz.explanation.quality_result import Quality
from memviz.explanation.record import ExplainConfig, Explanation, load_explanation
from memviz.explanation.responses import Responses, responses
from memviz.layers.weights import LayerWeights, check_weights

__all__ = [
    "METHODS",
    "Ablation",
    "AccentuateConfig",
    "Accentuation",
    "Attributions",
    "Categories",
    "Checkup",
    "Concepts",
    "Depth",
    "DepthConfig",
    "Drivers",
    "Effect",
    "Effects",
    "Encoder",
    "Estimate",
    "ExplainConfig",
    "Explanation",
    "Label",
    "Labeller",
    "Labels",
    "LayerLabels",
    "LayerWeights",
    "NamedOutputs",
    "Quality",
    "QualityConfig",
    "Responses",
    "Words",
    "ablate",
    "accentuate",
    "attribute",
    "branch_effects",
    "check_weights",
    "checkup",
    "depth",
    "drivers",
    "explain",
    "image_map",
    "label_units",
    "layer_effects",
    "load_ablations",
    "load_accentuation",
    "load_checkup",
    "load_depth",
    "load_drivers",
    "load_encoder",
    "load_explanation",
    "load_explanations",
    "load_labels",
    "load_quality",
    "quality",
    "responses",
]
