"""What stands before every request: who may ask, how much may be sent, and what a browser may do with the answer."""

from __future__ import annotations

import asyncio
import hmac
import time
from http.cookies import CookieError, SimpleCookie

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memviz.app.config import MEGABYTE, AppConfig

COOKIE = "memviz-token"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SITE, _LOGIN, _HEALTH = "/site", "/token", "/health"
# What the pages need, and nothing from elsewhere. The microscope's pages place their pictures by style attributes.
_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'self'{inline}; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), interest-cohort=()",
}


class SecurityHeaders:
    """Adds the headers that tell browsers to load nothing from elsewhere, and to keep nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        inline = " 'unsafe-inline'" if path.startswith(f"{SITE}/") else ""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY.format(inline=inline)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, add)


class Gate:
    """Refuses who may not ask: without the token where there is one, and pages of other sites.

    Args:
        app: what is guarded.
        token: that a visitor must have; None lets everybody in who asks for a host in `hosts`.
        hosts: names by which the application may be asked for; None allows all. A page elsewhere whose own name was
            made to lead here (DNS rebinding) asks for another one.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: tuple[str, ...] | None) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        answer = self._refusal(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").rsplit(":", 1)[0] if "]" not in headers.get("host", "") else "::1"
        if self._hosts is not None and host not in self._hosts:
            return JSONResponse({"detail": f"This application answers as {', '.join(self._hosts)} only."}, 421)
        if scope["method"] != "GET" and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return JSONResponse({"detail": "A page of another site may not send anything here."}, 403)
        if self._token is None or scope["path"] == _HEALTH:
            return None
        given = QueryParams(scope["query_string"]).get("token") if scope["method"] == "GET" else None
        if given is not None and is_token(given, self._token):
            return let_in(scope, given)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if any(is_token(each, self._token) for each in (bearer, _cookie(headers.get("cookie", "")))):
            return None
        if scope["path"] == _LOGIN or scope["path"].startswith("/static/"):
            return None
        if "text/html" in headers.get("accept", ""):
            return RedirectResponse(_LOGIN, 303)
        return JSONResponse(
            {"detail": "Send the token that the application printed when it was started: Authorization: Bearer TOKEN."},
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def is_token(given: str, token: str) -> bool:
    """Whether it is the token, in a time that tells nothing of it."""
    return hmac.compare_digest(given.encode(), token.encode())


def let_in(scope: Scope, token: str, to: str | None = None) -> Response:
    """Leads on to a page, or the one that was asked for, with the token in a cookie."""
    answer = RedirectResponse(to or scope["path"], 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
    return answer


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


class BodyLimit:
    """Counts the bodies of requests while they come: each, all that are read at one time, and how long they take.

    Starlette and uvicorn have no such limits. A request that is too large is refused before its body is read where it
    says how long it is, and else as soon as it is too long.
    """

    def __init__(self, app: ASGIApp, config: AppConfig) -> None:
        self._app, self._config = app, config
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        config, length = self._config, Headers(scope=scope).get("content-length", "")
        said = int(length) if length.isdecimal() else config.body
        if said > config.body:
            await _refuse(413, self._too_large)(scope, receive, send)
            return
        if self._reading + said > config.bodies:
            await _refuse(503, "Too many uploads at the same time. Try again in some seconds.")(scope, receive, send)
            return
        self._reading += said
        came, end = 0, time.monotonic() + config.body_seconds

        def release() -> None:
            nonlocal said
            self._reading, said = self._reading - said, 0

        complete = False

        async def count() -> Message:
            nonlocal came, complete
            if complete:  # what comes then is that the visitor has gone, which may take as long as it likes
                return await receive()
            try:
                async with asyncio.timeout(min(config.silence_seconds, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "The upload was too slow.", {"Connection": "close"}) from None
            came += len(message.get("body", b""))
            if came > config.body:
                raise HTTPException(413, self._too_large, {"Connection": "close"})
            if complete := message["type"] == "http.disconnect" or not message.get("more_body", False):
                release()
            return message

        try:
            await self._app(scope, count, send)
        finally:
            release()

    @property
    def _too_large(self) -> str:
        return f"The upload is larger than {self._config.body / MEGABYTE:g} MB. Send fewer or smaller photographs."


def _refuse(status: int, reason: str) -> Response:
    headers = {"Connection": "close"} | ({"Retry-After": "5"} if status == 503 else {})
    return JSONResponse({"detail": reason}, status, headers)
