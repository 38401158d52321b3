"""S3 requests that obstore lacks: versions, locks, and lists that survive bogus keys.

They are signed with the two halves of a credential (AWS Signature Version 4). The server may be hostile: its answers are
bounded in size and time, and each value is checked.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request
from weakref import finalize

from refnet.core import checked
from refnet.store.buckets import bucket, object_storage
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version, is_name
from refnet.store.buckets.object_storage import FOLDER, REGION, BucketPlace, Page, StorageServer

#: The largest answer, in bytes: a page with the longest names.
_LARGEST = 8 << 20
#: Of a thousand objects each.
_MOST_PAGES = 1_000
_CHUNK = 1 << 16
#: A connection that was idle for longer is not used again: what is between may have forgotten it without a word.
_IDLE_SECONDS = 10.0
#: Of each kind of list: its parameters; parameter of the next page → element with its value.
_OBJECTS = {"list-type": "2"}, {"continuation-token": "NextContinuationToken"}
_VERSIONS = {"versions": ""}, {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"}
_log = logging.getLogger("refnet.detail")
_NO_LOCK = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest")


@dataclass(frozen=True)
class Credential:
    """Access key, secret key, and the session token of a temporary credential."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Waiting:
    """Time limits for small requests, in seconds."""

    #: All attempts.
    longest: float = 60.0
    #: One answer.
    answer: float = 30.0
    #: Before the second attempt; then twice as long each time.
    first: float = 0.2
    #: All pages of a list.
    pages: float = 15 * 60.0


