"""What each page is made with: HTML in the browser's language and theme, and the server's settings, sources and runs.

The Japanese texts are in words/, one file per page: "English" = "日本語". The files *.said.toml translate what others
than pages say: reasons, hints, checks, descriptions of settings; a {name} there stands for any text.
"""

from __future__ import annotations

import hashlib
import operator
import re
import secrets
import socket
import tomllib
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Path as InPath
from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import RedirectResponse

from refnet import __version__, wiring
from refnet.catalog.source_name import SourceName
from refnet.core import formatting
from refnet.core.checked import in_calendars
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.web.answers import SECONDS, threaded, within
from refnet.web.children import Child, Children, CommandOutput
from refnet.web.contents import address
from refnet.web.guard import is_of_another_site
from refnet.web.shared_facts import Artifacts, LastOverview, SharedPages

#: Title of a page → path.
PAGES = {
    "Overview": "/",
    "Timeline": "/timeline",
    "Trends": "/trends",
    "Restore": "/restore",
    "Runs": "/runs",
    "Network": "/network",
    "Stores": "/stores",
    "Settings": "/settings",
}
LANGUAGES = ("en", "ja")
THEMES = ("auto", "light", "dark")
#: For messages about a timeout of reading the files of the runs.
RUNS = "the folder of the runs"
#: The id of a run in a path, checked when the run is looked up.
RunId = Annotated[str, InPath(alias="id")]
#: Stands for the form token of each session in a page that all share. Nobody sees it, so no name of a file contains it.
_EACH_TOKEN = secrets.token_hex(32)
#: The most pages of one reading that are kept.
_MOST_PAGES = 50
_UNITS = {"d": "日", "h": "時間", "min": "分", "s": "秒"}
_UNIT = re.compile(r"\b(?:d|h|min|s)\b")
_LEADS = {"note: ": "注: ", "problem: ": "問題: "}
#: What stands for more names of files.
_MORE = re.compile(r"    and ([\d,]+) more\n")
#: A cell of a line of text: white space, a number or a word before it; two spaces after it, if another one follows.
_CELL = re.compile(r"(\s*(?:\d+\. |note: |problem: )?)(\S+(?: \S+)*)( {2,}(?=\S))?")
_PLACE = re.compile(r"\{(\w+)\}")
#: A number and the plural of an English noun.
_COUNTED = re.compile(r"\{count\} ([a-z]+)s\b", re.ASCII)
_DURATION = re.compile(
    r"(?:under )?[0-9.]{1,12} (?:d|h|min|s)(?: [0-9]{1,4} (?:h|min|s))?(?: ahead)?", re.ASCII
)
#: Limits of what is translated: characters of a text, and texts within a text.
_LONGEST_SAYING, _DEEPEST = 2000, 4
_Result = TypeVar("_Result")


def settings_of(request: Request) -> Settings:
    """Return the settings of the server."""
    found: Settings = request.app.state.settings
    return found


