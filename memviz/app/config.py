"""What the application allows."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from memviz.errors import ModelError
from memviz.explanation.record import ExplainConfig

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class AppConfig:
    """The limits of the application, for one process.

    Attributes:
        explain: how photographs are explained.
        seed: of the references.
        body: bytes of a request; 413 above.
        bodies: bytes of all requests that are read at one time; 503 where another one would not fit.
        held: bytes of the photographs and results that are kept in memory; 503 above.
        pixels: of a photograph, told by its header before it is decoded.
        files: photographs in one request.
        per_client: photographs of one address that wait or are worked on; 429 above.
        explanations_per_client: the same of explanations.
        queue: explanations that wait; 503 above.
        body_seconds: that a body may take to come, and `silence_seconds` between two parts of it; 408 above.
        silence_seconds: as said.
        grace_seconds: after a page was closed, until its work is cancelled.
        kept_seconds: after a page was closed, until its photographs and results are forgotten.

    Raises:
        ModelError: a limit that is not above 0.
    """

    explain: ExplainConfig = field(default_factory=lambda: ExplainConfig(references=8, steps=16, max_steps=16))
    seed: int = 0
    body: int = 32 * MEGABYTE
    bodies: int = 256 * MEGABYTE
    held: int = 512 * MEGABYTE
    pixels: int = 100_000_000
    files: int = 100
    per_client: int = 200
    explanations_per_client: int = 5
    queue: int = 50
    body_seconds: float = 120.0
    silence_seconds: float = 15.0
    grace_seconds: float = 10.0
    kept_seconds: float = 900.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and each.name != "seed" and not value > 0:
                raise ModelError(f"{each.name}={value!r}: give a number above 0.")
