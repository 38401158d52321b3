"""A bucket in memory, as S3 behaves with versions and object lock, or without."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version, checked_name
from refnet.store.leases import is_name


@dataclass(frozen=True)
class Content:
    """A version of an object."""

    #: None: it is a mark that the object is deleted.
    data: bytes | None
    version: str
    created: datetime


@dataclass
class MemoryLocks:
    """The locks of the objects in `bucket`, as its server answers."""

    bucket: MemoryBucket
    #: For how long a new object is locked.
    length: timedelta
    #: By name: until when the locks last that were extended.
    extended: dict[str, datetime] = field(default_factory=dict)
    #: Extensions are refused, or accepted and forgotten.
    refuses: bool = False
    keeps: bool = True
    #: Names of the objects whose locks were to be extended, and whose locks were asked for.
    asked: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def locked_until(self, name: str, version: str = "") -> datetime | None:
        self.read.append(name)
        found = self.bucket._version(name, version)
        if found is None:
            raise bucket.missing(name, self.bucket.shown)
        return self.extended.get(name, found.created + self.length)

    def lock(self, name: str, version: str, until: datetime) -> None:
        self.asked.append(name)
        if self.bucket._version(name, version) is None:
            raise bucket.missing(name, self.bucket.shown)
        there = self.extended.get(name)
        if self.refuses or (there and until < there):
            raise BucketError(BucketFailure.REFUSED, "cannot lock: AccessDenied 403", "Ask for the right.")
        if self.keeps:
            self.extended[name] = until

    def delete_anyway(self, name: str, version: str) -> None:
        raise BucketError(BucketFailure.REFUSED, f"cannot delete {name} {version}", "It is locked.")


@dataclass
class MemoryBucket:
    """Objects in memory, for any number of threads."""

    shown: str = "memory"
    #: Every put and delete adds a version.
    versioned: bool = False
    #: How long nothing can delete a new object, or that version of it.
    lock: timedelta | None = None
    #: The clock of the server.
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: Every version of each object, the oldest first.
    contents: dict[str, list[Content]] = field(default_factory=dict)
    #: The number of calls of each method; `run`: puts of leases and intents.
    requests: Counter[str] = field(default_factory=Counter)
    _alone: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _number: int = 0

    def put(self, name: str, data: bytes) -> str:
        with self._alone:
            self.requests["run" if is_name(name) else "put"] += 1
            current = self._current(checked_name(name))
            if current is None:
                return self._add(name, data)
            if current.data != data:
                raise bucket.exists(name, self.shown)
            return current.version

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        with self._alone:
            self.requests["get"] += 1
            found = self._version(name, version) if version else self._current(name)
            if found is None or found.data is None:
                raise bucket.missing(name, self.shown)
            if len(found.data) > most:
                raise bucket.too_large(name, self.shown, most)
            return found.data

    def listed(self, prefix: str) -> Iterator[Stored]:
        with self._alone:
            self.requests["list"] += 1
            found = [(name, self._current(name)) for name in sorted(self.contents) if name.startswith(prefix)]
        for name, one in found:
            if one and one.data is not None:
                yield Stored(name, len(one.data), one.created, hashlib.sha256(one.data).hexdigest()[:32])

    def versions(self, prefix: str) -> Iterator[Version]:
        with self._alone:
            self.requests["versions"] += 1
            found = [
                (name, list(self.contents[name])) for name in sorted(self.contents) if name.startswith(prefix)
            ]
        for name, kept in found:
            for one in reversed(kept):
                size, gone = len(one.data or b""), one.data is None
                yield Version(name, one.version, size, one.created, one is kept[-1], gone)

    def folders(self, *, deleted: bool = False) -> list[str]:
        with self._alone:
            self.requests["folders"] += 1
            found = [name for name in self.contents if "/" in name and (deleted or self._current(name))]
        return bucket.top_folders((name.partition("/")[0] for name in found), self.shown)

    def delete(self, name: str, *, version: str = "") -> None:
        with self._alone:
            self.requests["delete"] += 1
            if self.versioned and not version:
                self._add(checked_name(name), None)
                return
            if (found := self._version(name, version) if version else self._current(name)) is None:
                return
            if self.lock and found.data is not None and self.now() < found.created + self.lock:
                raise BucketError(
                    BucketFailure.LOCKED,
                    f"{name} in {self.shown} is locked until {found.created + self.lock:%Y-%m-%d %H:%M %Z}",
                    "Delete it after that time.",
                )
            self.contents[name].remove(found)
            if not self.contents[name]:
                del self.contents[name]

    def _add(self, name: str, data: bytes | None) -> str:
        self._number += 1
        version = f"v{self._number}" if self.versioned else ""
        self.contents.setdefault(name, []).append(Content(data, version, self.now()))
        return version

    def _current(self, name: str) -> Content | None:
        found = self.contents.get(name)
        return found[-1] if found and found[-1].data is not None else None

    def _version(self, name: str, version: str) -> Content | None:
        return next((one for one in self.contents.get(name, ()) if one.version == version), None)
