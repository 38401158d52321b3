"""The application: routes, guard, and the page that describes the API."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from refnet import __version__, wiring
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.core.page import render
from refnet.settings import Examined, Settings, keys
from refnet.settings.writable import WRITABLE
from refnet.web import health, papers, work
from refnet.web.answers import MOST_LINE, Streams, failed
from refnet.web.children import BusyError, Children
from refnet.web.contents import Contents
from refnet.web.database import NetworkDatabase
from refnet.web.guard import Guard, SignInSessions, UserOf
from refnet.web.health import BackupReports, Health
from refnet.web.pages import (
    artifact,
    artifact_part,
    crawls,
    decide,
    network,
    network_map,
    overview,
    restore,
    runs,
    set_up,
    sign_in,
    stores,
    timeline,
    trends,
)
from refnet.web.pages import settings as settings_page
from refnet.web.pages.base import inside, page
from refnet.web.pages.runs import RunsReader
from refnet.web.schemas import described
from refnet.web.shared_facts import Overviews, changed_keys

_ROUTES = (
    papers, work, health,
    overview, timeline, trends, artifact, artifact_part, restore, runs, decide, network, network_map, crawls, stores,
    settings_page, set_up, sign_in,
)  # fmt: skip
_STATUS = {Exit.USAGE: 400, Exit.LOCKED: 409}


def create(settings: Settings, user_of: UserOf | None = None) -> FastAPI:
    """Return the application for `settings`. It also starts without the database; then requests report that.

    user_of: see Guard.
    """
    database = NetworkDatabase(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(
        title="RefNet",
        version=__version__,
        description="The citation network and its backups.",
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    _add_errors(app)
    sessions = SignInSessions(settings.web_token, settings.web_metrics_token)
    local = settings.web_token is None
    guard = Guard(app, sessions, local=local)
    app.add_middleware(Guard, sessions=sessions, local=local, user_of=user_of, refused=_form_refused)
    app.state.settings = settings
    app.state.sessions = sessions
    app.state.readers = CapacityLimiter(8)
    app.state.database = database
    app.state.children = Children(settings)
    app.state.runs = RunsReader(wiring.journal(settings), app.state.children)
    app.state.streams = Streams()
    app.state.contents = Contents()
    app.state.health = Health(settings, database)
    app.state.reports = BackupReports(settings)
    app.state.overviews = Overviews(settings)
    app.state.use = partial(_use, app)
    app.state.may_see = lambda request: guard.may_see(request.headers, request.state.session)
    for module in _ROUTES:
        app.include_router(module.router)
    app.add_api_route("/docs", _docs(app), include_in_schema=False)
    app.openapi = partial(described, app)  # type: ignore[method-assign]  # as FastAPI documents it
    return app


def _use(app: FastAPI, found: Examined) -> None:
    """Let the pages use the settings that one of them wrote, unless others that a server reads only once differ too."""
    running: Settings = app.state.settings
    if any(key in keys() and key not in WRITABLE for key in changed_keys(running, found)):
        return  # the pages say that it was started with other values
    settings = wiring.with_clusters(found.settings)
    app.state.settings, app.state.overviews = settings, Overviews(settings)
    app.state.health, app.state.reports = Health(settings, app.state.database), BackupReports(settings)


def _docs(app: FastAPI) -> Any:
    @cache
    def page() -> tuple[str, str]:
        """Return the page, and the SHA-256 of its style in base64."""
        found = render("api.html.j2", None, api=app.openapi())
        style = found.partition("<style>")[2].partition("</style>")[0]
        return found, base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    async def docs(_request: Request) -> Response:
        """Describe every path of the API, without scripts and other hosts."""
        found, digest = page()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
        return Response(found, media_type="text/html", headers={"Content-Security-Policy": policy})

    return docs


def _add_errors(app: FastAPI) -> None:
    """Turn every error of `app` into an answer of two lines."""
    app.add_exception_handler(RefnetError, _refused)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _answer(request: Request, status: int, error: str, hint: str) -> Response:
    """Return an error: as a page if a browser asks for HTML, else as JSON."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return failed(status, error, hint)
    if status == 404:
        error, hint = f"there is no page {plain(request.url.path)}", "Go on from one of the pages below."
    said = RefnetError(error[:MOST_LINE], hint[:MOST_LINE])
    return page(request, "error.html.j2", status, number=status, error=said, back=_back(request))


def _form_refused(scope: Scope, status: int, error: str, hint: str) -> Response:
    return _answer(Request(scope), status, error, hint)


def _back(request: Request) -> str:
    """Return the page of this server that led to the requested one; "" if none did, or it is the same."""
    try:
        found = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    if found.netloc != request.headers.get("host") or found.path == request.url.path:
        return ""
    return inside(found.path + (f"?{found.query}" if found.query else ""))


def _busy(request: Request, error: Any) -> Response:
    return page(request, "runs_busy.html.j2", 409, busy=error)


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
