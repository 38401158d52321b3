"""A bucket of object storage: S3 and compatible servers, Google Cloud Storage, Azure Blob Storage.

Every object is created by one conditional request with its SHA-256, so that nothing is overwritten and a flipped bit is
refused. obstore repeats requests that a server does not answer; a slow upload that it gives up is repeated here. No
signal interrupts its calls, so they are made in threads that end with the process.
"""

from __future__ import annotations

import io
import logging
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from refnet.core.errors import Exit, RefnetError
from refnet.core.memory import with_room
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import (
    BucketError,
    BucketFailure,
    Stored,
    Version,
    checked_name,
    in_background,
    is_name,
)
from refnet.store.buckets.object_storage import NOT_IMPLEMENTED, REGION, BucketPlace, StorageServer
from refnet.store.buckets.s3_requests import S3Requests, Waiting

if TYPE_CHECKING:  # they are only in obstore's stubs
    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore

_Answer = TypeVar("_Answer")
#: A client is made again after this time, so that the end of the locks moves on.
_RENEWED_SECONDS = 3600.0
#: The most objects that are listed.
_MOST = 1_000_000
#: Bytes of an object that are taken over at once.
_CHUNK = 1 << 20
_log = logging.getLogger("refnet.detail")


@dataclass(frozen=True)
class Patience:
    """How long requests are repeated, in seconds."""

    #: All attempts of one object. A signature is valid for 15 minutes.
    longest: float = 14 * 60.0
    #: The attempts of obstore to create an object, which it does not report; then RefNet repeats it, and does.
    unreported: float = 20.0
    #: Between two attempts.
    pause: float = 30.0
    connect: float = 10.0
    #: Without a byte of an answer.
    read: float = 60.0
    #: The same, while an object is sent: obstore counts from the first byte that it sends.
    upload: float = 15 * 60.0
    #: A call of obstore in all. Its own limit of one request is an hour; this one also ends a call that hangs in it.
    hangs: float = 75 * 60.0
    #: Requests without content.
    small: Waiting = Waiting()


