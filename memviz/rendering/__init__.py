"""Activation maximization: `memviz.render(model, "alexnet.conv4", units=range(16))`."""

from memviz.rendering import objectives
from memviz.rendering.api import Renders, render
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.config import RenderConfig
from memviz.rendering.parameterize import Fourier, Pixel
from memviz.rendering.quality import against_photographs
from memviz.rendering.store import SavedRenders, load_renders

__all__ = [
    "Fourier",
    "Pixel",
    "RandomTransforms",
    "RenderConfig",
    "Renders",
    "SavedRenders",
    "against_photographs",
    "load_renders",
    "objectives",
    "render",
]
