"""`/runs`: all runs, with the reasons of failures; start and stop backups, verifications and drills."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import RedirectResponse, StreamingResponse

from refnet import wiring
from refnet.catalog.run import Origin, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, open_file
from refnet.core.formatting import plain, some
from refnet.settings import Settings
from refnet.web import child_process
from refnet.web.children import Child
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
from refnet.web.runs_list import OUTCOMES, PAGE, LastRuns, RunQuery

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
