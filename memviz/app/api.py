"""The programming interface: scores and explanations as JSON."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from memviz.app.desk import Desk
from memviz.app.form import CLOSED, FIELD, read_photographs
from memviz.app.held import Held, Photograph

_POLL_SECONDS = 0.05
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"description": "The upload is too large."},
    415: {"description": "It is no form, or no picture in a known format."},
    422: {"description": "There is no photograph, or it is damaged."},
    429: {"description": "Too many of your photographs are worked on."},
    503: {"description": "Too many photographs are worked on, or too many are held."},
}


class Score(BaseModel):
    """The score of a photograph."""

    photograph: str = Field(description="Name of the file.")
    target: str = Field(description="What the score predicts, as memorability.")
    score: float | None = Field(description="None where the photograph cannot be read.")
    percentile: float | None = Field(
        description="Percentage of the index's photographs with a lower score (of equal ones half); None without one."
    )
    ranked: int = Field(description="Photographs in the index that it is compared with.")
    error: str | None = Field(description="Why it cannot be read.")


class Explained(Score):
    """A score, and what it comes from."""

    explanation: dict[str, Any] = Field(description="As `memviz explain` writes it to explanation.json.")
    map: str = Field(description="The map over the photograph: a PNG in base64. Red raises the score, blue lowers it.")


def routes(desk: Desk, held: Held) -> APIRouter:
    """The routes below /api."""
    router = APIRouter(prefix="/api", tags=["photographs"])

    @asynccontextmanager
    async def received(request: Request) -> AsyncIterator[list[Photograph]]:
        """The photographs of a request, scored; they are forgotten when the block ends."""
        batch = held.add(await read_photographs(request, desk.config))
        try:
            with batch.watched():
                for photograph in batch.photographs:
                    desk.receive(photograph)
                await _finish(request, held, batch.photographs)
                if all(each.state == "unreadable" for each in batch.photographs):
                    raise _unreadable(batch.photographs[0])
                yield batch.photographs
        finally:
            for photograph in held.forget(batch.name):
                desk.cancel(photograph)

    @router.post("/score", openapi_extra=_BODY, responses=_ERRORS)
    async def score(request: Request) -> list[Score]:
        """Scores photographs: one entry each, in the order given."""
        async with received(request) as photographs:
            return [Score(**_row(desk, each)) for each in photographs]

    @router.post("/explain", openapi_extra=_BODY, responses=_ERRORS)
    async def explain(request: Request) -> Explained:
        """Explains the score of one photograph, which takes about a minute on two cores.

        Where the connection is closed, it is cancelled.
        """
        async with received(request) as photographs:
            if len(photographs) > 1:
                raise HTTPException(422, "Give one photograph a request.")
            desk.explain(photograph := photographs[0])
            await _finish(request, held, photographs)
            if photograph.explanation is None:
                raise HTTPException(503, "It was cancelled.")
            mapped = base64.b64encode(photograph.map).decode()
            return Explained(**_row(desk, photograph), explanation=photograph.explanation.to_dict(), map=mapped)

    return router


async def _finish(request: Request, held: Held, photographs: list[Photograph]) -> None:
    """Waits until nothing is to be done with photographs any more.

    Raises:
        HTTPException: 500 where that failed, 503 where the application ends, and 499 where the connection was closed.
    """
    while any(each.working for each in photographs):
        await asyncio.sleep(_POLL_SECONDS)
        if await request.is_disconnected():
            raise HTTPException(CLOSED, "The connection was closed.")
        if held.closing:
            raise HTTPException(503, "The application is being stopped.")
    for each in photographs:
        if each.state == "failed":
            raise HTTPException(500, each.reason)


def _unreadable(photograph: Photograph) -> HTTPException:
    return HTTPException(415 if photograph.kind == "format" else 422, f"{photograph.name}: {photograph.reason}")


def _row(desk: Desk, photograph: Photograph) -> dict[str, Any]:
    return {
        "photograph": photograph.name,
        "target": desk.model.target,
        "score": photograph.score,
        "percentile": photograph.percentile,
        "ranked": photograph.ranked,
        "error": photograph.reason or None,
    }
