"""A page described as plain data, then drawn: static HTML, and figures for a paper."""

from memviz.gallery.build import build_gallery, missing
from memviz.gallery.recipe import Panel, Recipe, Row, load_recipe, parse_recipe

__all__ = ["Panel", "Recipe", "Row", "build_gallery", "load_recipe", "missing", "parse_recipe"]
