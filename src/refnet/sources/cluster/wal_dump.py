"""What pg_waldump says of segments: times of commits, and where the WAL of a server ends.

pg_waldump checks the CRC of each record. It reads only WAL of its own major version.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from refnet.catalog.wal import CommitRecord, parse_lsn, start_of, timeline_of
from refnet.core.errors import Exit, RefnetError
from refnet.core.processes import child

#: Time limit of one segment, in seconds.
_SECONDS = 300.0
#: How much of a line of pg_waldump, and of its messages, is read, in bytes.
_LINE, _MESSAGES = 4096, 4096
_RECORD = re.compile(rb"rmgr: .{1,80}?\blsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), ", re.DOTALL)
_OF_TRANSACTION = re.compile(rb"\btx: +(\d{1,10}), lsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), ")
_PREPARED = re.compile(rb"desc: COMMIT_PREPARED ([0-9]{1,10}):")
_COMMIT = re.compile(
    rb"desc: COMMIT(?:_PREPARED [0-9]+:)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) UTC"
)
#: One record can be longer than segments: none begins in those in its middle.
_NO_RECORD = "could not find a valid record after"
#: The last record that is complete, and where the next one would begin.
_STOPPED = re.compile(
    r"error in WAL record at ([0-9A-F]+/[0-9A-F]+): .*? (?:at|in record at) ([0-9A-F]+/[0-9A-F]+)"
)


class Commits(NamedTuple):
    """Times of the first and the last commit in a segment; None: it has none."""

    first: datetime | None
    last: datetime | None


class End(NamedTuple):
    """Where complete WAL ends."""

    #: Position of the last complete record: a recovery target that is reached.
    record: int
    #: No complete record begins here or later.
    lsn: int


def commits(program: Path, folder: Path, segment: str, *, complete: bool = True) -> Commits:
    """Times of the commits in `segment`, a file in `folder`.

    complete: RefnetError (DAMAGED) if it is not intact WAL to its end; else it may be cut short or end in zeros.
    """
    first, last = b"", b""
    stopped = None if complete else list[str]()
    for line in _lines(program, folder, segment, "--rmgr=Transaction", stopped=stopped):
        if found := _COMMIT.search(line):
            first, last = min(first or found[1], found[1]), max(last, found[1])
    return Commits(_moment(first), _moment(last))


def end_of(program: Path, folder: Path, segment: str) -> End | None:
    """Where the records of `segment` end, which may be cut short or filled with zeros; None: none begins in it."""
    found = b""
    for quiet in (["--quiet"], []):  # printing takes most of the time, and only a complete segment needs it
        stopped = list[str]()
        for line in _lines(program, folder, segment, *quiet, stopped=stopped):
            found = line if line.startswith(b"rmgr: ") else found
        if stopped and (said := _STOPPED.search(stopped[0])):
            return End(parse_lsn(said[1]), parse_lsn(said[2]))
    match = _RECORD.match(found)
    return End(last := parse_lsn(match[1].decode()), last + 1) if match else None


def commit_records(program: Path, folder: Path, segments: Sequence[str], end: int) -> Iterator[CommitRecord]:
    """Yield the records of commits that begin before the position `end` in `segments`, files in `folder`, the first to the last.

    A record that goes on in the next segment is found only with that. The last one may be cut short or end in zeros.
    """
    first = segments[:-1][:1]
    for line in _lines(program, folder, segments[-1], "--rmgr=Transaction", *first, stopped=[]):
        head, time, prepared = (one.search(line) for one in (_OF_TRANSACTION, _COMMIT, _PREPARED))
        if head and time:
            moment = datetime.fromisoformat(time[1].decode()).replace(tzinfo=UTC)
            xid, lsn = int((prepared or head)[1]), parse_lsn(head[2].decode())
            if lsn >= end:
                return
            yield CommitRecord(lsn, xid, moment)


def follows(program: Path, folder: Path, before: str, segment: str) -> bool:
    """Whether WAL goes on from `before` into `segment`, files in `folder`; False: not yet, of one that is being written.

    Each record names the position of the one before it.
    """
    stopped = list[str]()
    for _ in _lines(program, folder, segment, "--quiet", before, stopped=stopped):
        pass
    said = _STOPPED.search(stopped[0]) if stopped else None
    start = start_of(segment, (folder / before).stat().st_size)
    return not stopped or (said is not None and parse_lsn(said[1]) >= start)


def makes_tablespace(program: Path, folder: Path, segments: Sequence[str]) -> bool:
    """Whether WAL in `segments`, files in `folder` in the order of their names, creates a tablespace."""
    for at, segment in enumerate(segments):
        following = segments[at + 1 : at + 2]  # a record may end there
        last = following[0] if following and timeline_of(following[0]) == timeline_of(segment) else segment
        lines = _lines(program, folder, last, "--rmgr=Tablespace", segment, stopped=[])
        if any(b"desc: CREATE" in line for line in lines):
            return True
    return False


def _moment(text: bytes) -> datetime | None:
    return datetime.fromisoformat(text.decode()).replace(tzinfo=UTC) if text else None


def _lines(
    program: Path, folder: Path, segment: str, *options: str, stopped: list[str] | None = None
) -> Iterator[bytes]:
    """Yield lines of pg_waldump, cut to 4 KiB. `stopped` gets its message where it failed; None: that is an error."""
    command = [str(program), *options, f"--path={folder}", segment]
    with TemporaryFile() as messages:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        with child(command, messages, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"}, **streams) as process:
            timer = threading.Timer(_SECONDS, process.kill)
            timer.daemon = True
            timer.start()
            try:
                while process.stdout and (line := process.stdout.readline(_LINE)):
                    yield line
                process.wait()
            finally:
                timer.cancel()
        messages.seek(0)
        said = messages.read(_MESSAGES).decode(errors="replace").strip()
    if process.returncode == 0 or (process.returncode == 1 and _NO_RECORD in said):
        return
    if stopped is not None and process.returncode == 1:
        stopped.append(said)
        return
    raise RefnetError(
        f"the WAL segment {segment} is not intact: {said.splitlines()[0] if said else f'pg_waldump ended with {process.returncode}'}",
        f"Check the disk and the memory; keep {folder / segment}.",
        Exit.DAMAGED,
    )
