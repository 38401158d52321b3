"""Positions and segments of PostgreSQL's WAL, and the order of timelines; pure.

A position (LSN) is an integer; PostgreSQL writes it as two hexadecimal numbers, `16/B374D848`. A segment is a file of
1 MiB to 1 GiB of WAL, 16 MiB unless the cluster was made otherwise; its name says its timeline and its position. A
recovery to a point in time that goes on writing makes a new timeline, whose history says where it forked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Self

from refnet.core import checked
from refnet.core.records import Layout, Most, Named, Record

#: The sizes that `initdb --wal-segsize` accepts, in bytes.
SIZES = frozenset(1 << bits for bits in range(20, 31))
#: The last position and the last timeline.
LAST, LAST_TIMELINE = (1 << 64) - 1, (1 << 32) - 1
#: The largest history of a timeline that is read, in bytes, and the most forks in it.
LONGEST_HISTORY, _MOST_FORKS = 64 << 10, 500
#: The largest record of a server that is read, in bytes.
LONGEST_FACTS = 4 << 10
_SYSTEM = checked.text(20, like="[0-9]{1,20}")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)
_NAME = re.compile(r"[0-9A-F]{24}", re.ASCII)
#: Ends the name of the segment in which a timeline ended: its rest was never written.
PARTIAL = ".partial"
#: The most damaged segments of an archive that are remembered.
MOST_DAMAGED = 100_000
#: Nights in which every segment is read, a share each.
SHARES = 7


def parse_lsn(text: str) -> int:
    """Position from PostgreSQL's `X/X`; ValueError if malformed."""
    match = _LSN.fullmatch(text)
    if not match:
        raise ValueError("not a position of WAL like 16/B374D848")
    return int(match[1], 16) << 32 | int(match[2], 16)


def checked_lsn(value: object) -> int:
    """Position from a value of JSON; ValueError if it is none."""
    return parse_lsn(checked.text(20)(value))


