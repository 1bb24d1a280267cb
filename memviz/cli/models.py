"""`memviz models`."""

from __future__ import annotations


def models() -> None:
    """List the models, and whose weights are public under which licence."""
    import pandas as pd

    from memviz.cli.common import echo_table
    from memviz.models.registry import ARCHITECTURES

    rows = []
    for entry in ARCHITECTURES.values():
        weights = entry.weights.licence if entry.weights else "not in any package: give a file"
        rows.append((entry.name, entry.target, weights, entry.summary))
    echo_table(pd.DataFrame(rows, columns=["model", "predicts", "weights", "what"]))
