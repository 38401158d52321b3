"""The WAL of a server in a remote store: its segments, deflated and encrypted, and signed records that name them.

Below the folder of the machine, `KEY/wal/SYSTEM_IDENTIFIER/`. A segment is an object of its own, sent before the record
that names it; a record is encrypted like a manifest, so that this machine reads what it sent. Anyone who can write there can
put objects there: a record counts if a trusted signer signed it for the server of its folder and the counter of its name, and
a segment if a record names it with its SHA-256. Removed objects are gaps in the names of segments, which a recovery finds.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from refnet.catalog import wal_record
from refnet.catalog.remote import unpacked
from refnet.catalog.wal_record import (
    LARGEST_SEGMENT,
    RECORD_BYTES,
    RecordName,
    SentSegment,
    SentWal,
    WalRecord,
)
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.store import encryption
from refnet.store.age import DecryptionError
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version, unversioned
from refnet.store.remote import RemoteStore

#: What the signatures of records are for.
NAMESPACE = "refnet-wal"
#: The most records that are read.
_MOST_RECORDS = 50_000


@dataclass
class _Records:
    """The trusted records of a server, and what they say of one another."""

    #: By folder of the machine and counter; without bytes of segments that were finished since. A run that was killed
    #: between a record and its own note of it sends another one of that counter, which may say more.
    trusted: dict[tuple[str, int], list[WalRecord]] = field(default_factory=dict)
    #: Those that a later one repeats.
    repeated: set[tuple[str, int]] = field(default_factory=set)
    #: Number of those that cannot be read, or are not trusted.
    rejected: int = 0

    def __iter__(self) -> Iterator[WalRecord]:
        return itertools.chain.from_iterable(self.trusted.values())


def _records(store: RemoteStore, system_identifier: str, folders: Iterable[str]) -> _Records:
    """Read the records below `folders`, newest first: what an hour's record repeats is not read."""
    found, finished = _Records(), set[str]()
    for one in _newest_first(store, system_identifier, folders):
        named = RecordName.read(one.name)
        if named is None:
            continue
        place = (named.key, named.counter)
        if place in found.repeated:
            continue
        if (record := _read(store, one)) is None:
            found.rejected += 1
            continue
        finished |= {each.name[:24] for each in record.segments}
        is_finished = record.tail and record.tail.segment in finished
        there = found.trusted.setdefault(place, [])
        if (kept := replace(record, tail=None) if is_finished else record) not in there:
            there.append(kept)
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
    return SentWal.of(found), problems


def outlived(
    store: RemoteStore, key: str, system_identifier: str, needs: Callable[[str], bool], before: datetime
) -> Iterator[tuple[Stored, str]]:
    """Yield the objects of a server's WAL below `key` that prune deletes, and why.

    needs: whether a base backup needs a segment. before: objects that no record names are of a run that was killed before.
    """
    records = _records(store, system_identifier, [f"{key}/{wal_record.FOLDER}"])
    newest = max(records.trusted, default=None)
    named = {segment.object for one in records for segment in one.segments}
    for one in store.bucket.listed(wal_record.folder(key, system_identifier)):
        if name := wal_record.segment_in(one.name):
            if not needs(name):
                yield one, "WAL that no base backup there needs"
            elif one.name not in named and not records.rejected and one.modified < before:
                yield one, "WAL that no record names"
        elif place := RecordName.read(one.name):
            at = (place.key, place.counter)
            said = records.trusted.get(at, [])
            needed = (
                each.tail or each.histories or any(needs(segment.name[:24]) for segment in each.segments)
                for each in said
            )
            if at in records.repeated:
                yield one, "a record of WAL that a later one repeats"
            elif said and at != newest and not any(needed):
                yield one, "a record of WAL that no base backup there needs"


def last_counter(store: RemoteStore, key: str, system_identifier: str) -> int:
    """The counter of the newest trusted record below `key`; 0: there is none."""
    found = _newest_first(store, system_identifier, [f"{key}/{wal_record.FOLDER}"])
    return next((record.counter for one in found if (record := _read(store, one))), 0)


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
        line, signer = encryption.verified_line(unpacked(store.trust.opener.manifest(data)), NAMESPACE)
        record = WalRecord.from_json(line)
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
