"""The photographs that excite each unit of a network most and least."""

from memviz.index.build import build_index
from memviz.index.store import Index, load_index

__all__ = ["Index", "build_index", "load_index"]
