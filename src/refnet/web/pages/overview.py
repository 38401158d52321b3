"""`/`: whether everything is protected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from refnet.catalog.monitoring import Status
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.telemetry.facts import Overview
from refnet.web.pages.base import language_of, page, text
from refnet.web.shared_facts import LastOverview

router = APIRouter(include_in_schema=False)
#: The size of the drawing of a trend, in SVG units.
WIDE, HIGH = 600, 60
#: Status → symbol and CSS class of the verdict.
_SIGNS = {
    Status.OK: ("✓", "passed"),
    Status.NEW: ("✓", "passed"),
    Status.UNKNOWN: ("?", "unverified"),
    Status.WARNING: ("!", "unverified"),
    Status.CRITICAL: ("✗", "failed"),
}


@router.get("/")
async def overview(request: Request) -> Response:
    """Show whether everything is protected."""
    return page(request, "overview.html.j2", part=await _part(request))


@router.get("/overview/part")
async def part(request: Request) -> Response:
    """Return the part of the page that changes."""
    return Response(await _part(request), media_type="text/html")


async def _part(request: Request) -> Markup:
    seen: LastOverview = await request.app.state.overviews.latest()
    language = language_of(request)
    settings = request.app.state.settings
    if language not in seen.parts:
        found = text(
            request, "overview_part.html.j2", all=seen.overview, around=seen.around, sign=sign(seen.overview),
            trend=trend, streams=seen.overview.streams, reached=_reached(seen.overview), remote=bool(settings.stores), file=settings.file,
        )  # fmt: skip
        seen.parts[language] = Markup(found)  # noqa: S704  # of a template, which has escaped every value
    found_part: Markup = seen.parts[language]
    return found_part


def _reached(seen: Overview) -> dict[SourceName, StreamStatus]:
    """Databases of clusters → the WAL by which they come back as of any second."""
    there, by_wal = seen.streams, seen.facts.by_wal if seen.facts else {}
    return {source: there[bases] for source, bases in by_wal.items() if bases in there}


def sign(seen: Overview) -> tuple[str, str]:
    """Return symbol and CSS class of the verdict: green only if every source is protected."""
    if seen.new:
        return _SIGNS[Status.WARNING]
    if all(one.protected for one in seen.sources) or seen.status not in {Status.OK, Status.NEW}:
        return _SIGNS[seen.status]
    return "○", "partly"


def trend(sizes: Sequence[tuple[datetime, int]]) -> str:
    """Return the points of an SVG line of `sizes` over time, with 0 at the bottom; "" for less than two."""
    if len(sizes) < 2:
        return ""
    first, last = sizes[0][0], sizes[-1][0]
    span, most = (last - first).total_seconds() or 1.0, max(size for _, size in sizes) or 1
    places = ((WIDE * (at - first).total_seconds() / span, HIGH * (1 - size / most)) for at, size in sizes)
    return " ".join(f"{x:.0f},{y + 2:.1f}" for x, y in places)
