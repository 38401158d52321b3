"""Sends the WAL of a server to a remote store; see `wal_copies.py`.

What was sent is recorded in the home of the store. Without that, or with other keys, all of it is sent again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from refnet.catalog import wal, wal_record
from refnet.catalog.remote import packed
from refnet.catalog.wal_record import (
    LARGEST_SEGMENT,
    MOST_HISTORIES,
    MOST_SEGMENTS,
    SentSegment,
    Tail,
    WalRecord,
)
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.locks import locked
from refnet.core.records import Layout, Most, Rare, Record
from refnet.store import encryption
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.remote import RemoteStore
from refnet.store.sending_pieces import Encrypter
from refnet.store.wal_copies import NAMESPACE, last_counter

#: A record of the last hour repeats the minutes before it.
HOUR = timedelta(hours=1)
#: The most segments in a record that is not of an hour.
_IN_RECORD = 500
#: So few records of an hour stay as they are.
_FEW = 3
#: A record of what was sent that is older may be of a home that was put back.
_RECENT = timedelta(minutes=10)
#: The most records of an hour, and the largest record of what was sent, in bytes.
_MOST_MINUTES, _STATE_BYTES = 2000, 32 << 20


@dataclass(frozen=True)
class Server:
    """The server whose WAL is sent."""

    system_identifier: str
    #: Of a segment.
    segment_bytes: int
    major: int


@dataclass(frozen=True)
class NewSegment:
    """A finished segment to send."""

    #: With .partial if its timeline ended in it.
    name: str
    #: Its file in the archive, deflated.
    path: Path
    #: SHA-256 of the segment as PostgreSQL wrote it.
    plain: str


@dataclass(frozen=True)
class New:
    """What a server's archive has now, as far as it may be new to a store."""

    segments: tuple[NewSegment, ...]
    #: Text by name.
    histories: Mapping[str, str]
    #: Name of the segment that is being written, and reads its bytes from an offset on; "": there is none.
    live: str
    read: Callable[[int], bytes]
    covered_until: datetime | None


@dataclass(frozen=True)
class Sent(Record):
    """The record, in the home of a store, of what was sent there of a server's WAL."""

    LAYOUT = Layout("the record of WAL that was sent", longest=_STATE_BYTES, more=True, format=1)

    #: Of recipients, signer and folder: others are sent everything again.
    digest: Annotated[str, checked.text(64, like="[0-9a-f]{64}")]
    #: Of the newest record.
    counter: Annotated[int, checked.integer(0, 10**12 - 1)] = 0
    #: When something was sent, or nothing was new; each acknowledged commit before `covered_until` is there.
    at: datetime | None = None
    covered_until: datetime | None = None
    #: Names of the segments and histories there: those that are in the archive too, and the newest segment.
    names: Annotated[tuple[Annotated[str, checked.text(40)], ...], Most(1_000_000)] = ()
    #: The segment that is being written, and how many bytes of it are there.
    live: Annotated[str, checked.text(24)] = ""
    live_bytes: Annotated[int, checked.integer(0, 1 << 30)] = 0
    #: The first counter of this hour, when it began, and how many bytes of `live` were there then.
    hour: Annotated[int, checked.integer(1, 10**12)] = 1
    hour_began: datetime | None = None
    hour_bytes: Annotated[int, checked.integer(0, 1 << 30)] = 0
    #: What the records of this hour name, and their objects.
    hour_segments: Annotated[tuple[SentSegment, ...], Most(MOST_SEGMENTS)] = ()
    hour_histories: Annotated[tuple[Annotated[str, checked.text(20)], ...], Most(MOST_HISTORIES)] = ()
    minutes: Annotated[tuple[Annotated[str, checked.text(200)], ...], Most(_MOST_MINUTES)] = ()
    #: The newest segment that this machine deleted before it was sent; "": there is none.
    never_sent: Rare[Annotated[str, checked.text(24, like="([0-9A-F]{24})?")]] = ""

    @property
    def newest(self) -> str:
        """The newest finished segment there; "": there is none."""
        return max(filter(wal.is_segment, self.names), default="")

    def with_record(self, record: WalRecord, name: str) -> Sent:
        """The same after `record`, whose object is `name`."""
        tail, histories = record.tail, tuple(record.histories)
        same = tail is None or tail.segment == self.live
        return replace(
            self,
            counter=record.counter,
            at=record.sent,
            covered_until=record.covered_until,
            names=(*self.names, *(one.name for one in record.segments), *histories),
            live=tail.segment if tail else self.live,
            live_bytes=tail.end if tail else self.live_bytes,
            hour_bytes=self.hour_bytes if same else 0,
            hour_began=self.hour_began or record.sent,
            hour_segments=(*self.hour_segments, *record.segments),
            hour_histories=(*self.hour_histories, *histories),
            minutes=(*self.minutes, name),
        )

    def another_hour(self) -> Sent:
        """The same at the begin of an hour."""
        return replace(
            self,
            hour=self.counter + 1,
            hour_began=None,
            hour_bytes=self.live_bytes,
            hour_segments=(),
            hour_histories=(),
            minutes=(),
        )


