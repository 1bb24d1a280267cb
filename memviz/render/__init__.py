"""Activation maximization: `memviz.render(model, "alexnet.conv4", units=range(16))`."""

from memviz.callable_module import make_callable
from memviz.render import objectives
from memviz.render.api import Renders, render
from memviz.render.augment import RandomTransforms
from memviz.render.config import RenderConfig
from memviz.render.parameterize import Fourier, Pixel
from memviz.render.quality import against_photographs
from memviz.render.store import SavedRenders, load_renders

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

make_callable(__name__, render)
