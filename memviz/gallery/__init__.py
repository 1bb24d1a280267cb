"""A page described as plain data, then drawn: static HTML, and figures for a paper.

The package itself is the call: `memviz.gallery("galleries/figure15.toml", out="figure15", renders="runs/renders")`.
"""

from memviz.callable_module import make_callable
from memviz.gallery.build import gallery, missing
from memviz.gallery.recipe import Job, Panel, Recipe, RenderOptions, Row, load_recipe, parse_recipe

make_callable(__name__, gallery)

__all__ = ["Job", "Panel", "Recipe", "RenderOptions", "Row", "load_recipe", "missing", "parse_recipe"]
