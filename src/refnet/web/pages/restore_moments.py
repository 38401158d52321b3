"""The moments and artifacts of a source that can be restored, as `/restore` lists them: by day, and of remote copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from fastapi import Request, Response

from refnet import sources
from refnet.catalog.calendar import by_day
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.sources.cluster.stream_status import streamed
from refnet.web.any_second import Window, shown
from refnet.web.pages.base import page, reading, settings_of

#: Limits: days on a page, artifacts of one day.
DAYS, OF_DAY = 31, 500


@dataclass(frozen=True)
class Moments:
    """The listed artifacts of one day."""

    day: date
    #: Newest first.
    entries: tuple[Entry, ...]
    #: The number of further artifacts of that day.
    more: int


def days_of(
    entries: Iterable[Entry], zone: tzinfo | None, *, day: date | None = None, before: date | None = None
) -> tuple[list[Moments], date | None]:
    """Return the newest usable artifact of each day, or all of `day`; and `before` for the next, older page.

    zone: the time zone of the days; None: this machine's.
    """
    found = {one: there[::-1] for one, there in reversed(by_day(entries, zone).items())}
    if day:
        return [Moments(day, found.get(day, ())[:OF_DAY], 0)], None
    shown = [one for one in found if before is None or one < before]
    listed = [
        Moments(
            one, (next((each for each in found[one] if each.complete), found[one][0]),), len(found[one]) - 1
        )
        for one in shown[:DAYS]
    ]
    return listed, shown[DAYS - 1] if len(shown) > DAYS else None


async def moments(
    request: Request,
    source: SourceName,
    window: Window | None,
    *,
    days: tuple[date | None, date | None] = (None, None),
    store: str = "",
    **asked: Any,
) -> Response:
    """Show what of `source` can be restored, of its copies in `store` ("": the backup folder).

    asked: `moment`, or `problem` with what was `typed`.
    """
    settings = settings_of(request)
    zone, (day, before) = settings.schedule_timezone, days
    copies = await copies_in(request, source)
    if store and store not in copies:
        raise RefnetError(f"{plain(store)[:100]} has no copy of {source}", "/stores lists them.", Exit.USAGE)
    try:
        entries: Iterable[Entry] = copies[store] if store else await entries_of(request, source)
    except RefnetError as error:
        if not copies:
            raise
        entries, asked = (), {"problem": error} | asked
    listed, older = days_of(entries, zone, day=day, before=before)
    values: dict[str, Any] = {"moment": window.last if window else None, "problem": None, "typed": ""} | asked
    values |= {
        "target": sources.source_of(settings, source).what(),
        "days": listed,
        "older": older,
        "day": day,
        "whole": source.kind is Kind.CLUSTER,
        "window": window,
        "store": store,
        "copies": {name: len(there) for name, there in copies.items()},
        "zone": datetime.now(UTC).astimezone(zone).tzname(),
    }
    status = 400 if values["problem"] else 200
    return page(request, "restore_moment.html.j2", status, source=source, **values)


async def copies_in(request: Request, source: SourceName) -> dict[str, tuple[Entry, ...]]:
    """Each remote store with copies of `source` → these, as it was listed last; empty if no overview can be made."""
    found = (await request.app.state.overviews.latest()).artifacts
    stores = found.stores if found else ()
    return {store: there for store in stores if found and (there := found.of(source, store))}


async def window_of(request: Request, source: SourceName) -> Window | None:
    """The moments that `source` can be restored as of, by WAL; None: none."""
    settings = settings_of(request)
    bases = source if source.kind is Kind.CLUSTER else streamed(settings, source)
    if bases is None:
        return None
    latest = await request.app.state.overviews.latest()
    return Window.of(latest.overview.streams.get(bases), settings.schedule_timezone)


def check_reached(
    entries: Iterable[Entry], source: SourceName, moment: datetime, zone: tzinfo | None
) -> None:
    """Raise RefnetError (USAGE) if no artifact of `source` is of `moment` or before; it names the first one."""
    first = Catalog.of(entries).oldest_complete([source])
    if first is None:
        raise RefnetError(
            f"there is no complete artifact of {source}", f"Make one: refnet backup {source}", Exit.USAGE
        )
    if moment < first.created:
        begin = first.created.astimezone(zone) + timedelta(microseconds=999_999)  # a form takes whole seconds
        raise RefnetError(
            f"{shown(moment.astimezone(zone))} is earlier than the first moment that can be restored",
            f"The first one is {shown(begin)}: {first.name}.",
            Exit.USAGE,
        )


async def entries_of(request: Request, source: SourceName) -> tuple[Entry, ...]:
    """The artifacts of `source` in the backup folder; RefnetError if it cannot be read."""
    catalog = Context(settings_of(request)).catalog
    found = await reading(request, "the backup folder", partial(catalog.entries, source))
    if not found and (trouble := await reading(request, "the backup folder", catalog.trouble)):
        raise trouble
    return tuple(one for one in found if one.source.kind is source.kind)
