"""What became of each unit of a network: its best picture, and why it failed where it did."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memviz.files import replacing
from memviz.layers.unit import LIVE
from memviz.models import Model
from memviz.rendering.config import DEFAULT_SIZE
from memviz.rendering.cost import Plan, plan
from memviz.rendering.job import RenderJob
from memviz.rendering.network import render_jobs
from memviz.rendering.quality import against_photographs
from memviz.rendering.record import record_table
from memviz.rendering.store import load_renders

if TYPE_CHECKING:
    import pandas as pd

TABLE, RETRIES = "units.parquet", "retries"
COLUMNS = [
    "layer", "unit", "state", "mean", "peak", "best_photograph", "ratio", "succeeds", "seconds", "attempt", "file",
]  # fmt: skip
Best = Mapping[str, Mapping[int, float]]
"""By address and unit, the largest activation that a photograph reaches, as an index's `best_peaks` has it."""


def render_network(
    model: Model,
    jobs: Sequence[RenderJob],
    out: str | os.PathLike[str],
    *,
    best: Best | None = None,
    estimate: Plan | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Draws all units of layers, tries again where that failed, and says what became of each.

    A picture fails if the unit is live and the best photograph excites it more, or if there is none. It is drawn again
    with another seed, then on a larger canvas, then with redirected gradients, until it succeeds; each attempt has its
    own folder `out/retries/<attempt>/<address>`. Interrupted, the same call goes on; what is there is not drawn again.

    Args:
        model, jobs, out, estimate, progress: as `render_jobs` takes them.
        best: without it only units that have no picture fail.

    Returns:
        One row a unit, also written to `out/units.parquet`: layer, unit, state, mean, peak, best_photograph, ratio,
        succeeds, seconds, attempt ("first", or what brought its best picture), file (below `out`), and why it failed.

    Raises:
        StoreError: `out` holds pictures of other weights or settings.

    Example:
        >>> import tempfile
        >>> import memviz
        >>> from memviz.rendering.network import network_jobs
        >>> model = memviz.load_model("memnet", weights=None)
        >>> config = memviz.RenderConfig(size=64, steps=2)
        >>> jobs = network_jobs(model, ["alexnet.conv1"], config=config)
        >>> table = render_network(model, jobs, tempfile.mkdtemp() + "/all")
        >>> len(table), table["attempt"].unique().tolist()
        (48, ['first'])
    """
    import pandas as pd

    out = Path(out)
    estimate = estimate or plan(model, jobs, out)
    errors = render_jobs(model, jobs, out, estimate=estimate, progress=progress)
    jobs = [job for job in jobs if job.address not in errors]
    tables = [_rows(jobs, out, out, best, "first")]
    for name, change in ATTEMPTS.items():
        failed = _best(tables)
        failed = failed[[_fails(row, best) for row in failed.to_dict("records")]]
        units = {str(layer): tuple(group["unit"].tolist()) for layer, group in failed.groupby("layer")}
        again = [change(replace(job, units=units[job.address])) for job in jobs if job.address in units]
        if not again:
            break
        folder = out / RETRIES / name
        lost = render_jobs(model, again, folder, estimate=estimate.of(again, folder), progress=progress)
        tables.append(_rows([job for job in again if job.address not in lost], folder, out, best, name))
    table = _best(tables)
    places = {job.address: place for place, job in enumerate(jobs)}
    table = table.sort_values("layer", key=lambda names: names.map(places), kind="stable").reset_index(drop=True)
    table["why"] = [_why(row, best) for row in table.to_dict("records")]
    lost_rows = [{"layer": address, "state": "error", "why": why} for address, why in errors.items()]
    table = pd.concat([table, pd.DataFrame(lost_rows)], ignore_index=True) if lost_rows else table
    with replacing(out / TABLE) as temporary:
        table.to_parquet(temporary, index=False)
    return table


def _larger(job: RenderJob) -> RenderJob:
    return replace(job, config=replace(job.config, size=3 * (job.config.size or DEFAULT_SIZE) // 2, canvas=None))


ATTEMPTS: dict[str, Callable[[RenderJob], RenderJob]] = {
    "seed-1": lambda job: replace(job, seed=job.seed + 1),
    "seed-2": lambda job: replace(job, seed=job.seed + 2),
    "larger-canvas": _larger,
    "redirected": lambda job: replace(job, config=replace(job.config, redirect=True)),
}
"""How units whose pictures failed are drawn again, in order, by the name of the folder."""


def _rows(jobs: Sequence[RenderJob], folder: Path, out: Path, best: Best | None, attempt: str) -> pd.DataFrame:
    """One row a unit of jobs that are drawn in `folder`."""
    import pandas as pd

    tables = []
    for job in jobs:
        saved = load_renders(folder / job.address)
        records = [saved.units[unit] for unit in job.units]
        table = against_photographs(record_table(records), (best or {}).get(job.address, {}))
        places = [
            f"{(folder / job.address).relative_to(out).as_posix()}/{record.file}" if record.shown else None
            for record in records
        ]
        seconds = pd.Series([record.seconds for record in records], table.index, dtype="float64")
        tables.append(table.assign(layer=job.address, attempt=attempt, file=places, seconds=seconds)[COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _best(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Of each unit, the row of the attempt whose picture has the largest peak; of equal ones the first."""
    import pandas as pd

    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    # A picture that shows nothing has a peak too, that of mid-grey.
    rows["shown"] = rows["file"].notna()
    rows = rows.sort_values(["shown", "peak"], ascending=False, kind="stable").drop_duplicates(["layer", "unit"])
    return rows.drop(columns="shown").sort_values(["layer", "unit"], kind="stable").reset_index(drop=True)


def _live(row: Mapping[str, Any], best: Best | None) -> bool | None:
    """Whether a photograph excites a unit; None where that is not known."""
    found = None if best is None else best.get(row["layer"], {}).get(row["unit"])
    return None if found is None else found > LIVE


def _fails(row: Mapping[str, Any], best: Best | None) -> bool:
    if row["state"] == "dead" or _live(row, best) is False:
        return False
    return not row["succeeds"] if _live(row, best) else row["file"] is None


def _why(row: Mapping[str, Any], best: Best | None) -> str:
    """In words, why there is no picture or it does not succeed; empty where neither is so."""
    if row["state"] == "dead":
        return "the unit has one value on every picture"
    if row["file"] is None:
        return "no gradient reached a picture"
    live = _live(row, best)
    if live is False:
        excited = f"; the picture does ({row['peak']:.4g})" if row["peak"] > LIVE else ", nor does the picture"
        return f"no photograph excites the unit{excited}"
    if live and not row["succeeds"]:
        return f"the best photograph excites it more ({row['best_photograph']:.4g}, the picture {row['peak']:.4g})"
    return ""
