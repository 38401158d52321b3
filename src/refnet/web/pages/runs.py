"""`/runs`: all runs, of the journal and of children of the dashboard that it lacks, with the reasons of failures; start and stop
backups, verifications and drills.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import RedirectResponse, StreamingResponse

from refnet import wiring
from refnet.catalog.run import Ended, History, Origin, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core import checked
from refnet.core.checked import in_calendars
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, open_file
from refnet.core.formatting import plain, some
from refnet.settings import Settings
from refnet.store.run_journal import RunJournal
from refnet.web import child_process
from refnet.web.children import Child, Children
from refnet.web.orders import Verb
from refnet.web.pages.base import (
    RUNS,
    RunId,
    begin_run,
    children_of,
    form,
    fragment,
    page,
    reading,
    settings_of,
    shared_page,
    source_of,
    text,
)
from refnet.web.shared_facts import SharedPages

router = APIRouter(prefix="/runs", include_in_schema=False)
#: Command that this page starts and stops → beginning of the run's title.
ACTIONS = {"backup": "Backup of", "verify": "Verification of", "drill": "Drill of"}
#: What can be interrupted: these, and the commands of the network, which continue where they were.
STOPPED = frozenset((*ACTIONS, "crawl", "rank", "summarize", "notes"))
#: Limits: lines of a log, rows of a result, characters of a text.
LINES, RESULTS, LONGEST = 200, 100, 500
_RUN = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
#: Limits of a run's log: lines, characters of a line, bytes searched at the end of a file.
LOGGED, LONGEST_LINE, _SEARCHED = 500, 2000, 16 << 20
#: The values that the page shows elsewhere and that lines do not repeat.
_KNOWN = {"run", "what", "source", "event", "level", "timestamp"}


@dataclass(frozen=True)
class RunResult:
    """A child's result for one source or artifact."""

    source: str
    artifact: str
    outcome: str
    level: str
    #: The checks that did not pass, and why.
    reason: str


@dataclass(frozen=True)
class ShownRun:
    """A child, prepared for its page."""

    child: Child
    problem: RefnetError | None = None
    results: tuple[RunResult, ...] = ()

    @property
    def state(self) -> str:
        return self.child.state


def shown(child: Child) -> ShownRun:
    """Return `child` with its error and its printed results."""
    if child.running:
        return ShownRun(child)
    results, error = rows_of(child.result or {}), child.error
    if error and not child.said and (bad := [one for one in results if one.reason]):
        error = (some([f"{one.artifact or one.source}: {one.reason}" for one in bad], 1), error[1])
    return ShownRun(child, RefnetError(*error) if error else None, results)


def rows_of(result: Mapping[str, Any]) -> tuple[RunResult, ...]:
    """Return the rows in the result of `backup`, `verify` or `drill`; () for any other document."""
    found = result.get("results") or result.get("sources")
    return (
        tuple(_row(one) for one in found[:RESULTS] if isinstance(one, dict))
        if isinstance(found, list)
        else ()
    )


