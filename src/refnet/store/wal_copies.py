"""The WAL of a server in a remote store: its segments, deflated and encrypted, and signed records that name them.

Below the folder of the machine, `KEY/wal/SYSTEM_IDENTIFIER/`. A segment is an object of its own, sent before the record
that names it; a record is encrypted like a manifest, so that this machine reads what it sent. Anyone who can write there can
put objects there: a record counts if a trusted signer signed it for the server of its folder and the counter of its name, and
a segment if a record names it with its SHA-256. Removed objects are gaps in the names of segments, which a recovery finds.

What was sent is recorded in the home of the store. Without that, or with other keys, all of it is sent again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from refnet.catalog import wal_record
from refnet.catalog.remote import packed, unpacked
from refnet.catalog.wal_record import (
    LARGEST_SEGMENT,
    MOST_SEGMENTS,
    RECORD_BYTES,
    RecordName,
    SentSegment,
    SentWal,
    Tail,
    WalRecord,
)
from refnet.core import checked, formatting
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.locks import locked
from refnet.core.records import Layout, Most, Record
from refnet.store import encryption
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version, unversioned
from refnet.store.encryption import DecryptionError
from refnet.store.remote import RemoteStore
from refnet.store.sending_pieces import Encrypter

#: What the signatures of records are for.
_NAMESPACE = "refnet-wal"
#: A record of the last hour repeats the minutes before it.
HOUR = timedelta(hours=1)
#: The most records that are read, and the most segments in one that is not of an hour.
_MOST_RECORDS, _IN_RECORD = 50_000, 500
#: So few records of an hour stay as they are.
_FEW = 3
#: The most records of an hour, and the largest record of what was sent, in bytes.
_MOST_MINUTES, _STATE_BYTES = 2000, 16 << 20


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
    #: Names of the segments and histories there.
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
    minutes: Annotated[tuple[Annotated[str, checked.text(200)], ...], Most(_MOST_MINUTES)] = ()

    def another_hour(self) -> Sent:
        """The same at the begin of an hour."""
        return replace(
            self,
            hour=self.counter + 1,
            hour_began=None,
            hour_bytes=self.live_bytes,
            hour_segments=(),
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
        name = self._put(record)
        kept = {one.name for one in new.segments} | {*new.histories}
        return self._keep(
            replace(
                sent,
                counter=record.counter,
                at=record.sent,
                covered_until=covered,
                names=(
                    *(one for one in sent.names if one in kept),
                    *(one.name for one in missing),
                    *histories,
                ),
                live=new.live if tail else sent.live,
                live_bytes=tail.end if tail else sent.live_bytes,
                hour_bytes=sent.hour_bytes if same or not tail else 0,
                hour_began=sent.hour_began or record.sent,
                hour_segments=(*sent.hour_segments, *segments),
                minutes=(*sent.minutes, name),
            )
        )

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
        record = self._record(sent, since=sent.hour, segments=sent.hour_segments, tail=tail)
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
        plaintext = packed(line + keys.sign(line, _NAMESPACE).encode("ascii"))
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
        """What was sent before; nothing, if it was for other keys, or is not known."""
        key, signer = self.encrypter.key, self.encrypter.keys.signer().fingerprint
        digest = hashlib.sha256(f"{self.encrypter.digest} {key} {signer}".encode()).hexdigest()
        if (known := last_sent(self.store.home, self.server.system_identifier)) and known.digest == digest:
            return known
        folder = f"{wal_record.folder(key, self.server.system_identifier)}records/"
        names = (RecordName.read(one.name) for one in self.store.bucket.listed(folder))
        counter = max((one.counter for one in names if one), default=0)
        return Sent(digest, counter, hour=counter + 1)


def last_sent(home: Path, system_identifier: str) -> Sent | None:
    """What was sent of a server's WAL to the store of this `home`; None: nothing, or it is not known."""
    try:
        path = home / f"wal-{system_identifier}.json"
        return Sent.from_json(read_regular(path, _STATE_BYTES, owner=os.geteuid()))
    except (OSError, ValueError):
        return None


@dataclass
class _Records:
    """The trusted records of a server, and what they say of one another."""

    #: By folder of the machine and counter; without bytes of segments that were finished since.
    trusted: dict[tuple[str, int], WalRecord] = field(default_factory=dict)
    #: Those that a later one repeats.
    repeated: set[tuple[str, int]] = field(default_factory=set)
    #: Number of those that cannot be read, or are not trusted.
    rejected: int = 0


def _records(store: RemoteStore, system_identifier: str, folders: Iterable[str]) -> _Records:
    """Read the records below `folders`, newest first: what an hour's record repeats is not read."""
    found, finished = _Records(), set[str]()
    for one in _newest_first(store, system_identifier, folders):
        named = RecordName.read(one.name)
        if named is None:
            continue
        place = (named.key, named.counter)
        if place in found.repeated or place in found.trusted:
            continue
        if (record := _read(store, one)) is None:
            found.rejected += 1
            continue
        finished |= {each.name[:24] for each in record.segments}
        is_finished = record.tail and record.tail.segment in finished
        found.trusted[place] = replace(record, tail=None) if is_finished else record
        found.repeated |= {(named.key, counter) for counter in range(record.since, record.counter)}
    return found


