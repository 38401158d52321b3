"""Opens the bucket of a store by its settings; announces a store that a command waits for, and keeps to its bandwidth."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from refnet.core import extras, trust
from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings, read_credentials
from refnet.settings.urls import StoreKind
from refnet.store.buckets.bucket import Bucket, Locks, Stored, Version
from refnet.store.buckets.folder import FolderBucket
from refnet.store.buckets.object_storage import BucketPlace
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import SftpBucket

#: What a run waits for; the command prints it.
WAITING = "refnet.waiting"
_Item = TypeVar("_Item")
_log = logging.getLogger(WAITING)
#: Seconds of silence before a store is announced.
_SILENT = 3.0
_LARGEST_CERTIFICATES = 1 << 20
#: obstore's names of the keys of a file with a credential.
_NAMES = {"account": "account_name", "key": "account_key"}
#: The variables with a credential for S3, as every client of S3 reads them.
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
}


def open_bucket(store: StoreSettings, *, deleting: bool = False) -> Bucket:
    """The bucket of `store`; sends no request. RefnetError (USAGE) if the credential cannot be read.

    deleting: use the credential that may delete, if one is set.
    """
    found = bare_bucket(store, deleting=deleting)
    if store.place.kind is not StoreKind.FILE:
        found = Announced(found)
    return Paced(found, store.bandwidth) if store.bandwidth else found


def bare_bucket(store: StoreSettings, *, deleting: bool = False) -> Bucket:
    """Return the bucket of `store` itself: of cloud storage, a CloudBucket."""
    url = store.place
    if url.kind is StoreKind.FILE:
        return FolderBucket(Path(url.path))
    if url.kind is StoreKind.SFTP:
        return SftpBucket(url)
    if url.kind is StoreKind.RCLONE:
        return RcloneBucket(url)
    place = BucketPlace(
        url.kind,
        url.place,
        url.path,
        store.endpoint or "",
        store.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        _credential(store, deleting),
        _certificates(store),
        timedelta(days=store.lock) if store.lock else None,
    )
    with extras.needed("cloud"):
        from refnet.store.buckets.cloud import CloudBucket
    return CloudBucket(place)


def locks_of(store: StoreSettings) -> Locks:
    """What extends the locks in `store`; RefnetError (USAGE) where RefNet cannot."""
    found = bare_bucket(store)
    locks: Locks | None = getattr(found, "requests", None)
    if locks is None:
        raise RefnetError(
            f"stores.{store.name}.extend_locks needs a credential of the settings: only obstore knows that of the machine's role",
            f"Set stores.{store.name}.credentials_file, or remove extend_locks.",
            Exit.USAGE,
        )
    return locks


def _credential(store: StoreSettings, deleting: bool) -> dict[str, str]:
    """obstore's settings for the credential of `store`; empty: environment or machine role."""
    path = (deleting and store.prune_credentials_file) or store.credentials_file
    if path:
        values = read_credentials(path, store.place.kind).values
        return {_NAMES.get(name, name): value for name, value in values.items()}
    if store.place.kind is not StoreKind.S3:
        return {}
    found = {name: os.environ[variable] for variable, name in _VARIABLES.items() if os.environ.get(variable)}
    return found if {"access_key_id", "secret_access_key"} <= found.keys() else {}


def _certificates(store: StoreSettings) -> str:
    """Return the certificates (PEM) of `ca_file`, or of the variable that OpenSSL reads; "" if there are none."""
    path = store.ca_file or Path(os.environ.get("SSL_CERT_FILE", ""))
    if path == Path():
        return ""
    try:
        return trust.read(path, _LARGEST_CERTIFICATES).content.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not in PEM"
        raise RefnetError(
            f"the certificates {trust.shown(path)} cannot be read: {why}",
            f"Set stores.{store.name}.ca_file to a file with certificates in PEM.",
            Exit.USAGE,
        ) from None


class Announced:
    """A bucket that is announced after 3 s without a first response. Later responses carry data and may take long."""

    def __init__(self, inner: Bucket) -> None:
        self._inner = inner
        self._answered = False

    @property
    def shown(self) -> str:
        return self._inner.shown

    def put(self, name: str, data: bytes) -> str:
        with self._waiting():
            return self._inner.put(name, data)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        with self._waiting():
            return self._inner.get(name, most, version=version)

    def listed(self, prefix: str) -> Iterator[Stored]:
        return self._begun(lambda: self._inner.listed(prefix))

    def versions(self, prefix: str) -> Iterator[Version]:
        return self._begun(lambda: self._inner.versions(prefix))

    def folders(self, *, deleted: bool = False) -> list[str]:
        with self._waiting():
            return self._inner.folders(deleted=deleted)

    def delete(self, name: str, *, version: str = "") -> None:
        with self._waiting():
            self._inner.delete(name, version=version)

    def _begun(self, ask: Callable[[], Iterator[_Item]]) -> Iterator[_Item]:
        """Return what `ask` returns, with its first item read."""
        with self._waiting():
            found = ask()
            first = [*islice(found, 1)]
        return chain(first, found)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        if self._answered:
            yield
            return
        timer = threading.Timer(_SILENT, _log.info, ("waiting for %s", self.shown))
        timer.daemon = True
        timer.start()
        try:
            yield
            self._answered = True
        finally:
            timer.cancel()


class Paced:
    """A bucket limited to `speed` bytes per second on average: each object waits for its predecessors' time."""

    def __init__(
        self,
        inner: Bucket,
        speed: int,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._speed = speed
        self._now = now
        self._wait = wait
        self._free = now()
        self._alone = threading.Lock()

    @property
    def shown(self) -> str:
        return self._inner.shown

    def put(self, name: str, data: bytes) -> str:
        self._pass(len(data))
        return self._inner.put(name, data)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        self._pass(0)
        data = self._inner.get(name, most, version=version)
        self._take(len(data))
        return data

    def listed(self, prefix: str) -> Iterator[Stored]:
        return self._inner.listed(prefix)

    def versions(self, prefix: str) -> Iterator[Version]:
        return self._inner.versions(prefix)

    def folders(self, *, deleted: bool = False) -> list[str]:
        return self._inner.folders(deleted=deleted)

    def delete(self, name: str, *, version: str = "") -> None:
        self._inner.delete(name, version=version)

    def _pass(self, size: int) -> None:
        """Wait until the line is free, and take it for `size` bytes."""
        if (pause := self._take(size)) > 0:
            self._wait(pause)

    def _take(self, size: int) -> float:
        """Take the line for `size` bytes; return the seconds until it is free for them."""
        with self._alone:
            now = self._now()
            start = max(now, self._free)
            self._free = start + size / self._speed
            return start - now
