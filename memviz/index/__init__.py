"""The photographs that excite each unit of a network most and least."""

from memviz.index.build import build_index
from memviz.index.query import Index, IndexedLayer, load_index

__all__ = ["Index", "IndexedLayer", "build_index", "load_index"]