def read(store: RemoteStore, system_identifier: str) -> tuple[SentWal, tuple[str, ...]]:
    """What trusted records of `store` say of a server's WAL, and what could not be read or trusted, a sentence each."""
    found = _records(store, system_identifier, store.manifests.folders(wal_record.FOLDER))
    where, count = (
        f"{store.shown}: WAL of server {system_identifier}",
        formatting.plural(found.rejected, "record"),
    )
    problems = (f"{where}: {count} cannot be read, or not trusted",) if found.rejected else ()
    return SentWal.of(found.trusted.values()), problems


def outlived(
    store: RemoteStore, key: str, system_identifier: str, needs: Callable[[str], bool], before: datetime
) -> Iterator[tuple[Stored, str]]:
    """Yield the objects of a server's WAL below `key` that prune deletes, and why.

    needs: whether a base backup needs a segment. before: objects that no record names are of a run that was killed before.
    """
    records = _records(store, system_identifier, [f"{key}/{wal_record.FOLDER}"])
    said, newest = records.trusted, max(records.trusted, default=None)
    named = {segment.object for one in said.values() for segment in one.segments}
    for one in store.bucket.listed(wal_record.folder(key, system_identifier)):
        if name := wal_record.segment_in(one.name):
            if not needs(name):
                yield one, "WAL that no base backup there needs"
            elif one.name not in named and not records.rejected and one.modified < before:
                yield one, "WAL that no record names"
        elif place := RecordName.read(one.name):
            at, record = (place.key, place.counter), said.get((place.key, place.counter))
            if at in records.repeated:
                yield one, "a record of WAL that a later one repeats"
            elif (
                record
                and at != newest
                and not record.tail
                and not any(needs(each.name[:24]) for each in record.segments)
            ):
                yield one, "a record of WAL that no base backup there needs"


def _newest_first(store: RemoteStore, system_identifier: str, folders: Iterable[str]) -> Iterator[Version]:
    """Yield the records in the folders of machines; RefnetError if there are too many."""
    found = list[Version]()
    for folder in folders:
        for one in _listed(store, f"{folder}{system_identifier}/records/"):
            if RecordName.read(one.name) and one.size <= RECORD_BYTES + (1 << 20):
                found.append(one)
            if len(found) > _MOST_RECORDS:
                raise RefnetError(
                    f"{store.shown} has more than {_MOST_RECORDS:,} records of WAL in {folder}",
                    "Remove with the server's own tools what RefNet did not write.",
                    Exit.UNVERIFIED,
                )
    yield from sorted(found, key=lambda one: one.name.rsplit("/", 1)[1], reverse=True)


def _listed(store: RemoteStore, prefix: str) -> Iterable[Version]:
    """The objects, also deleted and replaced ones if `store` lists versions."""
    if not store.manifests.versions:
        return unversioned(store.bucket.listed(prefix))
    return (one for one in store.bucket.versions(prefix) if not one.delete_marker)


def _read(store: RemoteStore, stored: Version) -> WalRecord | None:
    """The record in an object; None if it is missing, damaged, not trusted, or of another place."""
    try:
        data = store.bucket.get(stored.name, stored.size, version=stored.id)
        line, end, signature = unpacked(store.trust.opener.manifest(data)).partition(b"\n")
        if not end or not signature.isascii():
            return None
        signer = encryption.verify(line + end, signature.decode("ascii"), _NAMESPACE)
        record = WalRecord.from_json(line + end)
    except BucketError as error:
        if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
            raise
        return None
    except (DecryptionError, ValueError):
        return None
    named = RecordName.read(stored.name)
    is_its = named and (named.system_identifier, named.counter) == (record.system_identifier, record.counter)
    return record if is_its and store.trust.accepts(signer.fingerprint) else None


def fetch(store: RemoteStore, segment: SentSegment) -> bytes:
    """The file of a segment in the archive, deflated; RefnetError (DAMAGED) if the object is not the one that was sent."""
    try:
        data = store.bucket.get(segment.object, segment.size, version=segment.version)
    except BucketError as error:
        if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
            raise
        raise _damaged(store, segment) from error
    if len(data) != segment.size or hashlib.sha256(data).hexdigest() != segment.sha256:
        raise _damaged(store, segment)
    try:
        return store.trust.opener.piece(data, LARGEST_SEGMENT + (1 << 16))
    except DecryptionError as error:
        raise _damaged(store, segment) from error


def _damaged(store: RemoteStore, segment: SentSegment) -> RefnetError:
    return RefnetError(
        f"{segment.object} in {store.shown} is missing, or not the segment of WAL that was sent",
        "A recovery ends before it. Look for another copy of the store.",
        Exit.DAMAGED,
    )
