"""The microscope: a static site with a page for each unit of a network, from saved results."""

from memviz.site.build import build_site
from memviz.site.saved import SavedSite, load_site

__all__ = ["SavedSite", "build_site", "load_site"]
