"""The application: its routes, and the process that serves them."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from memviz.app import api, pages
from memviz.app.config import AppConfig
from memviz.app.desk import Desk
from memviz.app.guard import LOOPBACK, SITE, BodyLimit, Gate, SecurityHeaders
from memviz.app.held import Held, RefusedError
from memviz.app.look import Look
from memviz.errors import StoreError
from memviz.index import Index, load_index
from memviz.models import Model
from memviz.site import SavedSite, load_site

if TYPE_CHECKING:
    from types import FrameType

    import uvicorn

_SWEEP_SECONDS = 1.0
_BACKLOG, _CONNECTIONS = 2048, 1000
_RETRY = {429: "30", 503: "30"}


def create_app(
    model: Model,
    *,
    index: Index | str | os.PathLike[str] | None = None,
    site: str | os.PathLike[str] | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOOPBACK,
    config: AppConfig | None = None,
) -> FastAPI:
    """The web application of a model, for any ASGI server; everything is held in this one process.

    Args:
        model: with a score; it stays as it is.
        index: of the model's weights: percentiles are among its photographs, and references drawn from them.
        site: folder of `build_site`, which is served as well, and to which units are linked.
        token: that visitors must have; None lets everybody in.
        hosts: names by which it may be asked for; None allows all.
        config: the limits.

    Raises:
        ModelError: a model without a score.
        StoreError: an index or a site of other weights, or none.

    Example:
        >>> import memviz
        >>> app = create_app(memviz.load_model("resmem"), index="runs/photos")  # doctest: +SKIP
    """
    config = config or AppConfig()
    index = load_index(index) if isinstance(index, str | os.PathLike) else index
    saved = None if site is None else _check_site(load_site(site), model)
    desk, held = Desk(model, index, config), Held(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(desk, held))
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(desk.close)

    # The pages of Swagger and ReDoc load scripts from elsewhere; ours stands at /api.
    app = FastAPI(
        title=f"memviz: {model.name}",
        summary=f"Predicted {model.target} of photographs, and what it comes from.",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    look = Look(desk, held, saved)
    app.state.desk, app.state.held = desk, held
    app.include_router(api.routes(desk, held))
    app.include_router(pages.routes(desk, held, look, token))
    if saved is not None:
        app.mount(SITE, StaticFiles(directory=saved.folder, html=True), name="site")
    _answer_errors(app, look)
    # The last one stands first.
    app.add_middleware(BodyLimit, config=config)
    app.add_middleware(Gate, token=token, hosts=hosts)
    app.add_middleware(SecurityHeaders)
    return app


def serve(
    model: Model,
    *,
    index: Index | str | os.PathLike[str] | None = None,
    site: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    config: AppConfig | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serves the application of a model until it is interrupted.

    Args:
        model, index, site, config: as `create_app` has them.
        host: to listen at; where that is not this machine alone, a token is asked for.
        port: to listen at; 0 takes a free one.
        token: that visitors must have; None makes one up where it is needed, "" needs none.
        ready: called with the address to open, once the first photograph was scored.

    Raises:
        ModelError, StoreError: as `create_app` does.
        OSError: the port is taken, or the host is not this machine's.

    Example:
        >>> import memviz
        >>> serve(memviz.load_model("resmem"), index="runs/photos")  # doctest: +SKIP
    """
    import socket

    import uvicorn

    alone = host in LOOPBACK
    token = (None if alone else secrets.token_urlsafe(16)) if token is None else token or None
    app = create_app(model, index=index, site=site, token=token, hosts=LOOPBACK if alone else None, config=config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # Neither addresses nor names of photographs are logged.
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        server = ending(uvicorn.Server(settings), app)
        app.state.desk.warm_up()
        listening.listen(_BACKLOG)  # who opens the address at once waits, and is not turned away
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else ""))
        _run(server, listening)


def ending(server: uvicorn.Server, app: FastAPI) -> uvicorn.Server:
    """A server that, told to end, lets go first who listens to it; uvicorn would wait for them, and complain."""
    before = server.handle_exit

    def end(sig: int, frame: FrameType | None) -> None:
        app.state.held.closing = True
        before(sig, frame)

    server.handle_exit = end  # type: ignore[method-assign]
    return server


def _run(server: uvicorn.Server, listening: object) -> None:
    try:
        server.run(sockets=[listening])  # type: ignore[list-item]
    except KeyboardInterrupt:  # raised again by uvicorn, once all is closed
        print("Stopped. Nothing was kept.", file=sys.stderr)


def _check_site(site: SavedSite, model: Model) -> SavedSite:
    if site.weights != model.fingerprint():
        raise StoreError(f"The site {site.folder} is of other weights than {model.name}. Give its own.")
    return site


def _version() -> str:
    import memviz

    return memviz.__version__


async def _sweep(desk: Desk, held: Held) -> None:
    """Cancels the work for pages that were closed, and forgets their photographs."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        for photograph in held.abandoned():
            desk.cancel(photograph)


def _answer_errors(app: FastAPI, look: Look) -> None:
    """Errors as JSON, and as a page for who asked for pages."""

    def answer(request: Request, status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
        headers = dict(headers or {}) | ({"Retry-After": _RETRY[status]} if status in _RETRY else {})
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"detail": reason}, status, headers)
        return HTMLResponse(look.error(status, reason), status, headers)

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return answer(request, error.status, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(request, 422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
