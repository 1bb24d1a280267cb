"""Was it worth drawing? A picture's activation against the best natural example."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from memviz.layers.unit import ratio, succeeds


def against_photographs(table: pd.DataFrame, best: Mapping[int, float]) -> pd.DataFrame:
    """The table of renders with the best photograph's activation beside each picture's own.

    Both are peaks, as `memviz.layers.unit` defines them, and what succeeds is defined there.

    Args:
        table: of `memviz.render`.
        best: unit to the largest activation that a photograph reaches, as `index.stats(layer)` has it.

    Returns:
        The table with `best_photograph`, `ratio` (of the peaks; missing where one of them does not excite the
        unit at all) and `succeeds`.

    Example:
        >>> import pandas as pd
        >>> renders = pd.DataFrame({"unit": [3], "peak": [6.0]})
        >>> against_photographs(renders, {3: 2.0})["ratio"].item()
        3.0
    """
    natural = [None if value is pd.NA or value != value else float(value) for value in table["unit"].map(best)]
    peaks = list(zip(table["peak"], natural, strict=True))
    return table.assign(
        best_photograph=pd.Series(natural, table.index, dtype="float64"),
        ratio=pd.Series([ratio(*each) for each in peaks], table.index, dtype="float64"),
        succeeds=[succeeds(*each) for each in peaks],
    )