def children_of(request: Request) -> Children:
    """Return the runs of the dashboard."""
    found: Children = request.app.state.children
    return found


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Render the page `template` (in templates/, extends base.html.j2) with `values`."""
    return Response(text(request, template, **values), status, media_type="text/html")


async def overview_page(
    request: Request, template: str, values: Callable[[Artifacts], Awaitable[dict[str, Any]]]
) -> Response:
    """Render a page of the last overview as `shared_page` does; RefnetError if the artifacts cannot be read."""
    seen: LastOverview = await request.app.state.overviews.latest()
    return await shared_page(request, template, seen.pages, lambda: values(seen.found()))


async def shared_page(
    request: Request, template: str, pages: SharedPages, values: Callable[[], Awaitable[dict[str, Any]]]
) -> Response:
    """Render a page once for all sessions, and keep it in `pages`.

    values: of the template; they depend on what `pages` belongs to and the request's path and query alone.
    """
    theme = request.cookies.get("refnet_theme", "")
    asked = (request.scope["path"], request.scope["query_string"].decode("latin-1"), language_of(request))
    inside = request.app.state.sessions.has_signed_in(request.state.session)  # or it has a token in a header
    key = (*asked, theme if theme in THEMES else "", str(inside))
    made = pages.get(key)
    if made is None:
        made = text(request, template, form_token=_EACH_TOKEN, **await values())
        if len(pages) < _MOST_PAGES:
            pages[key] = made
    own = request.app.state.sessions.form_token(request.state.session)
    return Response(made.replace(_EACH_TOKEN, own), media_type="text/html")


def fragment(request: Request, template: str, **values: Any) -> Response:
    """Render a part of a page, for htmx."""
    return Response(text(request, template, **values), media_type="text/html")


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


def text(request: Request, template: str, **values: Any) -> str:
    """Render a page or a part of one to a string."""
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
    environment.globals |= {"asset": asset, "address": address}
    environment.filters |= {
        "moment": lambda when: _time(when, zone, "{:%Y-%m-%d %H:%M}".format),
        "zoned": lambda when: _time(when, zone, "{:%Y-%m-%d %H:%M %Z}".format),
        "second": lambda when: _time(when, zone, lambda one: one.isoformat(" ", "seconds")),
        "iso": lambda when: _time(when, zone, lambda one: one.isoformat(timespec="seconds")),
        "number": _or_dash("{:,}".format),
        "seconds": _or_dash(lambda count: duration(formatting.seconds(count), language)),
        "age": _or_dash(lambda span: duration(formatting.age(span), language)),
        "size": _or_dash(formatting.size),
        "plain": formatting.plain,
        "said_plan": lambda text: said_plan(text, language),
        "said": lambda text: said(formatting.plain(text or ""), language),
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


@cache
def japanese() -> Mapping[str, str]:
    """Return English text → Japanese text of the pages."""
    return {english: text for words in by_file().values() for english, text in words.items()}


def by_file() -> dict[str, dict[str, str]]:
    """Return file name → its texts."""
    return _words(".ja.toml")


def _words(ending: str) -> dict[str, dict[str, str]]:
    found = [one for one in files("refnet.web").joinpath("words").iterdir() if one.name.endswith(ending)]
    return {
        one.name: tomllib.loads(one.read_text(encoding="utf-8"))
        for one in sorted(found, key=lambda one: one.name)
    }


@cache
def sayings() -> Mapping[str, str]:
    """Return English → Japanese of what others than pages say."""
    return {english: text for words in _words(".said.toml").values() for english, text in words.items()}


@cache
def _patterns() -> list[tuple[list[str], list[str], str]]:
    """Return the literal parts, the names between them, and the Japanese, the most literal ones first."""
    split = [(_PLACE.split(english), text) for english, text in sayings().items()]
    found = [(parts[::2], parts[1::2], text) for parts, text in split if parts[1:]]
    return sorted(found, key=lambda one: -sum(map(len, one[0])))


@lru_cache(maxsize=2000)
def said(text: str, language: str, depth: int = 0) -> str:
    """Translate a reason, a hint or another sentence of RefNet; what is not known stays as it is."""
    if language != "ja" or not text or len(text) > _LONGEST_SAYING:
        return text
    if exact := sayings().get(text):
        return exact
    if _DURATION.fullmatch(text):
        return duration(text, language)
    if depth < _DEEPEST:
        parts = text.split("; ")
        each = [said(one, language, depth + 1) for one in parts] if parts[1:] else []
        if each and all(map(operator.ne, parts, each)):
            return "。".join(each)
        for literals, names, japanese_text in _patterns():
            found = _between(text, literals)
            if found is not None and all(map(_fits, names, found)):
                values = (said(one, language, depth + 1) for one in found)
                return japanese_text.format(**dict(zip(names, values, strict=True)))
        if each:
            return "。".join(each)
        what, colon, why = text.partition(": ")  # what a check is about, and why it did not pass
        if colon:
            return f"{said(what, language, depth + 1)}: {said(why, language, depth + 1)}"
    return text


def _fits(name: str, value: str) -> bool:
    """Whether a value may stand in the place {name}: {count} is only for numbers."""
    return name != "count" or value.replace(",", "").isdecimal()


def said_plan(text: str, language: str) -> str:
    """Translate the lines of a plan, and keep their columns; what is indented twice, such as names of files, stays."""
    if language != "ja":
        return text
    return "".join(
        _MORE.sub(r"    ほか \1 件\n", line) if line.startswith("    ") else "".join(_translated_cells(line))
        for line in text.splitlines(keepends=True)
    )


def _translated_cells(line: str) -> Iterator[str]:
    """The cells of a line, each with the white space and the number before it; translated, and as wide as before."""
    for lead, cell, gap in _CELL.findall(line):
        shown = said(cell, "ja")
        width = sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in shown)
        yield _LEADS.get(lead, lead) + shown + (" " * max(2, len(cell) + len(gap) - width) if gap else "")
    yield line[len(line.rstrip()) :]


def _between(text: str, literals: Sequence[str]) -> list[str] | None:
    """Return what stands between `literals` in `text`; None unless it is made of them. Linear, whatever the text is."""
    first, last = literals[0], literals[-1]
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return None
    end, found, at = len(text) - len(last), list[str](), len(first)
    for literal in literals[1:-1]:
        place = text.find(literal, at, end)
        if place < 0:
            return None
        found.append(text[at:place])
        at = place + len(literal)
    return [*found, text[at:end]]


def translated(text: str, language: str, **values: object) -> str:
    """Translate `text` (English if there is no translation), and replace each {name} by its value."""
    said = japanese().get(text, text) if language == "ja" else text
    if str(values.get("count")) == "1":
        said = _COUNTED.sub(r"{count} \1", said)  # 1 run, 2 runs
    return said.format(**values) if values else said


def duration(text: str, language: str) -> str:
    """Translate a duration such as `1 h 5 min` or `under 1 min`."""
    if language != "ja":
        return text
    units = _UNIT.sub(lambda one: _UNITS[one[0]], text.removeprefix("under ").removesuffix(" ahead"))
    return units + ("未満" if text.startswith("under ") else "") + ("先" if text.endswith(" ahead") else "")


def preferred(accepted: str, chosen: str = "") -> str:
    """Return the language of a browser: `chosen`, else the first supported one of Accept-Language."""
    if chosen in LANGUAGES:
        return chosen
    weighed = [part.strip().partition(";q=") for part in accepted[:500].split(",")]
    for name, _, weight in sorted(weighed, key=lambda one: -_weight(one[2])):
        if weight != "0" and name[:2].lower() in LANGUAGES:
            return name[:2].lower()
    return "en"


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def source_of(settings: Settings, name: str) -> SourceName:
    """Return the source named `name`, protected or gone from its place; RefnetError (USAGE) if there is none."""
    there = wiring.protected(settings)
    for one in (*there, *(one for one in wiring.gone(settings) if one in wiring.known(settings))):
        if one == name:
            return one
    message = f"'{formatting.plain(name[:100])}' is not a source"
    raise RefnetError(message, f"The sources are: {formatting.some(there) or 'none'}.", Exit.USAGE)


def own_site(request: Request) -> None:
    """Raise RefnetError (USAGE) for a request from another site, which may start no process."""
    if is_of_another_site(request.headers):
        raise RefnetError(
            "cross-site request: this page starts a process", "Open it from the dashboard.", Exit.USAGE
        )


async def short(
    request: Request,
    words: Sequence[str],
    *,
    seconds: float = 60,
    variables: Mapping[str, str] | None = None,
) -> CommandOutput:
    """Run the read-only command `refnet WORDS`; RefnetError (USAGE) for a request from another site.

    variables: as for `Children.output`.
    """
    own_site(request)
    return await children_of(request).output(words, seconds=seconds, variables=variables)


async def begin(request: Request, words: Sequence[str], **about: str) -> Child:
    """Start `refnet WORDS` as a child. about: the other arguments of `Children.start`, with its errors."""
    return await reading(request, RUNS, partial(children_of(request).start, words, **about))


async def begin_run(request: Request, words: Sequence[str], **about: str) -> Response:
    """Start `refnet WORDS` as `begin` does, and redirect to the page of the run."""
    return RedirectResponse(f"/runs/{(await begin(request, words, **about)).id}", 303)