@dataclass
class WalSender:
    """Sends the WAL of one server to one store."""

    store: RemoteStore
    encrypter: Encrypter
    server: Server
    now: Callable[[], datetime]

    def __post_init__(self) -> None:
        if self.server.segment_bytes > LARGEST_SEGMENT:
            raise RefnetError(
                f"the WAL of server {self.server.system_identifier} is not sent: its segments have {self.server.segment_bytes:,} bytes",
                f"Segments of at most {LARGEST_SEGMENT:,} bytes can be sent (initdb --wal-segsize).",
                Exit.USAGE,
            )

    def send(self, found: Callable[[], New]) -> Sent:
        """Send what is new; return what the store has now. BucketError or RefnetError if that fails: the next call continues.

        found: reads what there is, while no other process sends to this store.
        """
        make_folder(self.store.home)
        with locked(self.store.home / f"wal-{self.server.system_identifier}.lock"):
            sent, new = self._sent(), found()
            while (next_ := self._minute(sent, new)) is not None:
                sent = next_
            if sent.hour_began and self.now() - sent.hour_began >= HOUR:
                sent = self._end_hour(sent, new)
            # An idle server's newest record is old, and says nothing of the time since.
            return self._keep(
                replace(sent, at=self.now(), covered_until=new.covered_until or sent.covered_until)
            )

    def _minute(self, sent: Sent, new: New) -> Sent | None:
        """Send a record of what is new; return what was sent then, or None if nothing is."""
        there = {*sent.names}
        missing = [one for one in new.segments if one.name not in there][:_IN_RECORD]
        sent = self._with_gap(sent, missing)
        histories = {name: text for name, text in new.histories.items() if name not in there}
        same = new.live == sent.live
        offset = sent.live_bytes if same else 0
        data = b"" if missing or not new.live else new.read(offset)[: wal_record.TAIL_BYTES]
        if not (missing or histories or data):
            return None
        if len(sent.hour_segments) + len(missing) > MOST_SEGMENTS or len(sent.minutes) == _MOST_MINUTES:
            sent = sent.another_hour()
        segments = tuple(map(self._segment, missing))
        tail = Tail(new.live, offset, data) if data else None
        covered = sent.covered_until if missing else new.covered_until
        record = replace(
            self._record(sent, since=sent.counter + 1, segments=segments, tail=tail),
            histories=histories,
            covered_until=covered,
        )
        sent = sent.with_record(record, self._put(record))
        kept = {one.name for one in new.segments} | {*new.histories, sent.newest}
        return self._keep(replace(sent, names=tuple(one for one in sent.names if one in kept)))

    def _with_gap(self, sent: Sent, missing: Sequence[NewSegment]) -> Sent:
        """`sent`, with the last segment between the newest one there and the first of `missing`: it is not here any more."""
        size, newest = self.server.segment_bytes, sent.newest
        first = min((one.name for one in missing if one.name > newest), default="")
        if not newest or first[:8] != newest[:8]:
            return sent
        before = wal.start_of(first[:24], size) - size
        if before == wal.start_of(newest, size):
            return sent
        return replace(sent, never_sent=wal.segment_of(before, wal.timeline_of(first), size))

    def _end_hour(self, sent: Sent, new: New) -> Sent:
        """Repeat what the records of the hour said in one, and delete them where that is allowed; prune does it too."""
        begun = sent.another_hour()
        tail, length = None, sent.live_bytes - sent.hour_bytes
        if sent.live and sent.live not in begun.names:
            data = new.read(sent.hour_bytes)[:length] if new.live == sent.live else b""
            if len(data) != length or length > wal_record.TAIL_BYTES:
                return self._keep(begun)
            tail = Tail(sent.live, sent.hour_bytes, data) if data else None
        if len(sent.minutes) < _FEW:
            return self._keep(begun)
        record = replace(
            self._record(sent, since=sent.hour, segments=sent.hour_segments, tail=tail),
            histories={name: text for name, text in new.histories.items() if name in sent.hour_histories},
        )
        self._put(record)
        begun = self._keep(replace(begun, counter=record.counter, hour=record.counter + 1))
        for name in sent.minutes:
            try:
                self.store.bucket.delete(name)
            except BucketError as error:
                if error.kind not in {BucketFailure.REFUSED, BucketFailure.LOCKED, BucketFailure.MISSING}:
                    raise
        return begun

    def _record(
        self, sent: Sent, *, since: int, segments: tuple[SentSegment, ...], tail: Tail | None
    ) -> WalRecord:
        """The record after the ones in `sent`."""
        server = self.server
        return WalRecord(
            server.system_identifier, server.segment_bytes, server.major,
            sent.counter + 1, since, self.now(), sent.covered_until, segments, {}, tail,
        )  # fmt: skip

    def _segment(self, new: NewSegment) -> SentSegment:
        """Send the object of a segment."""
        with explained(new.path):
            data = self.encrypter.piece(read_regular(new.path, LARGEST_SEGMENT + (1 << 16)))
        name = wal_record.segment_object(
            self.encrypter.key, self.server.system_identifier, new.name, secrets.token_hex(8)
        )
        version = self.store.bucket.put(name, data)
        return SentSegment(new.name, name, len(data), hashlib.sha256(data).hexdigest(), new.plain, version)

    def _put(self, record: WalRecord) -> str:
        """Sign, encrypt and send a record; return the name of its object."""
        keys, line = self.encrypter.keys, record.to_line()
        plaintext = packed(line + keys.sign(line, NAMESPACE).encode("ascii"))
        data = encryption.encrypt(plaintext, (*self.encrypter.recipients, keys.catalog().recipient))
        name = wal_record.record_object(
            self.encrypter.key, record.system_identifier, record.counter, secrets.token_hex(8)
        )
        self.store.bucket.put(name, data)
        return name

    @property
    def _path(self) -> Path:
        return self.store.home / f"wal-{self.server.system_identifier}.json"

    def _keep(self, sent: Sent) -> Sent:
        with explained(self._path):
            replace_file(self._path, sent.to_json().encode())
        return sent

    def _sent(self) -> Sent:
        """What was sent before; nothing, if it was for other keys, or is not known.

        A home that was put back says less than is there: its counters are not used again.
        """
        key, signer = self.encrypter.key, self.encrypter.keys.signer().fingerprint
        digest = hashlib.sha256(f"{self.encrypter.digest} {key} {signer}".encode()).hexdigest()
        known = last_sent(self.store.home, self.server.system_identifier)
        if known and known.digest != digest:
            known = None
        if known and known.at and timedelta(0) <= self.now() - known.at < _RECENT:
            return known
        counter = last_counter(self.store, key, self.server.system_identifier)
        if known and known.counter >= counter:
            return known
        return replace(known or Sent(digest), counter=counter).another_hour()


def last_sent(home: Path, system_identifier: str) -> Sent | None:
    """What was sent of a server's WAL to the store of this `home`; None: nothing, or it is not known."""
    try:
        path = home / f"wal-{system_identifier}.json"
        return Sent.from_json(read_regular(path, _STATE_BYTES, owner=os.geteuid()))
    except (OSError, ValueError):
        return None
