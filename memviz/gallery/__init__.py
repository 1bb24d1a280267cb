"""A recipe becomes a plan, the plan a page and figures: static HTML, PNG and PDF."""

from memviz.gallery.build import build_gallery, missing
from memviz.gallery.plan import Plan, plan_gallery
from memviz.gallery.recipe import Panel, Recipe, Row, Source, load_recipe, parse_recipe

__all__ = [
    "Panel",
    "Plan",
    "Recipe",
    "Row",
    "Source",
    "build_gallery",
    "load_recipe",
    "missing",
    "parse_recipe",
    "plan_gallery",
]