def lsn_text(lsn: int) -> str:
    """`lsn` as PostgreSQL writes it: 16/B374D848."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_of(lsn: int, timeline: int, size: int) -> str:
    """Name of the segment of `timeline` with the byte at `lsn`; `size`: bytes of a segment."""
    number, in_group = lsn // size, (1 << 32) // size
    return f"{timeline:08X}{number // in_group:08X}{number % in_group:08X}"


def start_of(segment: str, size: int) -> int:
    """Position of the first byte of `segment`; ValueError if it is not the name of a segment of `size` bytes."""
    in_group = (1 << 32) // size
    if not _NAME.fullmatch(segment) or int(segment[16:], 16) >= in_group:
        raise ValueError(f"{segment[:40]!r} is not the name of a segment")
    return (int(segment[8:16], 16) * in_group + int(segment[16:], 16)) * size


def timeline_of(segment: str) -> int:
    """Timeline of a segment by its name."""
    return int(segment[:8], 16)


def is_segment(name: str, size: int = 0) -> bool:
    """Whether `name` is 24 hexadecimal digits, as the names of segments are; `size`: of segments of so many bytes."""
    return _NAME.fullmatch(name) is not None and (not size or int(name[16:], 16) < (1 << 32) // size)


def is_partial(name: str, size: int) -> bool:
    """Whether `name` is that of a segment of so many bytes without its end."""
    return name.endswith(PARTIAL) and is_segment(name.removesuffix(PARTIAL), size)


@dataclass(frozen=True)
class KnownServer(Record):
    """The record in REFNET_HOME of the server that a cluster of the settings had last."""

    LAYOUT = Layout("the record of a server", longest=LONGEST_FACTS, more=True, format=1, reads="format 1")

    system_identifier: Annotated[str, _SYSTEM]


@dataclass(frozen=True)
class ServerFacts(Record):
    """What an archive knows of its server."""

    LAYOUT = Layout("the facts of a server", longest=LONGEST_FACTS, more=True, format=1, reads="format 1")

    system_identifier: Annotated[str, _SYSTEM]
    #: Bytes of a segment of WAL.
    segment_bytes: Annotated[int, checked.integer(1 << 20, 1 << 30)]
    #: The major version.
    major: Annotated[int, checked.integer(9, 999)]

    @classmethod
    def from_values(cls, values: Any) -> Self:
        found = super().from_values(values)
        if found.segment_bytes not in SIZES:
            raise ValueError("not the size of a segment")
        return found


_FILE = checked.text(24 + len(PARTIAL), like=r"[0-9A-F]{24}(?:\.partial)?")


@dataclass(frozen=True)
class IndexLine(Record):
    """A line of index.jsonl: what is known of a segment in the archive."""

    LAYOUT = Layout("a line of the index of WAL", longest=1 << 10, more=True)

    #: The name of the segment, with .partial if its timeline ended in it.
    name: Annotated[str, _FILE, Named("segment")]
    #: Of the segment as PostgreSQL wrote it.
    sha256: Annotated[str, checked.text(64, like="[0-9a-f]{64}")]
    #: Of the file in the archive, which is deflated, in bytes.
    size: Annotated[int, checked.integer(1, 2 << 30)]
    #: Times of its first and last commit; None: it has no commit, or they could not be read.
    first_commit: datetime | None = None
    last_commit: datetime | None = None


@dataclass(frozen=True)
class LastReading(Record):
    """What the readings of an archive of WAL found, which compare its segments with the index."""

    LAYOUT = Layout("the record of a reading of WAL", longest=4 << 20, more=True, format=1, reads="format 1")

    #: Names in the index of segments that differ from it.
    damaged: Annotated[tuple[Annotated[str, _FILE], ...], Most(MOST_DAMAGED)] = ()
    #: When each share of the segments was read last.
    shares: Annotated[tuple[datetime, ...], Most(SHARES)] = ()

    @property
    def next_share(self) -> int:
        """The share that was not read for the longest time."""
        return len(self.shares) if len(self.shares) < SHARES else self.shares.index(min(self.shares))

    @property
    def whole_since(self) -> datetime | None:
        """Every segment that is older than this moment was read since then; None: some never were."""
        return min(self.shares) if len(self.shares) == SHARES else None


class Segment(NamedTuple):
    """A segment in the archive."""

    #: 24 hexadecimal digits.
    name: str
    #: Position of its first byte.
    start: int
    #: Its timeline ended in it.
    partial: bool
    sha256: str
    #: Bytes of its file in the archive.
    size: int
    first_commit: datetime | None
    last_commit: datetime | None

    @property
    def file(self) -> str:
        """Its name in the index."""
        return self.name + (PARTIAL if self.partial else "")


class CommitRecord(NamedTuple):
    """The record of a commit."""

    lsn: int
    #: The transaction.
    xid: int
    time: datetime


class Fork(NamedTuple):
    """Where a timeline ends and the next one in a history begins."""

    timeline: int
    lsn: int


class Gap(NamedTuple):
    """Segments that are missing one after another: the first and the last name, and their number."""

    first: str
    last: str
    number: int

    def __str__(self) -> str:
        return self.first if self.number == 1 else f"{self.first} to {self.last} ({self.number:,} segments)"


def read_history(text: str) -> tuple[Fork, ...]:
    """Forks in a history file of PostgreSQL, oldest first; ValueError if it is malformed or not in order."""
    forks = list[Fork]()
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if (
            len(fields) < 2
            or not re.fullmatch(r"[0-9]{1,10}", fields[0], re.ASCII)
            or len(forks) >= _MOST_FORKS
        ):
            raise ValueError("not the history of a timeline")
        fork = Fork(int(fields[0]), parse_lsn(fields[1]))
        before = forks[-1] if forks else Fork(0, 0)
        if not before.timeline < fork.timeline <= LAST_TIMELINE or fork.lsn < before.lsn:
            raise ValueError("the forks of a history are not in order")
        forks.append(fork)
    return tuple(forks)


def needed(start: int, end: int, timeline: int, history: Sequence[Fork], size: int) -> Iterator[str]:
    """Names of the segments that a recovery to `end` on `timeline` reads, from the one with `start` on.

    The segment with a fork is that of the newer timeline: it begins with a copy of the older one's bytes.
    history: of `timeline`; empty for the first one. size: bytes of a segment.
    """
    for first in range(start - start % size, max(end, start + 1), size):
        on = next((fork.timeline for fork in history if first + size <= fork.lsn), timeline)
        yield segment_of(first, on, size)


def gaps(wanted: Iterable[str], there: Collection[str], cut: Collection[str] = ()) -> Iterator[Gap]:
    """Yield what is missing of the segments `wanted`, which are in order; neighbours are one gap.

    cut: those of `there` without their end, which nothing can follow: such a one may only be the last.
    """
    missing, ends = list[str](), ""
    for name in wanted:
        if ends:  # another one follows
            missing.append(ends)
        ends = name if name in cut else ""
        if name not in there:
            missing.append(name)
        elif missing and not ends:
            yield Gap(missing[0], missing[-1], len(missing))
            missing.clear()
    if missing:
        yield Gap(missing[0], missing[-1], len(missing))
