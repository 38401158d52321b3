"""`/artifacts/{source}/{name}/file`, `/table`, `/versions`, `/changes`: one file or table of an artifact.

What they show is printed by the commands (`refnet cat`, `log`, `diff`, `query`), each in a process of its own: with a time
limit, a limit of its output, and the isolation of a terminal.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakSet

from fastapi import APIRouter, Request, Response

from refnet import wiring
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.core.member_names import show
from refnet.sources.folder.browsing import entry_of
from refnet.sources.folder.files_artifact import archive_errors
from refnet.sources.folder.listing import FileKind, Listed
from refnet.web.answers import threaded, within
from refnet.web.child_process import last_error, printed
from refnet.web.contents import LARGEST, FileView, Part, address, contents_of, view
from refnet.web.pages.artifact import MOST, Download, listed, tables_in
from refnet.web.pages.base import children_of, form, fragment, own_site, page, reading
from refnet.web.shared_facts import Artifacts, artifacts

router = APIRouter(include_in_schema=False)
#: Limits: rows of a sample and of an answer, characters of a value; seconds and MiB of an answer; bytes of a report.
SAMPLE, ROWS, VALUE, SECONDS, MEGABYTES, REPORT = 50, 200, 1000, 60, 2, 4 << 20
#: Seconds until a file that is downloaded has been checked.
CHECKED = 600.0
#: The lines of a difference, and the changes of a history, that a page shows.
LINES, CHANGES = 2000, 500
_PATH = "/artifacts/{source}/{name}"
#: The processes that print a file for a download.
_downloaded = WeakSet[subprocess.Popen[bytes]]()
_TEXT = checked.text(1 << 20)
_ROW = checked.mapping(_TEXT, checked.free, 2000)
_ANSWER = checked.record({"columns": checked.each(_TEXT, 2000), "rows": checked.each(_ROW, ROWS)}, more=True)
_STEP = checked.record(
    {
        "artifact": _TEXT,
        "created": _TEXT,
        "change": checked.one_of(["first seen", "changed", "deleted", "seen again"]),
        "size": checked.or_none(checked.integer(0, 1 << 63)),
        "rows": checked.or_none(checked.integer(0, 1 << 63)),
        "digest": checked.or_none(_TEXT),
        "more": checked.each(_TEXT, 2000),
    },
    more=True,
)
_HISTORY = checked.record(
    {
        "changes": checked.each(_STEP, 100_000),
        "artifacts": checked.integer(0, 1 << 40),
        "notes": checked.each(_TEXT, 100_000),
    },
    more=True,
)
_CHANGES = checked.record(
    {"lines": checked.each(_TEXT, 100_000), "equal": checked.flag, "binary": checked.flag}, more=True
)


@dataclass(frozen=True)
class Rows:
    """Rows of a table or of an answer, as text, or why there are none."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str | None]] = ()
    #: Why the answer is not complete, and other notes.
    trouble: RefnetError | None = None
    shortened: bool = False


@dataclass(frozen=True)
class Table:
    """A table of an artifact."""

    schema: str
    name: str
    rows: int
    bytes: int

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@router.get(f"{_PATH}/file")
async def file_page(request: Request, source: str, name: str) -> Response:
    """Show one file of an artifact: its facts, its content if a page can show it, and links to restore or download it."""
    asked, found = Part.of(request), await artifacts(request)
    entry = listed(found, source, name, "files")
    one = await _file(request, found, entry, asked.path)
    shown, trouble = FileView(), None
    if one.kind is FileKind.FILE:
        try:
            opened = wiring.store(found.settings).artifact(entry)
            shown = await _content(request, opened, one, as_text=request.query_params.get("as") == "text")
        except RefnetError as error:
            trouble = error
    history = await _history(request, entry, asked) if request.query_params.get("versions") == "yes" else None
    return page(
        request, "artifact_file.html.j2", entry=entry, part=asked, one=one, shown=shown, trouble=trouble,
        history=history, modified=_moment(one.mtime_ns),
    )  # fmt: skip


