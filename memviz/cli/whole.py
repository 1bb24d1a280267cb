"""`memviz render MODEL --all`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from memviz.index import Index
    from memviz.models import Model
    from memviz.rendering import RenderJob
    from memviz.rendering.cost import Plan


def render_all(model: Model, jobs: list[RenderJob], out: Path, index: Index | None, only_plan: bool) -> None:
    """Plans, and unless that is all, draws all units of layers; says what became of them."""
    import pandas as pd

    from memviz.cli.common import echo_table
    from memviz.layers.unit import LIVE
    from memviz.rendering.cost import plan
    from memviz.rendering.outcome import TABLE, render_network

    if index is not None:
        index.check_model(model)
    typer.echo("Measuring a few layers ...", err=True)
    estimate = plan(model, jobs, out)
    _echo_plan(estimate)
    _echo_findings(model, jobs)
    if only_plan:
        return
    best = None if index is None else index.best_peaks()
    table = render_network(model, jobs, out, best=best, estimate=estimate, progress=True)
    groups = table.groupby("layer", sort=False)
    shown = pd.DataFrame({"units": groups.size(), "pictures": groups["file"].count()})
    if best is not None:
        live = table["best_photograph"] > LIVE
        shown["live"] = live.groupby(table["layer"], sort=False).sum()
        shown["best"] = (live & table["succeeds"].eq(True)).groupby(table["layer"], sort=False).sum()
        shown["ratio"] = groups["ratio"].median()
    shown["again"] = table["attempt"].ne("first").groupby(table["layer"], sort=False).sum()
    shown["seconds"] = groups["seconds"].median()
    echo_table(shown.reset_index())
    if best is not None:
        typer.echo(
            "\nbest: live units whose picture excites them more than any photograph; ratio: to the best, median."
        )
    reasons = Counter(str(why).partition(" (")[0] for why in table["why"] if why)
    for why, count in reasons.most_common():
        typer.echo(f"{count} units: {why}.")
    typer.echo(f"\n{out / TABLE}")


def _echo_plan(plan: Plan) -> None:
    import pandas as pd

    from memviz.cli.common import echo_table

    rows = [
        {
            "layer": each.address,
            "units": each.units,
            "done": each.done,
            "s a unit": each.seconds,
            "time left": duration((each.units - each.done) * each.seconds),
        }
        for each in plan.layers
    ]
    echo_table(pd.DataFrame(rows), digits=2)
    units = sum(each.units - each.done for each in plan.layers)
    typer.echo(
        f"\n{units} units to draw: about {duration(plan.seconds)} and {plan.bytes / 1e6:.0f} MB on this machine"
        f" ({plan.threads} thread{'s' if plan.threads > 1 else ''}).\n"
    )
    if plan.warning:
        typer.echo(f"{plan.warning}\n", err=True)


def _echo_findings(model: Model, jobs: list[RenderJob]) -> None:
    """Says of layers whose weights are known not to be as they should be what they are."""
    from memviz.models.weights import finding

    weights, told = model.fingerprint(), dict[str, list[str]]()
    for job in jobs:
        if text := finding(weights, job.address):
            told.setdefault(text, []).append(job.address)
    for text, addresses in told.items():
        typer.echo(f"Of the {len(addresses)} layers {addresses[0]} to {addresses[-1]}: {text}.\n")


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(40), duration(7300), duration(200_000)
    ('40 s', '2 h 2 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
