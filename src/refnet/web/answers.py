"""The answers of the API: JSON, and each error as {error, hint}."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.formatting import plain

#: The characters of a line of an error at most.
_LINE = 500
_STATUS = {Exit.USAGE: 400, Exit.LOCKED: 409}


def json_text(text: str, status: int = 200) -> Response:
    """Return `text`, which is JSON, as an answer."""
    return Response(text, status, media_type="application/json")


def json_of(values: Any, status: int = 200) -> Response:
    """Return `values` as an answer; the bytes of names that are not UTF-8 are escaped."""
    return json_text(json.dumps(values) + "\n", status)


def failed(status: int, error: str, hint: str) -> Response:
    """Return an error as an answer."""
    return json_of({"error": plain(error)[:_LINE], "hint": plain(hint)[:_LINE]}, status)


def read_text(text: str) -> str:
    """Return `text` of a client; ValueError if it contains a control character, which no name or word has."""
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        raise ValueError("contains a control character")
    return text


def add_errors(app: FastAPI) -> None:
    """Make every error of `app` an answer of two lines."""
    app.add_exception_handler(RefnetError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _answer(request: Request, status: int, error: str, hint: str) -> Response:
    """Return an error as a page for a browser that asks for one, as JSON otherwise."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return failed(status, error, hint)
    from refnet.web.pages.layout import page  # it answers with pages, which need nothing of this

    said = RefnetError(error[:_LINE], hint[:_LINE])
    return page(request, "error.html.j2", status, number=status, error=said)


def _refused(request: Request, error: Any) -> Response:
    return _answer(request, _STATUS.get(error.code, 503), error.message, error.hint)


def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    said = str(first["msg"]).removeprefix("Value error, ")
    return _answer(request, 400, f"{where}: {said}", "/docs lists the parameters.")


def _http(request: Request, error: Any) -> Response:
    answer = _answer(
        request, error.status_code, str(error.detail), "/docs lists the paths, and what each accepts."
    )
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(_request: Request, _error: Exception) -> Response:
    return failed(500, "an error of RefNet itself", "The server's log on stderr shows it; please report it.")