class S3Requests:
    """Signed requests about the keys of one bucket.

    `place`: with an access key and a secret key. Names are relative to its prefix.
    """

    def __init__(self, server: StorageServer, place: BucketPlace, waiting: Waiting = Waiting()) -> None:
        self._server = server
        self._region = place.region or REGION
        endpoint = place.endpoint or f"https://s3.{self._region}.amazonaws.com"
        self._url = urlsplit(f"{endpoint.rstrip('/')}/{place.bucket}")
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._credential = Credential(**place.credential)
        self._waiting = waiting
        #: Headers of every request.
        self._more: Mapping[str, str] = {}
        self._secure = ssl.create_default_context()
        if place.trusted:
            self._secure.load_verify_locations(cadata=place.trusted)
        of_https = urllib.request.HTTPSHandler(context=self._secure)
        self._opener = urllib.request.build_opener(of_https, _NoRedirect())
        proxies = urllib.request.getproxies()
        self._proxied = self._url.scheme in proxies and not urllib.request.proxy_bypass(self._url.netloc)
        #: Connections without a request, each with the time since when; the newest is the last.
        self._idle = deque[tuple[float, HTTPConnection]]()
        finalize(self, _close, self._idle)

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose names begin with `prefix`, page by page; keys that RefNet never creates are skipped."""
        for page, _, row, name in self._rows(prefix, *_OBJECTS):
            with self._checked("list", prefix):
                one = page.stored(row, name)
            yield one

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield every version of the objects whose names begin with `prefix`, also of deleted ones, page by page."""
        for page, kind, row, name in self._rows(prefix, *_VERSIONS):
            with self._checked("list", prefix):
                one = page.version(kind, row, name)
            yield one

    def folders(self, *, deleted: bool = False) -> list[str]:
        """Names of the folders at the top; deleted: also of those with only deleted objects."""
        query, markers = _VERSIONS if deleted else _OBJECTS
        rows = self._rows("", {**query, "delimiter": "/"}, markers)
        return bucket.top_folders((name for *_, name in rows), self._server.shown)

    def delete(self, name: str, version: str = "") -> None:
        """Delete an object, or one version of it; BucketError (MISSING, REFUSED, LOCKED)."""
        try:
            self._send("delete", "DELETE", name, _of(version))
        except BucketError as error:
            if version and error.kind is BucketFailure.REFUSED and (until := self._lock(name, version)):
                when = f"{until:%Y-%m-%d %H:%M} UTC"
                raise self._server.error(BucketFailure.LOCKED, f"{name} is locked until {when}") from None
            raise

    def delete_anyway(self, name: str, version: str) -> None:
        """Delete a version, also one whose lock this credential may bypass (in the mode GOVERNANCE)."""
        bypassing = copy.copy(self)
        bypassing._more = {"x-amz-bypass-governance-retention": "true"}
        bypassing.delete(name, version)

    def locked_until(self, name: str, version: str = "") -> datetime | None:
        """Return the time until which a version cannot be deleted; None if it has no lock."""
        try:
            page = self._document("read the lock of", name, {"retention": "", **_of(version)})
        except BucketError as error:
            if error.kind is BucketFailure.MISSING or any(code in error.message for code in _NO_LOCK):
                return None
            raise
        with self._checked("read the lock of", name):
            text = page.top.get("RetainUntilDate", "")
            return checked.moment(text).astimezone(UTC) if text else None

    def lock(self, name: str, version: str, until: datetime) -> None:
        """Lock a version until a time; a server refuses an earlier one than before."""
        when = f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        body = f"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{when}</RetainUntilDate></Retention>"
        self._send("lock", "PUT", name, {"retention": "", **_of(version)}, body.encode())

    def _lock(self, name: str, version: str) -> datetime | None:
        try:
            found = self.locked_until(name, version)
        except BucketError:
            return None  # this credential may not ask
        return found if found and found > datetime.now(UTC) else None

    def _rows(
        self, prefix: str, query: Mapping[str, str], markers: Mapping[str, str]
    ) -> Iterator[tuple[Page, str, dict[str, str], str]]:
        """Yield page, kind, elements and name of listed objects, or of folders with a delimiter, with valid names.

        markers: parameter of the next request → element with its value.
        """
        sent = first = {**query, "prefix": self._prefix + prefix, "encoding-type": "url"}
        ending = query.get("delimiter", "")
        end = time.monotonic() + self._waiting.pages
        for _ in range(_MOST_PAGES):
            page = self._document("list", "", sent, about=prefix)
            if time.monotonic() > end:
                why = f"cannot list {prefix}: the list was not complete within {self._waiting.pages:.0f} s"
                raise self._server.error(BucketFailure.UNREACHABLE, why)
            for kind, row in page.rows:
                if (kind == FOLDER) is not bool(ending):
                    continue
                with self._checked("list", prefix):
                    key = page.key(kind, row)
                name = key.removeprefix(self._prefix).removesuffix(ending)
                if key.startswith(self._prefix + prefix) and key.endswith(ending) and is_name(name):
                    yield page, kind, row, name
            if page.top.get("IsTruncated") != "true":
                return
            # S3 refuses an empty version-id-marker: a page that ends with a folder has none
            with self._checked("list", prefix):
                found = {name: page.marker(element) for name, element in markers.items()}
            following = {**first, **{name: value for name, value in found.items() if value}}
            if following in (first, sent):
                raise self._server.error(
                    BucketFailure.DAMAGED, f"cannot list {prefix}: the list does not continue"
                )
            sent = following
        raise self._server.error(
            BucketFailure.DAMAGED, f"cannot list {prefix}: it has more than {_MOST_PAGES:,} pages"
        )

    def _document(self, verb: str, name: str, query: Mapping[str, str], about: str = "") -> Page:
        end = time.monotonic() + self._waiting.longest
        while True:
            with self._checked(verb, name or about):
                page = object_storage.read_page(answer := self._send(verb, "GET", name, query))
            if page.root != "Error":
                return page
            error = self._server.refused(verb, name or about, f"HTTP 200 {answer.decode(errors='replace')}")
            if time.monotonic() > end:
                raise error
            time.sleep(self._waiting.first)

    @contextmanager
    def _checked(self, verb: str, name: str) -> Iterator[None]:
        """Turn parse errors in the block into BucketError (DAMAGED)."""
        try:
            yield
        except (ValueError, KeyError) as error:
            why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise self._server.error(
                BucketFailure.DAMAGED, f"cannot {verb} {name}: the response is not one of S3: {why}"
            ) from None

    def _send(self, verb: str, method: str, name: str, query: Mapping[str, str], body: bytes = b"") -> bytes:
        """Send a request with retries; BucketError if refused or out of time."""
        end, pause = time.monotonic() + self._waiting.longest, self._waiting.first
        while True:
            try:
                status, found = self._answer(self._request(method, name, query, body))
                if 200 <= status < 300:
                    return found
                error = self._server.refused(verb, name, f"HTTP {status} {found.decode(errors='replace')}")
            except (OSError, HTTPException) as failed:
                reason = failed.reason if isinstance(failed, urllib.error.URLError) else failed
                error = self._server.error(
                    BucketFailure.UNREACHABLE, f"cannot {verb} {name or 'objects'}: {reason}"
                )
            untrusted = "CERTIFICATE_VERIFY_FAILED" in error.message
            if error.kind is not BucketFailure.UNREACHABLE or untrusted or time.monotonic() + pause > end:
                raise error
            _log.debug("%s; retried", error.message)
            time.sleep(pause)
            pause *= 2

    def _answer(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the response; OSError or HTTPException on failure."""
        end, found = time.monotonic() + self._waiting.answer, b""
        with self._opened(request) as answer:
            while piece := answer.read1(_CHUNK):
                found += piece
                if len(found) > _LARGEST:
                    raise self._server.error(
                        BucketFailure.DAMAGED, f"the response is larger than {_LARGEST:,} bytes"
                    )
                if time.monotonic() > end:
                    raise TimeoutError(f"the response took longer than {self._waiting.answer:.0f} s")
            if answer.length:
                raise IncompleteRead(found, answer.length)
            return answer.status, found

    @contextmanager
    def _opened(self, request: Request) -> Iterator[Any]:
        """Send a request; yield its HTTPResponse, which is read to its end in the block: then its connection is used again."""
        if self._proxied:
            try:
                through = self._opener.open(request, timeout=self._waiting.answer)
            except urllib.error.HTTPError as refused:
                through = refused
            with through:
                yield through
            return
        connection, answer = self._sent(request)
        try:
            with answer:
                yield answer
        except BaseException:
            connection.close()
            raise
        self._idle.append((time.monotonic(), connection))

    def _sent(self, request: Request) -> tuple[HTTPConnection, HTTPResponse]:
        """Send a request; return its connection, and the response. If an idle connection was closed, it is sent by another."""
        while True:
            connection, is_new = self._connection()
            try:
                headers = {**request.headers, "User-Agent": "refnet"}
                connection.request(request.get_method(), request.selector, request.data, headers)
                return connection, connection.getresponse()
            except BaseException as error:
                connection.close()
                if is_new or not isinstance(error, (ConnectionError, ssl.SSLError)):
                    raise

    def _connection(self) -> tuple[HTTPConnection, bool]:
        """A connection without a request, and whether it is a new one. A handshake takes three round trips."""
        with suppress(IndexError):
            while True:
                since, connection = self._idle.pop()
                if time.monotonic() - since < _IDLE_SECONDS:
                    return connection, False
                connection.close()
        host, seconds = self._url.netloc, self._waiting.answer
        if self._url.scheme == "https":
            return HTTPSConnection(host, timeout=seconds, context=self._secure), True
        return HTTPConnection(host, timeout=seconds), True

    def _request(self, method: str, name: str, query: Mapping[str, str], body: bytes) -> Request:
        path = f"{self._url.path}/{quote(self._prefix + name, safe='/-_.~')}" if name else self._url.path
        text = "&".join(
            f"{quote(key, safe='')}={quote(value, safe='-_.~')}" for key, value in sorted(query.items())
        )
        headers = {
            "host": self._url.netloc,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
            **self._more,
        }
        if body:
            headers["content-type"] = "application/xml"  # else urllib names that of a form
            headers["content-md5"] = base64.b64encode(
                hashlib.md5(body, usedforsecurity=False).digest()
            ).decode()
        if self._credential.session_token:
            headers["x-amz-security-token"] = self._credential.session_token
        headers["authorization"] = self._signature(method, path, text, headers)
        url = f"{self._url.scheme}://{self._url.netloc}{path}" + (f"?{text}" if text else "")
        return Request(url, body or None, headers, method=method)  # noqa: S310  # http or https

    def _signature(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
        when, names = headers["x-amz-date"], ";".join(sorted(headers))
        lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
        signed = "\n".join([method, path, query, *lines, "", names, headers["x-amz-content-sha256"]])
        scope = f"{when[:8]}/{self._region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(signed.encode()).hexdigest()])
        key = f"AWS4{self._credential.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        who = f"{self._credential.access_key_id}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={who}, SignedHeaders={names}, Signature={signature}"


def _close(connections: deque[tuple[float, HTTPConnection]]) -> None:
    for _, one in connections:
        one.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that no other server gets the signature."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _of(version: str) -> dict[str, str]:
    return {"versionId": version} if version else {}
