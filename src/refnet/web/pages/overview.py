"""`/`: whether everything is protected. Computed in a thread, and shared by all requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from refnet.actions.overview import overview_of
from refnet.catalog.checks import Status
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.telemetry.overview import Overview, unreadable
from refnet.web.pages.layout import language_of, page, text
from refnet.web.surroundings import Surroundings, surroundings
from refnet.web.waiting import SECONDS, threaded, within

router = APIRouter(include_in_schema=False)
#: The shortest time between two overviews, and how much longer the last one is shown meanwhile, in seconds.
PAUSE, STALE = 2.0, 3.0
#: The time between two checks of scheduler and settings, in seconds: systemd is asked for each timer.
AROUND = 20.0
#: The greatest share of one processor for overviews: Python runs one thread at a time, and pages wait for it.
SHARE = 0.05
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


@dataclass
class Seen:
    """An overview, and its rendered HTML by language."""

    overview: Overview
    around: Surroundings = Surroundings()
    parts: dict[str, Markup] = field(default_factory=dict)


class Overviews:
    """The overview of one server: computed by one thread, while requests get the last one."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self._look, self._now = overview_of(settings, now), now
        self._thread = CapacityLimiter(1)
        self._seen: Seen | None = None
        self._making: asyncio.Task[Seen] | None = None
        self._until = self._due = 0.0
        self._settings, self._around, self._around_until = settings, Surroundings(), 0.0

    async def latest(self) -> Seen:
        """Return an overview that is at most some seconds old; RefnetError if computing it takes longer than 30 s."""
        now = time.monotonic()
        if self._making is None and now >= self._due:
            self._making = asyncio.create_task(self._make())
        if self._seen and (now < self._until or self._making is None):
            return self._seen
        return await within(SECONDS, "the backup folder", self._made())

    async def _made(self) -> Seen:
        making = self._making
        if making is None:
            return await self.latest()
        return await asyncio.shield(making)

    async def _make(self) -> Seen:
        busy = 0.0
        try:
            found, busy = await threaded(self._timed, self._thread)
            self._seen = Seen(found, self._around)
            return self._seen
        finally:
            now, self._making = time.monotonic(), None
            self._due = now + max(PAUSE, busy / SHARE)
            self._until = self._due + STALE

    def _timed(self) -> tuple[Overview, float]:
        """Return the overview, and the processor time that it took, in seconds."""
        begun = time.thread_time()
        try:
            found = self._look()
            if (now := time.monotonic()) >= self._around_until:
                self._around = surroundings(self._settings, self._now())
                self._around_until = now + AROUND
        except RefnetError as error:
            found = unreadable(self._now(), error)
        return found, time.thread_time() - begun


@router.get("/")
async def overview(request: Request) -> Response:
    """Show whether everything is protected."""
    return page(request, "overview.html.j2", part=await _part(request))


@router.get("/overview/part")
async def part(request: Request) -> Response:
    """Return the part of the page that changes."""
    return Response(await _part(request), media_type="text/html")


async def _part(request: Request) -> Markup:
    seen, language = await request.app.state.overviews.latest(), language_of(request)
    settings = request.app.state.settings
    if language not in seen.parts:
        found = text(
            request, "overview_part.html.j2", all=seen.overview, around=seen.around, sign=sign(seen.overview),
            trend=trend, remote=bool(settings.stores), file=settings.file,
        )  # fmt: skip
        seen.parts[language] = Markup(found)  # noqa: S704  # of a template, which has escaped every value
    found_part: Markup = seen.parts[language]
    return found_part


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