class CloudBucket:
    """Objects at `place`, thread-safe. RefnetError (USAGE) for invalid settings.

    `requests`: for S3 with a credential from the settings. None: another kind, or the machine's role is the credential,
    which only obstore knows; then `versions` yields only current objects.
    """

    def __init__(self, place: BucketPlace, patience: Patience = Patience()) -> None:
        self.shown = place.shown
        self._place = place
        self._patience = patience
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._server = StorageServer(place.shown, tuple(filter(None, place.credential.values())))
        try:
            self._reader = self._store(patience.read, patience.longest)
            self.requests = self._requests()
        except (BaseError, ValueError, ssl.SSLError) as failed:
            error = self._server.refused("open", "it", str(failed))
            hint = "Correct its endpoint, its credentials_file or its ca_file."
            raise RefnetError(error.message, hint, Exit.USAGE) from None
        self._writer = (self._reader, 0.0)

    def with_patience(self, patience: Patience) -> CloudBucket:
        """The same bucket with another `patience`."""
        return CloudBucket(self._place, patience)

    def put(self, name: str, data: bytes) -> str:
        key, end = self._prefix + checked_name(name), time.monotonic() + self._patience.longest
        pause = self._patience.pause / 100
        while True:
            try:
                sending = in_background(
                    obstore.put, self._writing(), key, data, mode="create", use_multipart=False
                )
                done = self._answer(sending)
                if done["e_tag"]:
                    return self._version(done["version"])
                error = self._server.refused("create", name, "HTTP 200")
            except (AlreadyExistsError, PreconditionError):
                try:
                    return self._same(name, data)
                except BucketError as found:
                    if found.kind is not BucketFailure.MISSING:
                        raise
                error = self._server.error(
                    BucketFailure.UNREACHABLE, f"cannot create {name}: a request to create it runs"
                )
            except (BaseError, OSError) as failed:
                error = self._server.refused("create", name, str(failed))
            if error.kind is not BucketFailure.UNREACHABLE or time.monotonic() + pause > end:
                raise error
            _log.debug("%s; retried", error.message)
            time.sleep(pause)
            pause = min(2 * pause, self._patience.pause)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        return self._read(name, most, version)[0]

    def listed(self, prefix: str) -> Iterator[Stored]:
        found = self.requests.listed(prefix) if self.requests else self._listed(prefix)
        return iter(sorted(found, key=lambda one: one.name))

    def _listed(self, prefix: str) -> Iterator[Stored]:
        """Yield objects from obstore's list, which accepts a folder but no partial name."""
        folder = (self._prefix + prefix).rpartition("/")[0] or None
        with self._explained(prefix):
            pages = obstore.list(self._reader, folder, chunk_size=1000)
            found = self._answer(in_background(_all_listed, pages))
        if found is None:
            raise self._server.error(
                BucketFailure.DAMAGED, f"cannot list {prefix}: more than {_MOST:,} objects"
            )
        for one in found:
            name = one["path"].removeprefix(self._prefix)
            if name.startswith(prefix) and is_name(name):
                yield Stored(name, one["size"], one["last_modified"], one["e_tag"] or "")

    @contextmanager
    def _explained(self, prefix: str) -> Iterator[None]:
        """Turn obstore's errors of a list in the block into BucketError."""
        try:
            yield
        except InvalidPathError as failed:
            why, hint = str(failed).splitlines()[0], "Delete that object: it is not RefNet's."
            raise self._server.error(BucketFailure.DAMAGED, f"cannot list {prefix}: {why}", hint) from None
        except (BaseError, OSError) as failed:
            raise self._server.refused("list", prefix, str(failed)) from None

    def versions(self, prefix: str) -> Iterator[Version]:
        if self.requests:
            try:
                return iter(sorted(self.requests.versions(prefix), key=lambda one: one.name))
            except BucketError as error:
                if NOT_IMPLEMENTED not in error.message:
                    raise
        return bucket.unversioned(self.listed(prefix))

    def folders(self, *, deleted: bool = False) -> list[str]:
        if self.requests:
            try:
                return self.requests.folders(deleted=deleted)
            except BucketError as error:
                if not deleted or NOT_IMPLEMENTED not in error.message:
                    raise
            return self.requests.folders()
        with self._explained(""):
            asking = in_background(obstore.list_with_delimiter, self._reader, self._place.prefix or None)
            # obstore itself reads pages without an end
            found = self._answer(asking, self._patience.small.pages)["common_prefixes"]
        names = (one.removeprefix(self._prefix) for one in found if one.startswith(self._prefix))
        return bucket.top_folders(names, self.shown)

    def delete(self, name: str, *, version: str = "") -> None:
        checked_name(name)
        try:
            if self.requests:
                self.requests.delete(name, version)
                return
            if version:
                why, hint = f"cannot delete a version of {name}", "Set credentials_file of the store."
                raise self._server.error(
                    BucketFailure.REFUSED, f"{why} without a credential of the settings", hint
                )
            try:
                self._answer(in_background(obstore.delete, self._reader, self._prefix + name))
            except (BaseError, OSError) as failed:
                raise self._server.refused("delete", name, str(failed)) from None
        except BucketError as error:
            if error.kind is not BucketFailure.MISSING:
                raise

    def _answer(self, asked: Future[_Answer], longest: float | None = None) -> _Answer:
        """The answer of a call; TimeoutError after `longest` seconds (None: `Patience.hangs`)."""
        seconds = self._patience.hangs if longest is None else longest
        if not wait([asked], seconds).done:
            raise TimeoutError(f"it was not complete within {seconds:.0f} s")
        return asked.result()

    def _read(self, name: str, most: int, version: str = "") -> tuple[bytes, str]:
        """Return an object of at most `most` bytes, and the id of its version."""
        key = self._prefix + checked_name(name)
        asked = {"version": version} if version and self._place.kind == "s3" else {}
        try:
            found = self._answer(in_background(obstore.get, self._reader, key, options=asked))  # type: ignore[arg-type]
            if found.meta["size"] > most:
                raise bucket.too_large(name, self.shown, most)
            data = self._answer(in_background(_at_most, found, most, with_room(found.meta["size"])))
            if data is None:
                raise bucket.too_large(name, self.shown, most)
            return data, self._version(found.meta["version"])
        except (BaseError, OSError) as failed:
            raise self._server.refused("read", name, str(failed)) from None

    def _same(self, name: str, data: bytes) -> str:
        """Version of the existing object; BucketError (EXISTS) if its bytes differ."""
        try:
            found, version = self._read(name, len(data))
        except BucketError as error:
            if error.kind is BucketFailure.DAMAGED:  # it is larger
                raise bucket.exists(name, self.shown) from None
            raise
        if found != data:
            raise bucket.exists(name, self.shown)
        return version

    def _version(self, found: str | None) -> str:
        return (found or "") if self._place.kind == "s3" else ""

    def _requests(self) -> S3Requests | None:
        if self._place.kind != "s3" or not self._place.credential:
            return None
        return S3Requests(self._server, self._place, self._patience.small)

    def _writing(self) -> ObjectStore:
        """Client for creating objects, with the lock's end calculated from now."""
        store, made = self._writer
        if store is self._reader or (self._place.lock and time.monotonic() > made + _RENEWED_SECONDS):
            # For an object with a lock S3 wants it, beside the checksum.
            headers = {"x-amz-sdk-checksum-algorithm": "SHA256"} if self._place.kind == "s3" else {}
            if self._place.lock:
                until = datetime.now(UTC) + self._place.lock + timedelta(seconds=_RENEWED_SECONDS)
                headers |= {
                    "x-amz-object-lock-mode": "COMPLIANCE",
                    "x-amz-object-lock-retain-until-date": f"{until:%Y-%m-%dT%H:%M:%SZ}",
                }
            store = self._store(self._patience.upload, self._patience.unreported, headers)
            self._writer = (store, time.monotonic())
        return store

    def _store(self, read: float, longest: float, headers: Mapping[str, str] | None = None) -> ObjectStore:
        place, patience = self._place, self._patience
        client: dict[str, Any] = {
            "allow_http": place.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=patience.connect),
            "read_timeout": timedelta(seconds=read),
            "timeout": timedelta(hours=1),
            "default_headers": dict(headers or {}),
        }
        if place.trusted:
            client["root_certificate"] = place.trusted
        pause = timedelta(seconds=patience.pause)
        retries: Any = {
            "max_retries": 100,
            "backoff": {"init_backoff": timedelta(seconds=patience.pause / 100), "max_backoff": pause},
            "retry_timeout": timedelta(seconds=min(longest, patience.longest)),
        }
        options: dict[str, Any] = {**place.credential, "client_options": client, "retry_config": retries}
        if place.endpoint:
            options["base_url" if place.kind == "gs" else "endpoint"] = place.endpoint
        if place.kind == "gs":
            return GCSStore(place.bucket, **options)
        if place.kind == "az":
            return AzureStore(place.bucket, **options)
        if place.region or place.endpoint:
            options["region"] = place.region or REGION
        return S3Store(place.bucket, checksum_algorithm="SHA256", disable_bulk_delete=True, **options)


def _at_most(answer: GetResult, most: int, into: io.BytesIO) -> bytes | None:
    """Body of a response, ignoring its length header; None if longer than `most`."""
    for part in answer.stream(min_chunk_size=_CHUNK):
        if into.tell() + len(part) > most:
            return None
        into.write(part)
    into.truncate()
    return into.getvalue()


def _all_listed(pages: Iterable[Sequence[ObjectMeta]]) -> list[ObjectMeta] | None:
    """All objects of a list; None if there are too many."""
    found: list[ObjectMeta] = []
    for page in pages:
        found += page
        if len(found) > _MOST:
            return None
    return found
