"""Checks of remote stores: whether a bucket refuses what an attacker with this credential would try.

Each is done on one small object. If that object, `check/RANDOM`, cannot be deleted, it stays until prune removes it. The last
check of each store is recorded in REFNET_HOME/remote/NAME/check.json.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from refnet.catalog.monitoring_stores import (
    CLOCKS,
    RECORD_BYTES,
    RecoveryDrilled,
    StoreCheck,
    Tried,
    Verdict,
)
from refnet.core import formatting
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.settings.stores import StoreSettings
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure, Locks

#: The folder of the objects of checks.
CHECKS = "check/"
_MOST = 100
#: The lock that is asked for in the place of a longer one.
_SHORT = timedelta(minutes=1)
_BYPASS = "bypass the lock"
_R = TypeVar("_R", StoreCheck, RecoveryDrilled)
#: The file of each record, in REFNET_HOME/remote/NAME.
_RECORDS: Mapping[type, str] = {StoreCheck: "check.json", RecoveryDrilled: "recovery_drill.json"}
_REFUSALS = (BucketFailure.REFUSED, BucketFailure.LOCKED)


@dataclass
class Trial:
    """The tests of one bucket."""

    bucket: Bucket
    now: Callable[[], datetime]
    #: The locks of its objects; None: they cannot be asked for.
    locks: Locks | None = None
    #: The settings say that objects are locked.
    lock: bool = False
    #: The settings say that this machine extends locks.
    extends: bool = False
    #: It is object storage: this machine must not be able to delete there.
    protects: bool = True
    #: For how long a new object was locked; zero: not, or unknown.
    locked_for: timedelta = timedelta()

    def run(self) -> Iterator[Tried]:
        """Yield each test and its result; stop if objects cannot be listed or created."""
        try:
            there = sum(1 for _ in self.bucket.listed(CHECKS))
        except BucketError as error:
            yield Tried("list", Verdict.ALARM, _said(error))
            return
        yield Tried("list", Verdict.OK, f"{formatting.plural(there, 'object')} of earlier checks in {CHECKS}")
        name, data, before = f"{CHECKS}{secrets.token_hex(16)}", secrets.token_hex(16).encode(), self.now()
        try:
            version = self.bucket.put(name, data)
        except BucketError as error:
            yield Tried("create", Verdict.ALARM, _said(error))
            return
        yield from self._created(name, before)
        yield self._read(name, data)
        yield self._created_twice(name, data)
        seen, version = self._versions(name, version)
        yield seen
        yield from self._lock(name, version)
        yield from self._deletions(name, version, data)

    def _created(self, name: str, before: datetime) -> Iterator[Tried]:
        try:
            found = next((one for one in self.bucket.listed(name) if one.name == name), None)
        except BucketError as error:
            yield Tried("create", Verdict.ALARM, _said(error))
            return
        if found is None:
            yield Tried("create", Verdict.ALARM, f"{name} is not listed: another bucket or prefix answers")
            return
        yield Tried("create", Verdict.OK, name)
        off = max(before - found.modified, found.modified - self.now(), timedelta())
        says = f"differs from the server's by {formatting.age(off)}"
        if off > CLOCKS:
            says += ": is this machine's clock right?"
        yield Tried("clock", Verdict.ALARM if off > CLOCKS else Verdict.OK, says)

    def _read(self, name: str, data: bytes) -> Tried:
        try:
            same = self.bucket.get(name, _MOST) == data
        except BucketError as error:
            return Tried("read", Verdict.ALARM, _said(error))
        says = "the bytes that were created" if same else "other bytes than were created"
        return Tried("read", Verdict.OK if same else Verdict.ALARM, says)

    def _created_twice(self, name: str, data: bytes) -> Tried:
        try:
            self.bucket.put(name, data[::-1] + b"!")
        except BucketError as error:
            refused = error.kind in {BucketFailure.EXISTS, *_REFUSALS}
            says = "refused" if refused else _said(error)
            return Tried("overwrite", Verdict.OK if refused else Verdict.ALARM, says)
        says = "accepted: the server does not know conditional writes, and objects can be replaced"
        return Tried("overwrite", Verdict.ALARM, says)

    def _versions(self, name: str, version: str) -> tuple[Tried, str]:
        """Test for versions; also return the id of the object's first version, or ""."""
        try:
            found = [one for one in self.bucket.versions(name) if not one.delete_marker and one.id != "null"]
        except BucketError as error:
            says = f"cannot be listed, so a recovery cannot look behind delete markers: {_said(error)}"
            return Tried("versions", Verdict.NOTE, says), version
        ids = [one.id for one in sorted(found, key=lambda one: one.modified) if one.id]
        if ids:
            return Tried("versions", Verdict.OK, "kept and listed"), version if version in ids else ids[0]
        if version and version != "null":
            says = "kept, but cannot be listed without a credential of its own (credentials_file)"
            return Tried("versions", Verdict.NOTE, says), version
        says = "not kept: deleted and replaced objects are lost"
        return Tried("versions", Verdict.ALARM if self.lock else Verdict.NOTE, says), ""

    def _lock(self, name: str, version: str) -> Iterator[Tried]:
        if self.locks is None:
            yield Tried(
                "lock", Verdict.NOTE, "not tested: RefNet cannot ask this store for the lock of an object"
            )
            return
        try:
            until = self.locks.locked_until(name, version)
        except BucketError as error:
            yield Tried("lock", Verdict.NOTE, f"cannot be read: {_said(error)}")
            if self.extends:
                says = "not tested, as the lock cannot be read: pieces are sent again instead"
                yield Tried("extend the lock", Verdict.ALARM, says)
        else:
            worst = Verdict.ALARM if self.lock else Verdict.NOTE
            missing = "the object has none, although `lock` is set" if self.lock else "the object has none"
            self.locked_for = until - self.now() if until else timedelta()
            locked = Tried("lock", Verdict.OK, f"until {until:%Y-%m-%d %H:%M} UTC") if until else None
            yield locked or Tried("lock", worst, missing)
            if self.extends and until:
                yield self._extended(self.locks, name, version, until + _SHORT)
        yield self._shortened(self.locks, name, version)

    def _extended(self, locks: Locks, name: str, version: str, until: datetime) -> Tried:
        """Test whether a lock can be extended, and whether the server then says so."""
        what, until = "extend the lock", until.replace(microsecond=0)
        try:
            locks.lock(name, version, until)
            there = locks.locked_until(name, version)
        except BucketError as error:
            return Tried(what, Verdict.ALARM, f"{_said(error)}: pieces are sent again instead")
        if there is None or there < until:
            return Tried(what, Verdict.ALARM, "accepted, and the server does not keep the longer lock")
        return Tried(what, Verdict.OK, f"until {there:%Y-%m-%d %H:%M} UTC")

    def _shortened(self, locks: Locks, name: str, version: str) -> Tried:
        what = "shorten the lock"
        try:
            locks.lock(name, version, self.now() + _SHORT)
        except BucketError as error:
            refused = error.kind in {*_REFUSALS, BucketFailure.MISSING}
            return Tried(
                what,
                Verdict.OK if refused else Verdict.ALARM,
                f"{'refused: ' if refused else ''}{_said(error)}",
            )
        return Tried(what, Verdict.ALARM, "accepted: an attacker can end the locks, or set them")

    def _deletions(self, name: str, version: str, data: bytes) -> Iterator[Tried]:
        delete, kept = partial(self.bucket.delete, name), (name, version, data)
        yield self._deleted("delete", delete, kept, hidden=bool(version))
        if version:
            yield self._deleted("delete the version", partial(delete, version=version), kept)
        if version and self.locks and self._is_there(*kept):
            yield self._deleted(_BYPASS, partial(self.locks.delete_anyway, name, version), kept)

    def _deleted(
        self, what: str, act: Callable[[], None], kept: tuple[str, str, bytes], *, hidden: bool = False
    ) -> Tried:
        worst = Verdict.ALARM if self.protects or self.lock else Verdict.NOTE
        try:
            act()
        except BucketError as error:
            refused = error.kind in _REFUSALS
            return Tried(
                what, Verdict.OK if refused else worst, f"{'refused: ' if refused else ''}{_said(error)}"
            )
        if self._is_there(*kept):
            behind = "only a delete marker hides the object" if hidden else "the object is still there"
            return Tried(
                what, worst, f"accepted, and {behind}: this credential must not have the right to do so"
            )
        if what == _BYPASS:
            says = "accepted, the object is gone: this credential may bypass locks of the mode GOVERNANCE"
            return Tried(what, worst, says)
        if self.lock:
            return Tried(what, worst, "accepted: the lock is accepted and not enforced, the object is gone")
        if not self.protects:
            return Tried(what, worst, "accepted: this machine can delete the copies there")
        return Tried(what, worst, "accepted, the object is gone: this machine can delete every copy")

    def _is_there(self, name: str, version: str, data: bytes) -> bool:
        with suppress(BucketError):
            return self.bucket.get(name, _MOST, version=version) == data
        return False