@router.get(f"{_PATH}/file/download")
async def file_download(request: Request, source: str, name: str) -> Response:
    """Send one file of an artifact, as `refnet cat` prints it."""
    asked, found = Part.of(request), await artifacts(request)
    entry = listed(found, source, name, "files")
    one = await _file(request, found, entry, asked.path)
    if one.kind is not FileKind.FILE:
        raise RefnetError(f"{show(one.path)} is a {one.kind}, not a file", "Choose a file.", Exit.USAGE)
    own_site(request)
    if sum(each.poll() is None for each in _downloaded) >= MOST:
        raise RefnetError(f"{MOST} downloads run already", "Retry when one has ended.", Exit.LOCKED)
    child = children_of(request).stream(("cat", "--binary", "--", entry.name, _argument(one.path)))
    _downloaded.add(child)
    try:
        begun = threaded(partial(_begun, child, one), request.app.state.readers)
        output = await within(CHECKED, show(one.path), begun)
    except BaseException:
        child.kill()
        raise
    return Download(output, one.path.rpartition("/")[2], one.size, one.sha256)


@router.get(f"{_PATH}/versions")
async def versions(request: Request, source: str, name: str) -> Response:
    """Return the artifacts in which a file or table changed, as a part of its page."""
    asked, found = Part.of(request), await artifacts(request)
    entry = listed(found, source, name)
    history = await _history(request, entry, asked)
    return fragment(request, "artifact_versions.html.j2", entry=entry, part=asked, history=history)


@router.get(f"{_PATH}/changes")
async def changes(request: Request, source: str, name: str) -> Response:
    """Show how a file differs from that in an earlier artifact."""
    asked, found = Part.of(request), await artifacts(request)
    entry = listed(found, source, name, "files")
    before, _ = found.find(source, asked.before)
    words = ("diff", f"--file={asked.path}", "--json", "--", before.name, entry.name)
    said = await _report(request, words, "the difference", _CHANGES)
    shown = {key: said[key] for key in ("lines", "equal", "binary")}
    return page(
        request, "artifact_changes.html.j2", entry=entry, before=before, part=asked, most=LINES, **shown
    )


@router.get(f"{_PATH}/table")
async def table_page(request: Request, source: str, name: str) -> Response:
    """Show one table of an artifact: its first rows, its counts over the nights, and what can be asked of it."""
    return await _table_page(request, source, name)


@router.post(f"{_PATH}/table")
async def query(request: Request, source: str, name: str) -> Response:
    """Answer a read-only query of an artifact."""
    given = await form(request)
    return await _table_page(request, source, name, given.get("sql", ""))


async def _table_page(request: Request, source: str, name: str, sql: str | None = None) -> Response:
    asked, found = Part.of(request), await artifacts(request)
    entry = listed(found, source, name, "tables")
    tables = await tables_in(request, entry)
    values = next(
        (one for one in tables if (one["schema"], one["name"]) == (asked.schema, asked.table)), None
    )
    if values is None:
        raise RefnetError(
            f"{entry.name} has no table {plain(asked.schema)}.{plain(asked.table)}",
            "Open the artifact, and choose a table there.",
            Exit.USAGE,
        )
    table = Table(**values)
    answer = None if sql is None else await _answer(request, entry, sql)
    words = ("query", f"--sample={_named(entry, table)}", f"--rows={SAMPLE}", "--json", "--", entry.name)
    sampled = await _rows(request, words)
    history = await _history(request, entry, asked) if request.query_params.get("versions") == "yes" else None
    return page(
        request, "artifact_table.html.j2", entry=entry, part=asked, table=table, sample=sampled, answer=answer,
        sql=sql or f"TABLE {_quoted(entry, table)}", history=history,
    )  # fmt: skip


def _named(entry: Entry, table: Table) -> str:
    return table.qualified if entry.manifest.of_database else table.name


def _quoted(entry: Entry, table: Table) -> str:
    parts = (table.schema, table.name) if entry.manifest.of_database else (table.name,)
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


async def _file(request: Request, found: Artifacts, entry: Entry, path: str) -> Listed:
    """Return the entry of a file in the list of files; RefnetError (USAGE) if there is none."""
    artifact = wiring.store(found.settings).artifact(entry)
    one = await reading(request, "the list of files", partial(entry_of, artifact, path))
    if one is None:
        raise RefnetError(
            f"{entry.name} has no file {show(path)}",
            "Open the artifact, and search for its name.",
            Exit.USAGE,
        )
    return one


def _argument(path: str) -> str:
    """Return a word of a command line that names `path`: a pattern if it has control characters, which none may have."""
    if not any(unicodedata.category(one) == "Cc" for one in path):
        return path
    return "".join(
        "?" if unicodedata.category(one) == "Cc" else f"[{one}]" if one in "*?[" else one for one in path
    )


