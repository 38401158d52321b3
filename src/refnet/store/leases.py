"""Leases of copies and intents of prunes, objects with which machines that share a store avoid each other.

A copy names pieces that are there already, and a prune deletes pieces that no manifest names. So a copy creates a lease,
looks for intents, then lists, and looks again before its manifest; a prune creates an intent, then looks for leases.
Whichever comes second stops. The lease of a copy ends with its manifest, or with an object `ID.end`, as an intent does: a
machine that makes copies may not delete, and a lock forbids it.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

from refnet.catalog.object_names import ID
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.formatting import age
from refnet.core.records import Layout, Most, Record
from refnet.store.buckets.bucket import Bucket, Stored

#: Of leases, below the folder of a machine.
FOLDER = "leases/"
_INTENTS, _END = "intents/", ".end"
_NAME = re.compile(rf"(?P<key>{ID})/(?P<folder>leases|intents)/(?P<id>{ID})(?P<end>\.end)?")
#: A killed prune's intent counts for so long, by the clock of the server. A prune ends before, in seconds, also of one
#: whose machine slept meanwhile.
_LONGEST_PRUNE = timedelta(days=1)
_ENDS_AFTER = 20 * 3600.0
#: A copy that takes longer was probably killed.
_LONGEST_COPY = timedelta(days=2)
#: In the home of a store: the intents of a prune of this machine that has not said that it ended.
_OWN = "intents.json"
_Id = Annotated[str, checked.text(32, like=ID)]


@dataclass(frozen=True)
class _OwnIntents(Record):
    LAYOUT = Layout(format=1)

    #: Ids, by the folder of a machine.
    intents: Annotated[Mapping[_Id, _Id], Most(10_000)]


@dataclass(frozen=True)
class Begun:
    """A lease or an intent that has no end."""

    #: The folder of its machine.
    key: str
    #: Of the copy, or of the prune.
    id: str
    #: By the clock of the bucket's server.
    since: datetime


def lease_name(key: str, copy: str) -> str:
    """Object of the lease of the copy with the id `copy`."""
    return f"{key}/{FOLDER}{copy}"


def end_name(key: str, copy: str) -> str:
    """Object that ends the lease of the copy with the id `copy`."""
    return f"{lease_name(key, copy)}{_END}"


def is_name(name: str) -> bool:
    """Whether an object `name` is of a lease or an intent."""
    return _NAME.fullmatch(name) is not None


def lease(bucket: Bucket, key: str, copy: str) -> None:
    """Begin the lease of the copy with the id `copy`, below the machine's `key`; it may be begun already."""
    bucket.put(lease_name(key, copy), b"")


def end_lease(bucket: Bucket, key: str, copy: str) -> None:
    """End the lease of a copy that is not published."""
    bucket.put(end_name(key, copy), b"")


def intent_name(key: str, prune: str) -> str:
    """Object that is the intent of the prune with the id `prune`."""
    return f"{key}/{_INTENTS}{prune}"


def intent_end(key: str, prune: str) -> str:
    """Object that ends it."""
    return f"{intent_name(key, prune)}{_END}"


def end_intent(bucket: Bucket, key: str, prune: str) -> None:
    """End the intent of the prune with the id `prune`."""
    bucket.put(intent_end(key, prune), b"")


def has_ended(bucket: Bucket, key: str, copy: str) -> bool:
    """Whether somebody ended the lease of a copy: a prune may have deleted what it was to share."""
    return any(True for _ in bucket.listed(end_name(key, copy)))


def is_young(bucket: Bucket, key: str, copy: str, now: datetime) -> bool:
    """Whether the lease of a copy has begun, within a day, and nobody ended it.

    Its time tells an intent that counts from an older one: it is that of the server.
    """
    name = lease_name(key, copy)
    there = {one.name: one.modified for one in bucket.listed(name)}
    return name in there and end_name(key, copy) not in there and now - there[name] < _LONGEST_PRUNE


def require_open(bucket: Bucket, key: str, copy: str, name: str) -> None:
    """RefnetError (LOCKED) if somebody ended the lease of a copy to the store `name`."""
    require_no_end(bucket.listed(end_name(key, copy)), key, copy, name)


def require_no_end(listed: Iterable[Stored], key: str, copy: str, name: str) -> None:
    """The same, if the end of the lease is among `listed`."""
    if any(one.name == end_name(key, copy) for one in listed):
        raise RefnetError(
            f"the copy to {name} is not published: its lease was ended while it was under way",
            "Retry: refnet copy. A prune may have deleted pieces that it shares.",
            Exit.LOCKED,
            transient=True,
        )


def open_leases(bucket: Bucket, key: str, published: Collection[str]) -> tuple[Begun, ...]:
    """Leases that neither an end nor the manifest of their copy (ids in `published`) ended."""
    return tuple(one for one in _begun(bucket.listed(f"{key}/{FOLDER}")) if one.id not in published)


