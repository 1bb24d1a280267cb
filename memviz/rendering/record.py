"""What is known of one finished picture: one record, from the engine to the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

State = Literal["ok", "redirected", "not excited", "dead"]
"""Of a picture, how it came about.

- "ok": the objective's gradient reached it.
- "redirected": the gradient was blocked at first, and redirected through the activation functions that blocked it.
- "not excited": no gradient reached it, redirected or not, so what was tried excites it on no picture; it has none.
- "dead": the same, and bounds of the network's activations show that the objective has one value on every picture; it
  has none.
"""


@dataclass(frozen=True)
class RenderRecord:
    """One finished picture.

    Attributes:
        objective: what it was optimized for, in words that tell objectives apart.
        unit: the channel that it is about; None where it is about no single unit.
        value: of the objective, on the finished picture, at the picture's own size.
        mean, peak: of the unit, as `memviz.layers.unit` defines them; None where there is none.
        position: (y, x) in the unit's map where the peak lies.
        steps: of the optimizer, at most.
        seed: that was given; the picture's own is made from it and the objective.
        state: see `State`.
        seconds: that it took, as its share of those of its batch.
        file: its name in the folder where it is saved, None before; a picture that shows nothing has no file there.
    """

    objective: str
    unit: int | None
    value: float
    mean: float | None
    peak: float | None
    position: tuple[int, int] | None
    steps: int
    seed: int
    state: State
    seconds: float | None = field(default=None, compare=False)
    file: str | None = None

    @property
    def shown(self) -> bool:
        """Whether the picture shows anything, and so has a file."""
        return self.state in ("ok", "redirected")

    @property
    def label(self) -> str:
        """What stands below the picture on a sheet."""
        return self.objective if self.unit is None else str(self.unit)


def record_table(records: Iterable[RenderRecord]) -> pd.DataFrame:
    """One row a record, without the file, and the seconds, which differ from run to run."""
    import pandas as pd

    table = pd.DataFrame([asdict(record) for record in records]).drop(columns=["file", "seconds"])
    return table.astype({"unit": "Int64", "mean": "float64", "peak": "float64"})
