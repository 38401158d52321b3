"""Decides which copies of a remote store are kept: by the rules of `retention`, and what only a remote store needs.

An age counts from the latest of three times, as one clock may be wrong: of the artifact, of the sending, and of the
bucket's server. Only copies whose manifest can be trusted are given here, so a bogus newer one pushes nothing out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from refnet.recovery.model.artifact import Entry
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.marks import Marks
from refnet.recovery.model.remote import Copy, CopyLevel
from refnet.recovery.model.retention import Decision, decide
from refnet.settings import Retention


def decide_copies(
    copies: Iterable[Copy],
    retention: Retention,
    now: datetime,
    zone: ZoneInfo | None,
    stored: Mapping[str, datetime],
    marks: Mapping[str, Marks],
) -> tuple[Decision, ...]:
    """Decide about each of `copies`, those of one source; see `retention.decide`.

    Args:
        stored: object of a manifest → when it was created, by the clock of the bucket's server.
        marks: SHA-256 of an artifact → its marks in the backup folder; while it is pinned there, its copies are kept.
    """
    marked = [replace(one, marks=marks.get(one.manifest.sha256, one.marks)) for one in copies]
    since: dict[str, datetime] = {}
    for one in marked:
        moment = max(one.document.sent, stored.get(one.object, one.document.sent))
        since[one.name] = max(since.get(one.name, moment), moment)
    last = {one.object for own in Catalog.of(marked).by_identity().values() for one in _last_fetched(own)}
    return tuple(
        replace(one, keep=True, reasons=(*(one.reasons if one.keep else ()), "the newest that was read back"))
        if isinstance(one.entry, Copy) and one.entry.object in last
        else one
        for one in decide(marked, retention, now, zone, since)
    )


def _last_fetched(ordered: Iterable[Entry]) -> list[Copy]:
    """Return the newest complete copy that was read back, in a list; none: an empty one."""
    found = [
        one
        for one in ordered
        if isinstance(one, Copy) and one.complete and one.copy_level is not CopyLevel.SENT
    ]
    return found[-1:]
