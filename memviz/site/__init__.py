"""The microscope: a static site with a page for each unit of a network, from saved results."""

from memviz.site.build import build_site

__all__ = ["build_site"]
