"""The list of all runs: those of the journal, and the children of the dashboard that the journal does not have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cached_property
from typing import Self
from urllib.parse import urlencode

from refnet.catalog.run import Ended, History, Origin, Run, RunKind
from refnet.core.checked import in_calendars
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.store.run_journal import RunJournal
from refnet.web.children import Child, Children
from refnet.web.shared_facts import SharedPages

#: Runs of one page.
PAGE = 50
#: The outcomes that a list is filtered by.
OUTCOMES = (*(str(one) for one in Ended), "damaged", "lost", "running")
#: The most digits of the number of a page.
_DIGITS = 6
FIRST, LAST = date(1901, 1, 1), date(8999, 12, 31)
#: How long the runs that were read are shown, in seconds, if no file has changed: the end of a killed process changes none.
FRESH = 2.0


@dataclass(frozen=True)
class ListedRun:
    """A run of the journal, or a child that has none there."""

    one: Run | Child

    @property
    def run(self) -> Run | None:
        """Return the run of the journal; None: it is a child."""
        return self.one if isinstance(self.one, Run) else None

    @property
    def seconds(self) -> float | None:
        return None if self.state in {"running", "lost"} else self.one.seconds

    @cached_property
    def state(self) -> str:
        return self.one.state

    @property
    def artifact(self) -> str:
        return self.run.artifact if self.run else ""

    @cached_property
    def problem(self) -> tuple[str, str] | None:
        """Return the reason and what to do; None: there is none."""
        if isinstance(self.one, Run):
            return (self.one.message, self.one.hint) if self.one.message else None
        return self.one.error

    @property
    def by(self) -> str:
        """Return what started it; "": unknown."""
        return str(self.run.by or "") if self.run else str(Origin.BROWSER)

    @property
    def user(self) -> str:
        return self.run.user if self.run else ""

    @property
    def title(self) -> str:
        """Return the name of a child of another kind than runs have; "": its kind names it."""
        return "" if isinstance(self.one, Run) or self.one.kind in {*RunKind} else self.one.title


def listed(history: History, children: Iterable[Child] = ()) -> list[ListedRun]:
    """Return all runs, newest first."""
    runs = (*history.runs, *history.at_work)
    there = {run.child for run in runs}
    found = [
        *(ListedRun(run) for run in runs),
        *(ListedRun(child) for child in children if child.id not in there),
    ]
    return sorted(found, key=lambda listed: (listed.one.started, listed.one.id), reverse=True)


@dataclass(frozen=True)
class LastRuns:
    """All runs at one moment."""

    #: The children at work, and the runs at work that are of none of them.
    active: list[Child]
    others: list[Run]
    #: Newest first.
    every: list[ListedRun]
    pages: SharedPages = field(default_factory=dict)


class RunsReader:
    """Reads the journal and the children for all requests, again when their files have changed or after FRESH seconds."""

    def __init__(self, journal: RunJournal, children: Children) -> None:
        self._journal, self._children = journal, children
        self._reading = threading.Lock()
        self._last: LastRuns | None = None
        self._seen: list[tuple[int, int, int]] = []
        self._until = 0.0

    def __call__(self) -> LastRuns:
        with self._reading:
            now, seen = time.monotonic(), [*self._files()]
            if self._last is None or now >= self._until or seen != self._seen:
                self._last, self._seen, self._until = self._read(), seen, now + FRESH
            return self._last

    def _files(self) -> Iterable[tuple[int, int, int]]:
        """Yield what changes with each line of the journal, and with each file of a run."""
        for path in (self._journal.file, self._journal.folder, self._children.folder):
            with suppress(OSError):  # `_read` says what is wrong
                status = path.stat()
                yield status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> LastRuns:
        journal, children = self._journal.history(), self._children.all()
        active = [child for child in children if child.running]
        others = [run for run in journal.at_work if run.child not in {child.id for child in active}]
        return LastRuns(active, others, listed(journal, children))


def day_of(started: datetime, zone: tzinfo | None) -> date:
    """Return the day on which a run began, in the time zone of the schedule."""
    return in_calendars(started).astimezone(zone).date()


@dataclass(frozen=True)
class RunQuery:
    """The filters and the page of a list."""

    source: str = ""
    kind: str = ""
    outcome: str = ""
    by: str = ""
    #: The first and the last day.
    since: date | None = None
    until: date | None = None
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Parse the parameters of a request; RefnetError (USAGE) if one is malformed."""
        page = query.get("page", "") or "1"
        if not (page.isascii() and page.isdecimal() and len(page) <= _DIGITS and int(page)):
            raise malformed("page", page, "Give a number from 1 on.")
        since, until = (
            parse_day(name, text, "2026-11-25") if (text := query.get(name, "")) else None
            for name in ("since", "until")
        )
        texts = {name: query.get(name, "")[:200] for name in ("source", "kind", "outcome", "by")}
        return cls(**texts, since=since, until=until, page=int(page))

    def takes(self, found: ListedRun, zone: tzinfo | None) -> bool:
        """Return whether `found` passes the filters."""
        one = found.one
        asked = (
            (self.source, one.source),
            (self.kind, one.kind),
            (self.outcome, found.state),
            (self.by, found.by),
        )
        if not all(not wanted or wanted == there for wanted, there in asked):
            return False
        if not (self.since or self.until):
            return True
        return (self.since or FIRST) <= day_of(one.started, zone) <= (self.until or LAST)

    def link(self, page: int) -> str:
        """Return the path of another page of the same list."""
        kept = {**vars(self), "page": page if page > 1 else ""}
        return f"/runs?{urlencode({name: str(value) for name, value in kept.items() if value})}#journal"


def parse_day(name: str, text: str, example: str) -> date:
    """Parse the parameter `name`; RefnetError (USAGE) if it is not a day."""
    try:
        found = date.fromisoformat(text) if len(text) == len("2026-11-25") else None
    except ValueError:
        found = None
    if found is None or not FIRST <= found <= LAST:
        raise malformed(name, text, f"Write it as {example}.")
    return found


def malformed(name: str, value: str, hint: str) -> RefnetError:
    """Return the error about a parameter of a request."""
    return RefnetError(f"{name}: {plain(value[:80])!r} cannot be shown", hint, Exit.USAGE)