def _row(one: dict[str, Any]) -> RunResult:
    manifest, proof = _dict(one.get("manifest")), _dict(one.get("proof")) or one
    findings = proof.get("findings")
    reasons = [
        f"{found.get('what', '')}: {found['reason']}"
        for found in (findings if isinstance(findings, list) else [])[:RESULTS]
        if isinstance(found, dict) and found.get("outcome") != "passed" and found.get("reason")
    ]
    return RunResult(
        _text(one.get("source")),
        _text(one.get("artifact") or one.get("name") or manifest.get("name")),
        _text(one.get("outcome")),
        _text(proof.get("level")),
        _text(some(reasons, 3) or one.get("error")),
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else plain(str(value))[:LONGEST]


@router.get("")
async def runs(request: Request) -> Response:
    """List the runs that pass the filters, newest first, whoever started them."""
    asked, settings = RunQuery.of(request.query_params), settings_of(request)
    found = await _last(request)

    async def values() -> dict[str, Any]:
        begin_at = (asked.page - 1) * PAGE
        passed = [one for one in found.every if asked.takes(one, settings.schedule_timezone)]
        return {
            "last": found,
            "asked_for": asked,
            "actions": ACTIONS,
            "sources": await reading(request, "the settings", partial(wiring.protected, settings)),
            "names": sorted({one.one.source for one in found.every} - {""}),
            "kinds": [*RunKind],
            "outcomes": OUTCOMES,
            "origins": [*Origin],
            "shown": passed[begin_at : begin_at + PAGE],
            "newer": asked.page > 1 and asked.link(asked.page - 1),
            "older": len(passed) > begin_at + PAGE and asked.link(asked.page + 1),
            "count": len(passed),
        }

    return await shared_page(request, "runs.html.j2", found.pages, values)


@router.get("/part")
async def part(request: Request) -> Response:
    """Return the part of the page that changes."""
    return fragment(request, "runs_part.html.j2", last=await _last(request), actions=ACTIONS)


@router.post("")
async def start(request: Request) -> Response:
    """Start the run of the form, and redirect to its page."""
    fields = await form(request)
    action, source, artifact = (fields.get(name, "") for name in ("action", "source", "artifact"))
    if action not in ACTIONS or (artifact and action == "backup"):
        raise RefnetError("the form names no action of this page", "Choose it on /runs.", Exit.USAGE)
    await reading(request, "the backup folder", partial(_check, settings_of(request), source, artifact))
    about = artifact or source
    named = [about] if about else []
    if action == "backup":
        named = await reading(request, "the settings", partial(_backed_up, settings_of(request), source))
    words = [action, *named, "--verbose"]
    title = f"{ACTIONS[action]} {some(named) or 'all sources'}"
    return await begin_run(
        request, words, kind=action, source=source, title=title, exclusive=f"{action}:{about}"
    )


@router.get("/{id}")
async def run(request: Request, name: RunId) -> Response:
    """Show one run: its progress or its result, and its log."""
    if child_process.ID.fullmatch(name):
        values = await reading(request, RUNS, ChildReader(request, name))
        if values["run"].child.kind in set(Verb):  # that page has the undo
            return RedirectResponse(f"/restore/runs/{name}", 303)
        return page(request, "runs_child.html.j2", **values)
    found = await reading(request, "the journal of runs", partial(_run, settings_of(request), name))
    child = None
    with suppress(RefnetError):  # its files may be gone
        child = await reading(request, RUNS, partial(children_of(request).one, found["run"].child))
    return page(request, "runs_run.html.j2", **found, child=child)


@router.get("/{id}/events")
async def events(request: Request, name: RunId) -> Response:
    """Stream a child's progress whenever it changes, then its result and the event `done`."""
    look = ChildReader(request, name)
    await reading(request, RUNS, look.child)
    if request.app.state.streams.are_full:
        return Response(status_code=204)  # then EventSource does not retry

    async def next_part() -> tuple[str, bool]:
        if not request.app.state.may_see(request):
            raise RefnetError("the session is over", "Sign in again.", Exit.USAGE)
        values = await reading(request, RUNS, look)
        return text(request, "runs_progress.html.j2", **values), values["run"].state != "running"

    return StreamingResponse(request.app.state.streams.follow(next_part), media_type="text/event-stream")


@router.post("/{id}/stop")
async def stop(request: Request, name: RunId) -> Response:
    """Interrupt a run of `STOPPED`, like Ctrl-C."""
    child = await reading(request, RUNS, ChildReader(request, name).child)
    if child.kind not in STOPPED:
        raise RefnetError(
            f"{child.title} cannot be stopped here", "Wait until it ends, then undo it.", Exit.USAGE
        )
    if child.running:
        await reading(request, RUNS, partial(children_of(request).stop, child))
    return RedirectResponse(f"/runs/{child.id}", 303)


class ChildReader:
    """Reads one child repeatedly, and only new messages each time. HTTPException (404) if it does not exist."""

    def __init__(self, request: Request, name: str) -> None:
        self._children, self._name = children_of(request), name
        self._lines: deque[str] = deque(maxlen=LINES)
        self._after = 0

    def child(self) -> Child:
        try:
            return self._children.one(self._name)
        except RefnetError as error:
            raise HTTPException(404, error.message) from None

    def __call__(self) -> dict[str, Any]:
        child = self.child()
        while (found := child.log(self._after))[0]:
            self._after = found[1]
            self._lines += found[0]
        return {"run": shown(child), "log": tuple(self._lines), "actions": ACTIONS, "stopped": STOPPED}


async def _last(request: Request) -> LastRuns:
    return await reading(request, "the journal of runs", request.app.state.runs)


def _check(settings: Settings, source: str, artifact: str) -> None:
    """Raise RefnetError if `source` ("": all) or its `artifact` ("": none) does not exist."""
    name = source_of(settings, source) if source else None
    there = Context(settings).catalog.entries(name) if name and artifact else ()
    if artifact and artifact not in {one.name for one in there}:
        raise RefnetError(
            f"{plain(artifact[:100])} is not in the catalog", "/timeline lists all artifacts.", Exit.USAGE
        )


def _backed_up(settings: Settings, source: str) -> list[str]:
    """Return the arguments of a backup of `source` ("": all); []: all sources.

    If the folder of the configuration is missing, they name all other sources: the container of the stack's API does
    not mount it, as it contains every secret. RefnetError (USAGE) if no source remains.
    """
    folder, config = settings.config_dir, SourceName.CONFIG
    # Path.exists raises PermissionError, os.path.exists returns False
    if folder is None or os.path.exists(folder) or source not in {"", config}:  # noqa: PTH110
        return [source] if source else []
    others = [str(one) for one in wiring.protected(settings) if one != config]
    if source or not others:
        raise RefnetError(
            f"the dashboard cannot see the configuration folder {folder}",
            "Back it up on its machine. In the stack: docker compose exec backup refnet backup config",
            Exit.USAGE,
        )
    return others


def _run(settings: Settings, name: str) -> dict[str, Any]:
    """Return a run of the journal and its log, or the reason for a missing log; HTTPException (404)."""
    history = wiring.journal(settings).history()
    found: Run | None = next((run for run in (*history.runs, *history.at_work) if run.id == name), None)
    if not found or not _RUN.fullmatch(name):
        raise HTTPException(404, f"there is no run {name[:64]}")
    try:
        lines, problem = lines_of(settings.log_folder, name), None
    except RefnetError as error:
        lines, problem = (), error
    return {"run": found, "lines": lines, "problem": problem}


@dataclass(frozen=True)
class LogLine:
    """One line of printable text."""

    #: The time as in the log, in UTC; "": none.
    time: str
    level: str
    #: The event and its values.
    text: str


def lines_of(folder: Path | None, run: str) -> tuple[LogLine, ...]:
    """Return the last lines of the run with the id `run`, including the last rotated file.

    folder: log.folder. RefnetError if it is not set, or a file cannot be read.
    """
    if not folder:
        raise RefnetError("no log is written", "Set log.folder.")
    found: deque[LogLine] = deque(maxlen=LOGGED)
    for name in (f"refnet-{log}.log{end}" for log in ("backup", "restore") for end in (".1", "")):
        for line in _end_of(folder / name).split(b"\n"):
            if run.encode() in line:
                with suppress(ValueError):
                    values = checked.document(line, 64 << 10)
                    if values.get("run") == run:
                        found.append(_log_line(values))
    return tuple(found)


def _end_of(path: Path) -> bytes:
    with explained(path):
        try:
            handle = open_file(path)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(handle, _SEARCHED, max(0, os.fstat(handle).st_size - _SEARCHED))
        finally:
            os.close(handle)


def _log_line(values: dict[str, Any]) -> LogLine:
    time, level = (plain(str(values.get(key, ""))[:50]) for key in ("timestamp", "level"))
    others = " ".join(f"{key}={value}" for key, value in values.items() if key not in _KNOWN)
    return LogLine(time, level, plain(f"{values.get('event', '')} {others}".strip())[:LONGEST_LINE])


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
            parse_day(name, day, "2026-11-25") if (day := query.get(name, "")) else None
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
