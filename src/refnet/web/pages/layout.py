"""Answers with HTML: pages, and parts for htmx, in the browser's language and theme."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refnet import __version__
from refnet.core import formatting
from refnet.core.checked import in_calendars
from refnet.settings import Settings
from refnet.web.waiting import SECONDS, threaded, within
from refnet.web.words import duration, preferred, translated

#: Title of a page → path.
PAGES = {
    "Overview": "/",
    "Timeline": "/timeline",
    "Restore": "/restore",
    "Runs": "/runs",
    "Network": "/network",
    "Stores": "/stores",
    "Settings": "/settings",
}
THEMES = ("auto", "light", "dark")
_Result = TypeVar("_Result")


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Render the page `template` (in templates/, extends base.html.j2) with `values`."""
    return Response(_render(request, template, values), status, media_type="text/html")


def fragment(request: Request, template: str, **values: Any) -> Response:
    """Render a part of a page, for htmx."""
    return Response(_render(request, template, values), media_type="text/html")


def text(request: Request, template: str, **values: Any) -> str:
    """Render a part of a page to a string."""
    return _render(request, template, values)


async def form(request: Request) -> dict[str, str]:
    """Return the form fields of a POST, as read and checked by the guard."""
    found: dict[str, str] = request.state.form
    return found


async def reading(request: Request, what: str, work: Callable[[], _Result]) -> _Result:
    """Run the blocking `work` in a thread and return its result; RefnetError after 30 s.

    what: the subject of that error.
    """
    return await within(SECONDS, what, threaded(work, request.app.state.readers))


def language_of(request: Request) -> str:
    """Return the browser's language: en or ja."""
    return preferred(request.headers.get("accept-language", ""), request.cookies.get("refnet_language", ""))


def inside(path: str) -> str:
    """Return `path` if it is a path of this server, else "/", against redirects to other sites."""
    inner = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inner and len(path) < 2000 else "/"


@cache
def asset(name: str) -> str:
    """Return the URL path of a file in static/; it changes with the content, so browsers may cache the file."""
    return f"/static/{name}?v={hashlib.sha256(assets()[name]).hexdigest()[:12]}"


@cache
def assets() -> dict[str, bytes]:
    """Return name → content of the files in static/."""
    return {one.name: one.read_bytes() for one in files("refnet.web").joinpath("static").iterdir()}


def _render(request: Request, template: str, values: dict[str, Any]) -> str:
    state, settings = request.app.state, request.app.state.settings
    language, theme = language_of(request), request.cookies.get("refnet_theme", "")
    session = request.state.session
    inside_now = state.sessions.has_signed_in(session)
    common = {
        "_": partial(translated, language=language),
        "language": language,
        "theme": theme if theme in THEMES else "auto",
        "path": request.url.path,
        "asked": quote(request.scope["path"]) + (f"?{request.url.query}" if request.url.query else ""),
        "pages": PAGES,
        "form_token": state.sessions.form_token(session),
        "can_sign_out": settings.web_token is not None and inside_now,
        "about": _about(settings) if inside_now else {},
    }
    return _environment(settings.schedule_timezone, language).get_template(template).render(common | values)


def _about(settings: Settings) -> dict[str, str]:
    """Return the facts on every page: machine, settings file, version, time zone."""
    return {
        "machine": settings.instance or socket.gethostname(),
        "file": str(settings.file or "no settings file"),
        "version": __version__,
        "zone": str(settings.schedule_timezone or datetime.now().astimezone().tzname()),
    }


@cache
def _environment(zone: Any, language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"asset": asset}
    environment.filters |= {
        "moment": lambda when: _time(when, zone, "{:%Y-%m-%d %H:%M}".format),
        "zoned": lambda when: _time(when, zone, "{:%Y-%m-%d %H:%M %Z}".format),
        "iso": lambda when: _time(when, zone, lambda one: one.isoformat(timespec="seconds")),
        "number": _or_dash("{:,}".format),
        "seconds": _or_dash(lambda count: duration(formatting.seconds(count), language)),
        "age": _or_dash(lambda span: duration(formatting.age(span), language)),
        "size": _or_dash(formatting.size),
        "plain": formatting.plain,
    }
    return environment


def _time(when: datetime | str, zone: Any, shown: Callable[[datetime], str]) -> str:
    """Format a time in `zone`; return other text unchanged, such as PostgreSQL's `infinity`."""
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        return shown(in_calendars(moment).astimezone(zone))
    except ValueError:
        return formatting.plain(str(when))[:40]


def _or_dash(shown: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "–" if value is None else shown(value)
