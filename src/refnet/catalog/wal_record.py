"""What a machine says of the WAL that it sent to a remote store: signed records, one a minute while there is something new.

A record names the segments that were finished since the one before it, and has the newest bytes of the segment that is being
written. Once an hour a record repeats what those of the hour said; then they are not needed any more. Each is complete by
itself: a segment that nobody names is a gap, which a recovery finds by the names of segments.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Self

from refnet.catalog import wal
from refnet.catalog.object_names import ID
from refnet.catalog.wal import PARTIAL
from refnet.core import checked
from refnet.core.records import Layout, Most, Rare, Record

#: The folder of WAL below that of the machine.
FOLDER = "wal/"
#: The most bytes of the segment being written that one record has, and the most segments and histories.
TAIL_BYTES = 16 << 20
MOST_SEGMENTS, MOST_HISTORIES = 2000, 500
#: The largest record: JSON with the bytes of a segment, deflated, in base64.
RECORD_BYTES = 24 << 20
#: Segments of clusters with larger ones are not sent: an object is in memory.
LARGEST_SEGMENT = 64 << 20
_SYSTEM, _RANDOM = "[0-9]{1,20}", "[0-9a-f]{16}"
_RECORD_NAME = re.compile(
    rf"(?P<key>{ID})/wal/(?P<system>{_SYSTEM})/records/(?P<counter>[0-9]{{12}})_{_RANDOM}\.age"
)
_SEGMENT = r"[0-9A-F]{24}(?:\.partial)?"
_SEGMENT_OBJECT = rf"{ID}/wal/{_SYSTEM}/(?P<name>{_SEGMENT})-{_RANDOM}\.age"
_SHA256 = checked.text(64, like="[0-9a-f]{64}")


def folder(key: str, system_identifier: str) -> str:
    """Folder of the WAL of a server, below the folder `key` of a machine."""
    return f"{key}/{FOLDER}{system_identifier}/"


def record_object(key: str, system_identifier: str, counter: int, nonce: str) -> str:
    """Object of a record; `nonce`: 16 hex digits, unique per attempt."""
    return f"{folder(key, system_identifier)}records/{counter:012}_{nonce}.age"


def segment_object(key: str, system_identifier: str, name: str, nonce: str) -> str:
    """Object of the segment `name`."""
    return f"{folder(key, system_identifier)}{name}-{nonce}.age"


def segment_in(name: str) -> str:
    """Name of the segment whose object is `name`, as anyone may have written it; "" for other objects."""
    match = re.fullmatch(_SEGMENT_OBJECT, name)
    return match["name"].removesuffix(PARTIAL) if match else ""


def is_object(name: str) -> bool:
    """Whether an object is of a segment or of a record."""
    return bool(segment_in(name) or RecordName.read(name))


class RecordName(NamedTuple):
    """Parsed name of a record's object; the record must agree with it."""

    key: str
    system_identifier: str
    counter: int

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Parse it; None for other objects."""
        match = _RECORD_NAME.fullmatch(name)
        return cls(match["key"], match["system"], int(match["counter"])) if match else None


@dataclass(frozen=True)
class SentSegment(Record):
    """A segment in a store."""

    LAYOUT = Layout(more=True)

    #: With .partial if its timeline ended in it.
    name: Annotated[str, checked.text(24 + len(PARTIAL), like=_SEGMENT)]
    object: Annotated[str, checked.text(120, like=_SEGMENT_OBJECT)]
    #: Of the object, in bytes.
    size: Annotated[int, checked.integer(1, LARGEST_SEGMENT + (1 << 20))]
    #: Of the object.
    sha256: Annotated[str, _SHA256]
    #: Of the segment as PostgreSQL wrote it.
    plain: Annotated[str, _SHA256]
    #: The id of the object's version; "" where the bucket has no versions.
    version: Rare[Annotated[str, checked.text(1024, like="[!-~]*")]] = ""


def _deflated(value: Any) -> bytes:
    text: str = checked.text(RECORD_BYTES)(value)
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(base64.b64decode(text, validate=True), TAIL_BYTES)
    except (binascii.Error, zlib.error):
        raise ValueError("not deflated bytes") from None
    if not inflater.eof or inflater.unused_data or not data:
        raise ValueError("not deflated bytes, or too many")
    return data


@dataclass(frozen=True)
class Tail(Record):
    """Bytes of a segment that is being written."""

    LAYOUT = Layout(more=True)

    segment: Annotated[str, checked.text(24, like="[0-9A-F]{24}")]
    #: Of the first of them, in the segment.
    offset: Annotated[int, checked.integer(0, 1 << 30)]
    data: Annotated[bytes, _deflated]

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    def values(self) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(self.data, 6)).decode("ascii")
        return {"segment": self.segment, "offset": self.offset, "data": packed}


def _histories(value: Any) -> dict[str, str]:
    found: dict[str, str] = _TEXTS(value)
    for text in found.values():
        wal.read_history(text)
    return found


_TEXTS = checked.mapping(
    checked.text(20, like=r"[0-9A-F]{8}\.history"), checked.text(wal.LONGEST_HISTORY), MOST_HISTORIES
)


@dataclass(frozen=True)
class WalRecord(Record):
    """What was sent of a server's WAL."""

    LAYOUT = Layout(longest=RECORD_BYTES, more=True, format=1, reads="format 1")

    system_identifier: Annotated[str, checked.text(20, like=_SYSTEM)]
    #: Bytes of a segment, and the major version of the server.
    segment_bytes: Annotated[int, checked.integer(1 << 20, LARGEST_SEGMENT)]
    major: Annotated[int, checked.integer(9, 999)]
    #: One more than that of the record before it.
    counter: Annotated[int, checked.integer(1, 10**12 - 1)]
    #: It repeats what the records from this one on say; its own counter: only what is new.
    since: Annotated[int, checked.integer(1, 10**12 - 1)]
    sent: datetime
    #: Each commit that the server acknowledged before this moment is in the store; None: unknown.
    covered_until: datetime | None = None
    segments: Annotated[tuple[SentSegment, ...], Most(MOST_SEGMENTS)] = ()
    #: Text of each history of a timeline, by name.
    histories: Rare[Annotated[Mapping[str, str], _histories]] = field(default_factory=dict)
    tail: Tail | None = None

    def to_line(self) -> bytes:
        """The signed line, with a newline."""
        return json.dumps(self.values(), sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_values(cls, values: Any) -> Self:
        found = super().from_values(values)
        if found.since > found.counter or found.segment_bytes not in wal.SIZES:
            raise ValueError("values that contradict each other")
        if found.tail and found.tail.end > found.segment_bytes:
            raise ValueError("bytes beyond the end of their segment")
        return found


@dataclass(frozen=True)
class SentWal:
    """What the records of a store say together; for a tail, those of a finished segment are not needed."""

    #: None: there is no record.
    newest: WalRecord | None = None
    segments: Mapping[str, SentSegment] = field(default_factory=dict)
    histories: Mapping[str, str] = field(default_factory=dict)
    #: The segment that is being written, from its beginning as far as it was sent; None: nothing was.
    tail: Tail | None = None

    @classmethod
    def of(cls, records: Iterable[WalRecord]) -> Self:
        """Put `records` of one server together; they may come in any order."""
        segments, histories, tails = dict[str, SentSegment](), dict[str, str](), dict[str, Tail]()
        newest = None
        for one in sorted(records, key=lambda one: (one.sent, one.counter)):
            newest = one
            segments |= {each.name: each for each in one.segments}
            histories |= one.histories
            if one.tail and (joined := _joined(tails.get(one.tail.segment), one.tail)):
                tails[joined.segment] = joined
        last = max(tails, default="")
        is_finished = last in segments or last + PARTIAL in segments
        return cls(newest, segments, histories, None if is_finished else tails.get(last))


def _joined(before: Tail | None, new: Tail) -> Tail | None:
    """The bytes of both from the beginning of the segment on; None if bytes before those of `new` are missing."""
    if before is None:
        return new if new.offset == 0 else None
    if new.offset > before.end or new.end <= before.end:  # of two runs, both may have sent the same
        return before
    return Tail(before.segment, 0, before.data[: new.offset] + new.data)
