"""Signed records of deletions: which of its manifests a machine deleted from a store.

A recovery has no records in REFNET_HOME, so it would take a prune for an attack: the newest manifest names counters that no
manifest has any more. So a prune leaves an object `KEY/deleted/TIME_RANDOM.age`: a signed line of JSON with the counters of
all deleted manifests, encrypted as a manifest is. It is read only where manifests are missing, and explains only those of
its own signer. Without it, the gap stays until the next copy.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Self

from refnet.catalog.object_names import ID, key_id
from refnet.catalog.remote_state import Head, Ranges, ranges
from refnet.core import checked
from refnet.core.records import Layout, Record
from refnet.store import encryption
from refnet.store.age import DecryptionError
from refnet.store.buckets.bucket import Bucket, BucketError, Stored
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.remote_manifests import Trust

_FOLDER = "deleted/"
#: What their signatures are for.
_NAMESPACE = "refnet-deletions"
_NAME = re.compile(rf"{ID}/{_FOLDER}[0-9]{{8}}T[0-9]{{6}}Z_[0-9a-f]{{16}}\.age")
_TIME = "%Y%m%dT%H%M%SZ"
#: The most bytes of an object. Anyone who can write there can put objects there, so only so many are read.
_LONGEST, _TRIED = 4 << 20, 20


@dataclass(frozen=True)
class Deletions(Record):
    """All manifests of its signer that this machine deleted from a store until then."""

    LAYOUT = Layout(longest=_LONGEST, more=True, format=1)

    #: The name of the store when they were sent.
    store: Annotated[str, checked.text(1000, errors="strict")]
    #: Their counters.
    deleted: Ranges
    #: To the second, UTC.
    at: datetime

    @classmethod
    def read(cls, plaintext: bytes, trust: Trust) -> tuple[str, Self]:
        """The signer's fingerprint and the record; ValueError if malformed, unsigned or of a signer that is not trusted."""
        line, signer = encryption.verified_line(plaintext, _NAMESPACE)
        if not trust.accepts(signer.fingerprint):
            raise ValueError(f"signed by an unknown key {signer.fingerprint}")
        return signer.fingerprint, cls.from_json(line)


def written(
    store: str, head: Head, keys: MachineKeys, recipients: Iterable[Recipient], now: datetime
) -> tuple[str, bytes] | None:
    """Name and bytes of the object that records the deletions in `head`; None if this machine deleted none of its own."""
    if not head.deleted or head.signer != keys.signer().fingerprint:
        return None
    at = now.astimezone(UTC).replace(microsecond=0)
    line = json.dumps(Deletions(store, head.deleted, at).values(), sort_keys=True).encode("ascii") + b"\n"
    plaintext, catalog = line + keys.sign(line, _NAMESPACE).encode("ascii"), keys.catalog().recipient
    name = f"{key_id(catalog.text)}/{_FOLDER}{at:{_TIME}}_{secrets.token_hex(8)}.age"
    return name, encryption.encrypt(plaintext, (*recipients, catalog))


def explained(bucket: Bucket, trust: Trust, keys: Collection[str]) -> Mapping[tuple[str, str], Ranges]:
    """By signer and name of the store: the manifests that the records below `keys` say were deleted.

    Reads the newest records; one that cannot be read or trusted explains nothing. BucketError if the store does not answer.
    """
    found: dict[tuple[str, str], Ranges] = {}
    there = (one for key in sorted(keys) for one in bucket.listed(f"{key}/{_FOLDER}") if is_name(one.name))
    newest = sorted(there, key=lambda one: one.name.rpartition("/")[2], reverse=True)
    for one in newest[:_TRIED]:
        try:
            data = bucket.get(one.name, min(one.size, _LONGEST))
            signer, record = Deletions.read(trust.opener.manifest(data), trust)
        except BucketError as error:
            if error.transient:
                raise
        except (DecryptionError, ValueError):
            continue  # of another machine, or forged
        else:
            known = found.get((signer, record.store), ())
            found[signer, record.store] = ranges([], (*known, *record.deleted))
    return found


def is_name(name: str) -> bool:
    """Whether an object `name` is such a record."""
    return _NAME.fullmatch(name) is not None


def old(bucket: Bucket, key: str, before: datetime) -> Iterator[Stored]:
    """Yield the records of the machine `key` from `before`, but not the newest one."""
    there = [one for one in bucket.listed(f"{key}/{_FOLDER}") if is_name(one.name)]
    yield from (one for one in there[:-1] if one.modified < before)