def open_intents(bucket: Bucket, key: str) -> tuple[Begun, ...]:
    """Intents of prunes that nothing ended."""
    return tuple(_begun(bucket.listed(f"{key}/{_INTENTS}")))


def require_no_prune(bucket: Bucket, key: str, name: str, now: datetime) -> None:
    """RefnetError (LOCKED) if a prune is under way in the store `name`: it may delete what a copy shares."""
    require_no_intent(bucket.listed(f"{key}/{_INTENTS}"), name, now)


def require_no_intent(listed: Iterable[Stored], name: str, now: datetime) -> None:
    """RefnetError (LOCKED) if intents of prunes in the store `name` are among `listed`, objects in the order of their names."""
    for one in _begun(one for one in listed if f"/{_INTENTS}" in one.name):
        if now - one.since < _LONGEST_PRUNE:
            raise RefnetError(
                f"{name} is being pruned since {one.since:%Y-%m-%d %H:%M} UTC: the copy is not published",
                f"Retry when it has ended. If its run was killed: `refnet store accept {name}`.",
                Exit.LOCKED,
                transient=True,
            )


@contextmanager
def own_intents(home: Path, keys: Iterable[str]) -> Iterator[Mapping[str, str]]:
    """Record, durably, the intents of a prune that begins, one for each of `keys`; return their ids by key.

    The record is removed after the block, unless it fails. home: of the store.
    """
    own = {key: secrets.token_hex(16) for key in sorted(keys)}
    make_folder(home)
    with explained(home / _OWN):
        replace_file(home / _OWN, _OwnIntents(own).to_json().encode())
    yield own
    (home / _OWN).unlink(missing_ok=True)


def end_killed(home: Path, create: Callable[[str], object]) -> None:
    """End the intents of a prune of this machine that was killed; none may run. `create`: creates an empty object."""
    if not os.path.lexists(home / _OWN):
        return
    intents: Mapping[str, str] = {}
    with suppress(OSError, ValueError):  # another program wrote it: they count for a day
        intents = _OwnIntents.from_json(read_regular(home / _OWN, 4 << 20, owner=os.geteuid())).intents
    for key, id_ in intents.items():
        create(intent_end(key, id_))
    with explained(home / _OWN):
        (home / _OWN).unlink()


def now_awake() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def require_time(began: float | None, name: str) -> None:
    """RefnetError (LOCKED) if a prune of the store `name` that began then takes so long that copies forget its intent."""
    if began is not None and now_awake() - began > _ENDS_AFTER:
        raise RefnetError(
            f"the prune of {name} is stopped after {_ENDS_AFTER / 3600:.0f} h: no copy is published meanwhile",
            "Retry: the next prune continues.",
            Exit.LOCKED,
            transient=True,
        )


def refuse_beside(one: Begun, bucket: Bucket, key: str, prune: str, name: str) -> NoReturn:
    """RefnetError (LOCKED): a prune of the store `name`, whose intent is there, found the lease `one` of a copy."""
    own = (found.since for found in open_intents(bucket, key) if found.id == prune)
    raise _under_way(name, one.since, max(own, default=one.since))


def _under_way(name: str, since: datetime, now: datetime) -> RefnetError:
    """Error: a copy to the store `name` has a lease; both times by the clock of the bucket's server.

    A lease does not end by its age: a machine that slept may still publish its copy, of pieces that were deleted meanwhile.
    """
    hint = (
        f"Retry when it has ended. If its run was killed and will not continue: `refnet store accept {name}`."
    )
    if now - since > _LONGEST_COPY:
        hint = f"Its run was probably killed: look on the machines that send there; then: `refnet store accept {name}`."
    return RefnetError(
        f"{name}: a copy is under way since {since:%Y-%m-%d %H:%M} UTC, {age(now - since)} ago by the server's clock,"
        " so no piece is deleted",
        hint,
        Exit.LOCKED,
        transient=True,
    )


def old(bucket: Bucket, key: str, published: Collection[str], before: datetime) -> Iterator[Stored]:
    """Yield the objects of leases and intents that have ended, and are from `before`."""
    for folder in (FOLDER, _INTENTS):
        open_ = {one.id for one in _begun(bucket.listed(f"{key}/{folder}"))} - {*published}
        for one in bucket.listed(f"{key}/{folder}"):
            match = _NAME.fullmatch(one.name)
            if match and match["id"] not in open_ and one.modified < before:
                yield one


def _begun(listed: Iterable[Stored]) -> Iterator[Begun]:
    there: dict[str, Begun] = {}
    for one in listed:  # in the order of their names: an end comes after its beginning
        match = _NAME.fullmatch(one.name)
        if match and match["end"]:
            there.pop(match["id"], None)
        elif match:
            there[match["id"]] = Begun(match["key"], match["id"], one.modified)
    yield from there.values()
