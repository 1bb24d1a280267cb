"""The pages' routes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from memviz.app.desk import Desk
from memviz.app.form import client_of, read_photographs
from memviz.app.guard import is_token, let_in
from memviz.app.held import Batch, Held, Photograph, RefusedError
from memviz.app.look import Look, sample_names
from memviz.images import package_photos

_POLL_SECONDS = 0.1
_ALIVE_SECONDS = 15.0  # a comment now and then tells whether the page is still open


def routes(desk: Desk, held: Held, look: Look, token: str | None) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter(include_in_schema=False)

    def photograph(batch: str, number: int) -> Photograph:
        photographs = held.get(batch).photographs
        if number >= len(photographs) or number < 0:
            raise RefusedError(404, "There is no such photograph.")
        return photographs[number]

    def receive(photographs: list[Photograph], batch: str | None = None, alone: bool = True) -> Batch:
        own = held.add(photographs, batch)
        # One photograph is explained at once; of several, those that are asked for.
        photographs[0].wanted = alone and len(own.photographs) == 1
        for each in photographs:
            desk.receive(each)
        return own

    @router.get("/")
    async def home() -> HTMLResponse:
        return HTMLResponse(look.home())

    @router.get("/about")
    async def about() -> HTMLResponse:
        return HTMLResponse(look.about())

    @router.get("/api")
    async def programming(request: Request) -> HTMLResponse:
        return HTMLResponse(look.api(str(request.base_url).rstrip("/"), bool(token)))

    @router.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/token")
    async def ask() -> HTMLResponse:
        return HTMLResponse(look.token())

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        content = look.static(name)
        if content is None:
            raise HTTPException(404, "There is no such file.")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response(content, media_type=kind, headers={"Cache-Control": "max-age=3600"})

    @router.post("/photographs")
    async def upload(request: Request, batch: str | None = None, alone: bool = True) -> Response:
        own = receive(await read_photographs(request, desk.config), batch, alone)
        return _accepted(request, f"/photographs/{own.name}", batch=own.name)

    @router.post("/samples/{name}")
    async def sample(request: Request, name: str) -> Response:
        if name not in sample_names():
            raise HTTPException(404, "There is no such sample.")
        content = await asyncio.to_thread(package_photos()[name].read_bytes)
        own = receive([Photograph(name, content, client_of(request))])
        return RedirectResponse(f"/photographs/{own.name}", 303)

    @router.get("/samples/{name}.jpg")
    async def sample_picture(name: str) -> Response:
        return _picture(look.sample(name), "image/jpeg", "max-age=3600")

    @router.get("/photographs/{batch}")
    async def results(batch: str) -> HTMLResponse:
        return HTMLResponse(look.batch(held.get(batch)))

    @router.get("/photographs/{batch}/changes")
    async def changes(batch: str) -> StreamingResponse:
        return StreamingResponse(_changes(held.get(batch), held, look), media_type="text/event-stream")

    @router.get("/photographs/{batch}/scores.csv")
    async def table(batch: str) -> Response:
        text = _table(held.get(batch), desk.model.target or "score")
        headers = {"Content-Disposition": 'attachment; filename="scores.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    @router.post("/photographs/{batch}/forget")
    async def forget(batch: str) -> Response:
        for each in held.forget(batch):
            desk.cancel(each)
        return RedirectResponse("/", 303)

    @router.post("/photographs/{batch}/{number}/explain")
    async def explain(request: Request, batch: str, number: int) -> Response:
        desk.explain(photograph(batch, number))
        return _accepted(request, f"/photographs/{batch}#photograph-{number}")

    @router.post("/photographs/{batch}/{number}/cancel")
    async def cancel(request: Request, batch: str, number: int) -> Response:
        desk.cancel(photograph(batch, number))
        return _accepted(request, f"/photographs/{batch}#photograph-{number}")

    @router.get("/photographs/{batch}/{number}/explanation.json")
    async def explanation(batch: str, number: int) -> Response:
        found = photograph(batch, number).explanation
        if found is None:
            raise RefusedError(404, "It is not explained.")
        return JSONResponse(found.to_dict())

    @router.get("/photographs/{batch}/{number}/{picture}")
    async def picture(batch: str, number: int, picture: str) -> Response:
        own = photograph(batch, number)
        found = {"small.jpg": own.small, "seen.jpg": own.seen, "map.png": own.map}.get(picture, b"")
        return _picture(found, "image/png" if picture.endswith("png") else "image/jpeg", "private, max-age=600")

    if token is not None:

        @router.post("/token")
        async def enter(request: Request) -> Response:
            async with request.form(max_files=0) as form:
                given = str(form.get("token", ""))
            if not is_token(given, token):
                return HTMLResponse(look.token("This is not the token."), 401)
            return let_in(request.scope, given, "/")

    return router


def _accepted(request: Request, page: str, **told: str) -> Response:
    """Leads on to a page; a script, which asks for JSON, is told of it."""
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"page": page, **told}, 202)
    return RedirectResponse(page, 303)


def _picture(content: bytes, kind: str, cache: str) -> Response:
    if not content:
        raise HTTPException(404, "There is no such picture.")
    return Response(content, media_type=kind, headers={"Cache-Control": cache})


async def _changes(batch: Batch, held: Held, look: Look) -> AsyncIterator[str]:
    """Server-sent events: what has changed on a page, while it is open."""
    known: dict[int, tuple[str, int]] = {}
    silent = 0.0
    with batch.watched():
        while not held.closing:
            silent += _POLL_SECONDS
            for number, photograph in enumerate(list(batch.photographs)):
                now = photograph.state, photograph.version
                if (before := known.get(number)) == now:
                    continue
                known[number], silent = now, 0.0
                # Only its progress, unless more has changed.
                part = "status" if before is not None and before[0] == now[0] else "photograph"
                html = look.status(batch, number) if part == "status" else look.photograph(batch, number)
                yield f"data: {json.dumps({'id': f'{part}-{number}', 'html': html})}\n\n"
            if silent >= _ALIVE_SECONDS:
                silent = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(_POLL_SECONDS)


def _table(batch: Batch, target: str) -> str:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["photograph", target, "percentile", "ranked", "error"])
    for each in batch.photographs:
        if each.score is not None or each.state == "unreadable":
            # A name that begins so is a formula to a spreadsheet.
            name = f"'{each.name}" if each.name[:1] in "=+-@" else each.name
            score = "" if each.score is None else f"{each.score:.6f}"
            percentile = "" if each.percentile is None else f"{each.percentile:.2f}"
            rows.writerow([name, score, percentile, each.ranked or "", each.reason if each.score is None else ""])
    return out.getvalue()
