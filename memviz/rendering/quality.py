"""Was it worth drawing? A picture's activation against the best natural example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def against_photographs(table: pd.DataFrame, best: Mapping[int, float]) -> pd.DataFrame:
    """The table of renders with the best photograph's activation beside each picture's own.

    A render shows what a unit wants only if it excites the unit more than the best natural example
    (Zimmermann et al. 2021, "How Well do Feature Visualizations Support Causal Understanding of CNN
    Activations?"). Both are peaks over positions.

    Args:
        table: of `memviz.render`.
        best: unit to the largest activation that a photograph reaches, as `index.stats(layer)` has it.

    Returns:
        The table with `best_photograph`, `ratio` (of the peaks; missing where the best photograph does
        not excite the unit at all) and `succeeds`.

    Example:
        >>> import pandas as pd
        >>> renders = pd.DataFrame({"unit": [3], "peak": [6.0]})
        >>> against_photographs(renders, {3: 2.0})["ratio"].item()
        3.0
    """
    natural = table["unit"].map(best).astype("float64")
    return table.assign(
        best_photograph=natural,
        ratio=(table["peak"] / natural).where(natural > 0),
        succeeds=table["peak"] > natural,
    )
