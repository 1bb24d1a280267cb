"""The microscope in a notebook: widgets that are static where there is no front end.

They show saved results, and never run a network; `memviz.notebook` loads without the extra of that name, which a widget
needs to be made.
"""

from memviz.notebook.compare import compare
from memviz.notebook.photograph import photograph
from memviz.notebook.strip import strip
from memviz.notebook.units import units

__all__ = ["compare", "photograph", "strip", "units"]