def _said(error: BucketError) -> str:
    return formatting.plain(error.message)[:500]


def record(remote: Path, found: StoreCheck | RecoveryDrilled) -> None:
    """Record a check or a drill durably. `remote`: REFNET_HOME/remote."""
    folder = remote / found.store
    make_folder(folder)
    with explained(folder / _RECORDS[type(found)]):
        replace_file(folder / _RECORDS[type(found)], found.to_json().encode())


def last_checks(remote: Path, stores: Mapping[str, StoreSettings]) -> dict[str, StoreCheck | None]:
    """Last check of each store; None if its place was never checked, or the record is damaged."""
    return _last(StoreCheck, remote, stores)


def last_drills(remote: Path, stores: Mapping[str, StoreSettings]) -> dict[str, RecoveryDrilled | None]:
    """Last drill of a recovery from each store; None as for `last_checks`."""
    return _last(RecoveryDrilled, remote, stores)


def _last(kind: type[_R], remote: Path, stores: Mapping[str, StoreSettings]) -> dict[str, _R | None]:
    found: dict[str, _R | None] = dict.fromkeys(stores)
    for name, store in stores.items():
        with suppress(OSError, ValueError):  # without a record, the monitor warns
            data = read_regular(remote / name / _RECORDS[kind], RECORD_BYTES, owner=os.geteuid())
            last = kind.from_json(data)
            if (last.store, last.shown) == (name, store.shown):  # its URL may have changed since
                found[name] = last
    return found
