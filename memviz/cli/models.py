"""`memviz models`."""

from __future__ import annotations


def models() -> None:
    """List the models, and whose weights are public under which licence."""
    import pandas as pd

    from memviz.cli.common import echo_table
    from memviz.models.registry import ARCHITECTURES

    rows = [
        (entry.name, entry.output, entry.weights.licence if entry.weights else "weights are not public", entry.summary)
        for entry in ARCHITECTURES.values()
    ]
    echo_table(pd.DataFrame(rows, columns=["model", "predicts", "weights", "what"]))
