"""Reads the photographs of an upload, into memory only."""

from __future__ import annotations

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from memviz.app.config import AppConfig
from memviz.app.held import Photograph
from memviz.files import utf8_name

FIELD = "photograph"
CLOSED = 499  # as nginx calls it, of a connection that the visitor closed; nobody sees it
_LONGEST_NAME = 120


async def read_photographs(request: Request, config: AppConfig) -> list[Photograph]:
    """The photographs of a form, in fields of the name "photograph".

    Raises:
        HTTPException: 499 where the visitor has gone, 413 or 408 as `memviz.app.guard.BodyLimit` says, 415 for what is
            no form, 422 for one that is broken off or holds no photograph.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, f"Send a form (multipart/form-data) with a file in the field {FIELD!r}.")
    parser = MultiPartParser(request.headers, request.stream(), max_files=config.files, max_fields=16)
    # Nothing that a visitor gives is written to disk: Starlette would put what is larger than this into a file.
    parser.spool_max_size = config.body + 1
    try:
        form = await parser.parse()
    except ClientDisconnect:
        raise HTTPException(CLOSED, "The connection was closed.") from None
    except MultiPartException as error:
        raise HTTPException(422, f"The form cannot be read: {error.message}") from None
    try:
        files = [each for each in form.getlist(FIELD) if isinstance(each, UploadFile)]
        client = client_of(request)
        found = [Photograph(_name(each.filename), await each.read(), client) for each in files if each.filename]
    finally:
        await form.close()
    if not found:
        raise HTTPException(422, f"There is no photograph in the form: send files in the field {FIELD!r}.")
    return found


def client_of(request: Request) -> str:
    """The address of who asks."""
    return request.client.host if request.client else ""


def _name(given: str | None) -> str:
    """A file's name to be shown: the last part of what a browser sends, on one line.

    >>> _name("C:/Users/me/../a\\nb.jpg")
    'a b.jpg'
    """
    name = utf8_name((given or "").replace("\\", "/").rpartition("/")[2])
    return "".join(each if each.isprintable() else " " for each in name)[:_LONGEST_NAME] or "photograph"