async def _content(request: Request, artifact: OpenArtifact, one: Listed, *, as_text: bool) -> FileView:
    """Return what is shown of the file `one`."""
    if one.size > LARGEST:
        return FileView(nothing="large")
    own_site(request)
    words = ("cat", "--binary", "--", artifact.name, _argument(one.path))
    ended = await children_of(request).raw(words, most=LARGEST, seconds=SECONDS)
    if ended.code != Exit.DONE:
        unreadable = ("it cannot be read", f"Verify the artifact: refnet verify {artifact.name}")
        raise RefnetError(*(last_error(ended.messages) or unreadable))

    def inside(path: str) -> str:
        return address(artifact.source, artifact.name, "/file", path=path)

    def find(names: Collection[str]) -> Mapping[str, str]:
        with suppress(RefnetError), archive_errors(artifact.name):
            return contents_of(request).names(artifact).only(names)
        return {}  # the note is shown, its links stay text

    return await reading(
        request, show(one.path), lambda: view(one.path, ended.output, inside, find, as_text=as_text)
    )


def _moment(ns: int) -> datetime | str:
    """Return a time of a file; as text where no calendar has it."""
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return "–"


class _Output:
    """The output of a command that prints a file, begun: what it prints first has been read."""

    def __init__(self, child: subprocess.Popen[bytes], first: bytes) -> None:
        self._child, self._first = child, first

    def read(self, size: int, /) -> bytes:
        found, self._first = self._first[:size], self._first[size:]
        return found or (self._child.stdout.read(size) if self._child.stdout else b"")

    def close(self) -> None:
        """End the command; nobody waits for it here, as the event loop closes a download."""
        self._child.kill()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe:
                pipe.close()
        threading.Thread(target=self._child.wait, daemon=True).start()  # otherwise a zombie remains


def _begun(child: subprocess.Popen[bytes], one: Listed) -> _Output:
    """Return the output of `refnet cat`, which prints a file when it has checked it; RefnetError if it does not."""
    first = child.stdout.read(1) if child.stdout and one.size else b""
    if not first and (one.size or child.wait()):
        said = child.communicate()[1].decode(errors="replace")
        raise RefnetError(*(last_error(said) or (f"{show(one.path)} cannot be read", "Verify the artifact.")))
    return _Output(child, first)


async def _report(
    request: Request, words: Sequence[str], what: str, check: checked.Check, given: bytes = b""
) -> dict[str, Any]:
    """Return the JSON document that `refnet WORDS` prints; RefnetError with the error that it prints instead."""
    own_site(request)
    ended = await children_of(request).raw(words, most=REPORT, given=given, seconds=SECONDS)
    try:
        found: dict[str, Any] = await reading(request, what, lambda: check(printed(ended.output)))
    except ValueError:
        slow = f"it takes longer than {SECONDS} s, or is longer than {REPORT >> 20} MiB"
        said = last_error(ended.messages) or (
            f"{what} cannot be shown: {slow}",
            "Use the command in a terminal.",
        )
        raise RefnetError(*said) from None
    return found


async def _history(request: Request, entry: Entry, asked: Part) -> dict[str, Any]:
    """Return the changes of a file or table, as `refnet log` prints them, newest first; or `trouble`."""
    schema = f"{asked.schema}." if entry.manifest.of_database and asked.schema else ""
    what = f"{entry.source}/{asked.path or schema + asked.table}"
    try:
        found = await _report(request, ("log", "--json", "--", what), "the history", _HISTORY)
    except RefnetError as error:
        return {"trouble": error}
    command = shlex.join(["refnet", "log", what])
    return found | {"trouble": None, "changes": found["changes"][: -CHANGES - 1 : -1], "command": command}


async def _answer(request: Request, entry: Entry, sql: str) -> Rows:
    limits = (f"--rows={ROWS}", f"--megabytes={MEGABYTES}", f"--seconds={SECONDS // 2}")
    words = ("query", *limits, "--json", "--", entry.name, "-")
    return await _rows(request, words, sql.encode(errors="replace"))


async def _rows(request: Request, words: Sequence[str], given: bytes = b"") -> Rows:
    """Return the rows that `refnet query` prints."""
    try:
        said = await _report(request, words, "the answer", _ANSWER, given)
    except RefnetError as error:
        return Rows(trouble=error)
    columns = said["columns"]
    rows = [[_value(row.get(column)) for column in columns] for row in said["rows"]]
    return Rows(columns, rows, shortened=len(rows) == ROWS)


def _value(value: object) -> str | None:
    """Return a value of a row as text, in which what cannot be printed is escaped; None: NULL."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return plain(text[:VALUE]) + ("…" if len(text) > VALUE else "")
