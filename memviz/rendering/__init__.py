"""Activation maximization: `memviz.render(model, "alexnet.conv4", units=range(16))`."""

from memviz.rendering import objectives
from memviz.rendering.api import Renders, render, render_job
from memviz.rendering.augment import RandomTransforms
from memviz.rendering.config import Refinement, RenderConfig
from memviz.rendering.job import RenderJob
from memviz.rendering.maco import Maco
from memviz.rendering.parameterize import Fourier, Pixel
from memviz.rendering.quality import against_photographs
from memviz.rendering.record import RenderRecord
from memviz.rendering.store import SavedRenders, load_renders

__all__ = [
    "Fourier",
    "Maco",
    "Pixel",
    "RandomTransforms",
    "Refinement",
    "RenderConfig",
    "RenderJob",
    "RenderRecord",
    "Renders",
    "SavedRenders",
    "against_photographs",
    "load_renders",
    "objectives",
    "render",
    "render_job",
]
