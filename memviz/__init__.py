"""memviz: see what networks that predict image memorability look at.

The public names are loaded when they are first used, so `import memviz` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memviz import notebook as notebook
    from memviz.errors import MemvizError as MemvizError
    from memviz.evaluation import Report as Report
    from memviz.evaluation import evaluate as evaluate
    from memviz.explanation import AccentuateConfig as AccentuateConfig
    from memviz.explanation import Checkup as Checkup
    from memviz.explanation import Depth as Depth
    from memviz.explanation import DepthConfig as DepthConfig
    from memviz.explanation import ExplainConfig as ExplainConfig
    from memviz.explanation import Explanation as Explanation
    from memviz.explanation import Quality as Quality
    from memviz.explanation import QualityConfig as QualityConfig
    from memviz.explanation import accentuate as accentuate
    from memviz.explanation import checkup as checkup
    from memviz.explanation import depth as depth
    from memviz.explanation import drivers as drivers
    from memviz.explanation import explain as explain
    from memviz.explanation import label_units as label_units
    from memviz.explanation import quality as quality
    from memviz.gallery import build_gallery as build_gallery
    from memviz.images import sample_photos as sample_photos
    from memviz.index import Index as Index
    from memviz.index import build_index as build_index
    from memviz.index import load_index as load_index
    from memviz.models import InputSpec as InputSpec
    from memviz.models import Model as Model
    from memviz.models import list_models as list_models
    from memviz.models import load_model as load_model
    from memviz.models import wrap as wrap
    from memviz.rendering import RenderConfig as RenderConfig
    from memviz.rendering import Renders as Renders
    from memviz.rendering import objectives as objectives
    from memviz.rendering import render as render
    from memviz.site import build_site as build_site
    from memviz.training import Runtime as Runtime
    from memviz.training import Start as Start
    from memviz.training import Teacher as Teacher
    from memviz.training import TrainConfig as TrainConfig
    from memviz.training import TrainingJob as TrainingJob
    from memviz.training import train as train
    from memviz.workflow import make_gallery as make_gallery

__version__ = "0.1.0"

_HOME = {
    "AccentuateConfig": "memviz.explanation",
    "Checkup": "memviz.explanation",
    "Depth": "memviz.explanation",
    "DepthConfig": "memviz.explanation",
    "ExplainConfig": "memviz.explanation",
    "Explanation": "memviz.explanation",
    "Index": "memviz.index",
    "InputSpec": "memviz.models",
    "MemvizError": "memviz.errors",
    "Model": "memviz.models",
    "Quality": "memviz.explanation",
    "QualityConfig": "memviz.explanation",
    "RenderConfig": "memviz.rendering",
    "Renders": "memviz.rendering",
    "Report": "memviz.evaluation",
    "Runtime": "memviz.training",
    "Start": "memviz.training",
    "Teacher": "memviz.training",
    "TrainConfig": "memviz.training",
    "TrainingJob": "memviz.training",
    "accentuate": "memviz.explanation",
    "build_gallery": "memviz.gallery",
    "build_site": "memviz.site",
    "build_index": "memviz.index",
    "checkup": "memviz.explanation",
    "depth": "memviz.explanation",
    "drivers": "memviz.explanation",
    "evaluate": "memviz.evaluation",
    "explain": "memviz.explanation",
    "label_units": "memviz.explanation",
    "list_models": "memviz.models",
    "load_index": "memviz.index",
    "load_model": "memviz.models",
    "make_gallery": "memviz.workflow",
    "notebook": "memviz.notebook",
    "objectives": "memviz.rendering",
    "quality": "memviz.explanation",
    "render": "memviz.rendering",
    "sample_photos": "memviz.images",
    "train": "memviz.training",
    "wrap": "memviz.models",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memviz' has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    return home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
