"""`/timeline`: a calendar of one source's artifacts in one store, missed days, a chart of sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Self
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response

from refnet.actions.list import notes
from refnet.catalog.calendar import Day, Month
from refnet.catalog.manifest import Entry
from refnet.catalog.run import Ended, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.web.pages.base import language_of, overview_page, reading, translated
from refnet.web.pages.runs import FIRST, LAST, ListedRun, day_of, listed, malformed, parse_day
from refnet.web.shared_facts import Artifacts

router = APIRouter(include_in_schema=False)
#: The possible numbers of months; the most artifacts of a list, and of a chart.
COUNTS, LISTED, CHARTED = (1, 3, 6, 12), 200, 1000


@dataclass(frozen=True)
class TimelineQuery:
    """The parameters of a request."""

    #: "": the first source with artifacts.
    source: str = ""
    #: "": the backup folder.
    store: str = ""
    #: The newest shown month; None: the current one.
    month: date | None = None
    #: The day to list; None: the newest day with artifacts.
    day: date | None = None
    count: int = 3

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Parse the parameters of a request; RefnetError (USAGE) if one is malformed."""
        count = query.get("months", "") or "3"
        if count not in map(str, COUNTS):
            raise malformed("months", count, f"Give one of {', '.join(map(str, COUNTS))}.")
        month, day = query.get("month", ""), query.get("day", "")
        return cls(
            query.get("source", ""),
            query.get("store", ""),
            parse_day("month", f"{month}-01", "2026-11") if month else None,
            parse_day("day", day, "2026-11-25") if day else None,
            int(count),
        )


@dataclass(frozen=True)
class Timeline:
    """The content of the page."""

    source: SourceName | None
    store: str
    months: tuple[Month, ...]
    day: Day | None
    #: The artifacts of the chart, oldest first.
    charted: tuple[Entry, ...] = ()
    #: The runs of each day, newest first.
    runs: Mapping[date, Sequence[ListedRun]] = field(default_factory=dict)
    #: Of a remote store: the artifacts of `day` in the backup folder.
    here: tuple[Entry, ...] = ()

    @property
    def missed(self) -> int:
        return sum(month.missed for month in self.months)

    def ran(self, day: date) -> Sequence[ListedRun]:
        """Return the runs of the source that began on `day`, newest first."""
        return self.runs.get(day, ())

    def backups(self, day: date) -> list[Run]:
        """Return the backups of the source that began on `day`, newest first."""
        return [one.run for one in self.ran(day) if one.run and one.run.kind is RunKind.BACKUP]

    def failed(self, day: date) -> bool:
        """Return whether a backup failed on `day`."""
        return any(run.ended is Ended.FAILED for run in self.backups(day))

    def knows(self, day: date) -> bool:
        """Return whether the journal, which keeps so many runs of each kind, reaches back to `day`: it has an earlier backup."""
        return any(self.backups(other) for other in self.runs if other < day)


def timeline(found: Artifacts, asked: TimelineQuery) -> Timeline:
    """Return the content of the page; RefnetError (USAGE) if source or store does not exist."""
    if asked.store and asked.store not in found.stores:
        raise malformed("store", asked.store, f"The stores are: {', '.join(found.stores) or 'none'}.")
    source = _source(found, asked.source)
    if source is None:
        return Timeline(None, asked.store, (), None)
    calendar = found.calendar(source, asked.store)
    shown = calendar.months(asked.month or calendar.today, asked.count)
    days = [day for month in shown for week in month.weeks for day in week if day]
    there = sorted((day for day in days if day.entries), key=lambda day: day.date)
    chosen = next((day for day in days if day.date == asked.day), None)
    charted = tuple(entry for day in there for entry in day.entries)[-CHARTED:]
    newest = there[-1] if there and asked.day is None else None
    runs: dict[date, list[ListedRun]] = {}
    for one in listed(found.facts.history):
        if one.one.source == source:
            runs.setdefault(day_of(one.one.started, found.facts.schedule.zone), []).append(one)
    day = chosen or newest
    here = found.calendar(source, "").by_day.get(day.date, ()) if asked.store and day else ()
    return Timeline(source, asked.store, shown, day, charted, runs, here)


@router.get("/timeline")
async def timeline_page(request: Request) -> Response:
    """Show the calendar of one source in one store."""
    return await overview_page(
        request, "timeline.html.j2", partial(_values, request, TimelineQuery.of(request.query_params))
    )


async def _values(request: Request, asked: TimelineQuery, found: Artifacts) -> dict[str, Any]:
    shown = await reading(request, "the backup folder", lambda: timeline(found, asked))

    def link(**changes: object) -> str:
        values = {"source": shown.source, "store": shown.store, "months": asked.count}
        values |= {"month": f"{asked.month:%Y-%m}"} if asked.month else {}
        kept = {name: str(value) for name, value in (values | changes).items() if value}
        return f"/timeline?{urlencode(kept)}"

    first = shown.months[0].first if shown.months else None
    newest = found.facts.now.astimezone(found.facts.schedule.zone).date().replace(day=1)
    streams = [one for one in found.facts.streams if one.source == shown.source and not shown.store]
    return {
        "shown": shown,
        "found": found,
        "link": link,
        "counts": COUNTS,
        "asked_for": asked,
        "state": found.stores.get(shown.store),
        "older": first and moved(first, -asked.count),
        "newer": min(moved(first, asked.count), newest) if first and first < newest else None,
        "stream": streams[0] if streams else None,
        "most": LISTED,
        "zone": named(found.facts.schedule.zone),
        "chart": size_chart(request, shown.charted),
        "notes": lambda one: notes(one, found.facts.now),
    }


def _source(found: Artifacts, name: str) -> SourceName | None:
    if name:
        one = next((one for one in found.sources if one == name), None)
        if one is None:
            raise malformed("source", name, f"The sources are: {', '.join(found.sources) or 'none'}.")
        return one
    with_artifacts = (one for one in found.sources if any(entry.source == one for entry in found.all))
    return next(with_artifacts, next(iter(found.sources), None))


def chart(series: Sequence[tuple[str, str, Sequence[tuple[datetime, float]]]]) -> str:
    """Return the data of a chart as JSON: (label, unit, points) with the same moments; "" for fewer than two points."""
    moments = [round(at.timestamp()) for at, _ in series[0][2]]
    lines = [
        {"label": label, "unit": unit, "values": [round(value, 3) for _, value in points]}
        for label, unit, points in series
    ]
    return json.dumps({"x": moments, "series": lines}) if len(moments) > 1 else ""


def size_chart(request: Request, entries: Sequence[Entry]) -> str:
    """Return the chart of the sizes and durations of `entries`."""
    say = partial(translated, language=language_of(request))
    sizes = [(one.created, one.manifest.size) for one in entries]
    durations = [(one.created, one.manifest.seconds) for one in entries]
    return chart([(say("Size"), "bytes", sizes), (say("Duration"), "seconds", durations)])


def named(zone: ZoneInfo | None) -> str:
    """Return the browsers' name of `zone` (None: the machine's); "" if there is none."""
    if zone:
        return zone.key
    hours = (datetime.now().astimezone().utcoffset() or timedelta()) / timedelta(hours=1)
    return f"Etc/GMT{-int(hours):+d}" if hours.is_integer() else ""


def moved(first: date, count: int) -> date:
    """Return the first day of the month `count` months later, within the supported range."""
    number = first.year * 12 + first.month - 1 + count
    return min(max(date(number // 12, number % 12 + 1, 1), FIRST), LAST)
