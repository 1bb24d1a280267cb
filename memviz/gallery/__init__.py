"""A page described as plain data, then drawn: static HTML, and figures for a paper."""

from memviz.gallery.build import build_gallery, missing
from memviz.gallery.recipe import Job, Panel, Recipe, RenderOptions, Row, load_recipe, parse_recipe

__all__ = ["Job", "Panel", "Recipe", "RenderOptions", "Row", "build_gallery", "load_recipe", "missing", "parse_recipe"]
