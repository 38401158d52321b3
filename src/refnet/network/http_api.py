"""Requests to a web API that answers JSON: rate-limited, with retries, and with bounds on every answer.

The server may be hostile or broken: an answer is streamed, measured after decompression, and has a time limit.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.extras import needed
from refnet.network.jobs import printable
from refnet.network.rate_limit import LONGEST, Limiter

with needed("network"):
    import httpx
    import tenacity

_log = logging.getLogger("refnet")
#: httpx logs the URL of each request, which contains OpenAlex's key.
logging.getLogger("httpx").setLevel(logging.WARNING)

#: The longest answer and the longest error, in bytes after decompression.
LONGEST_ANSWER = 64 << 20
_LONGEST_ERROR = 64 << 10
#: The most values of an answer, counted by commas, as each takes more memory than its bytes.
_MOST_VALUES = 2_000_000
#: Time limit of a complete answer, in seconds.
_PATIENCE = 120.0
#: Time limit of connecting, in seconds.
CONNECT = 10.0
_TRIES = 5
_REDIRECTS = 3
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
#: The shortest wait that is announced, in seconds.
_LONG = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class ApiServer:
    """A server: address, credentials, and names for messages."""

    #: For messages, such as "Semantic Scholar".
    name: str
    #: The URL with the prefix of all paths, without a final slash.
    url: str
    #: The name of the setting with the API key.
    key_setting: str
    #: Headers and parameters of each request, including the API key.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_key: bool = False
    #: How long the server may be silent, in seconds.
    silence: float = 30.0
    #: The hint for "too many requests" in spite of a key.
    when_limited: str = "Lower crawl.requests_per_second, or wait."

    @property
    def shown(self) -> str:
        """Name and address for messages, without credentials."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{self.name} ({parts.hostname}{port})"


class UnavailableError(RefnetError):
    """The server gave no valid answer after all retries. `limited`: it answered "too many requests"."""

    def __init__(self, server: ApiServer, reason: str, limited: bool = False) -> None:
        if limited and not server.has_key:
            hint = f"Without a key all users share one limit: set {server.key_setting} to a key of your own."
        elif limited:
            hint = server.when_limited
        else:
            hint = (
                "Retry later; if the error persists, check the server's URL in the settings, and the network."
            )
        super().__init__(f"{server.shown} {reason}", hint, transient=True)
        self.limited = limited


class RefusedRequestError(RefnetError):
    """The request is refused: by the server with `status`, or by RefNet (0)."""

    def __init__(self, message: str, hint: str, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status
        #: Every other request will be refused too.
        self.is_final = status in {0, 401, 403}


class _RetryError(Exception):
    """A failure that a retry may overcome."""

    def __init__(self, reason: str, after: float = 0.0, limited: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        #: The wait that the server asks for, in seconds.
        self.after = after
        self.limited = limited


class Connection:
    """The connection of a client, which is kept between requests."""

    _stream: Any = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the stream of a connection; httpx calls it as the extension `trace` of a request."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._stream = info["return_value"]

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[threading.Event]:
        """Close the connection if the block takes too long: httpx limits each silence, but no slow drip."""
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            with suppress(OSError, AttributeError):  # it is closed already, or was never open
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield is_late
        finally:
            timer.cancel()


class Api:
    """A client of one server, for use in one thread; a context manager.

    Args:
        say: called with a sentence before a long wait.
        sleep: sleeps for some seconds.
        pace: the factor for waits between retries.
    """

    def __init__(
        self,
        server: ApiServer,
        limiter: Limiter,
        *,
        say: Callable[[str], None] = _log.warning,
        sleep: Callable[[float], None] = time.sleep,
        pace: float = 1.0,
    ) -> None:
        self.server = server
        #: The number of sent requests.
        self.requests = 0
        self._limiter = limiter
        self._say = say
        self._sleep = sleep
        self._pace = pace
        self._connection = Connection()
        self._client = httpx.Client(
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": "refnet",
                **server.headers,
            },
            timeout=httpx.Timeout(server.silence, connect=CONNECT),
            limits=httpx.Limits(max_connections=1),
            follow_redirects=False,
            trust_env=urlsplit(server.url).hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, str]) -> Any:
        """Return the JSON at `path` (escaped, with a leading slash); None for 404. UnavailableError, RefusedRequestError."""
        return self._retried(lambda: self._redirected(f"{self.server.url}{path}", params))

    def post(self, path: str, params: Mapping[str, str], content: object) -> Any:
        """Post the JSON `content` to `path` and return the JSON answer, like `get`; retries must be harmless."""
        return self._retried(lambda: self._asked("POST", f"{self.server.url}{path}", params, content)[1])

    def _retried(self, ask: Callable[[], Any]) -> Any:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_RetryError),
            stop=_is_last,
            wait=self._pause,
            sleep=self._sleep,
            before_sleep=self._announce,
            reraise=True,
        )
        try:
            return retrying(ask)
        except _RetryError as error:
            raise UnavailableError(self.server, error.reason, error.limited) from None

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return the wait before the next try, in seconds: as the server asks, else exponential; with jitter."""
        error = _error_of(state)
        if error.after:
            self._limiter.push(error.after)
            return error.after + random.random() * self._pace  # noqa: S311  # jitter
        first = 4.0 if error.limited else 1.0
        doubled = float(2 ** (state.attempt_number - 1))
        return first * self._pace * doubled * (0.5 + random.random())  # noqa: S311  # jitter

    def _announce(self, state: tenacity.RetryCallState) -> None:
        if state.upcoming_sleep >= _LONG:
            until = "as it asks" if _error_of(state).after else "before the next try"
            self._say(
                f"{self.server.shown} {_error_of(state).reason}: waiting {state.upcoming_sleep:,.0f} s {until}"
            )

    def _redirected(self, url: str, params: Mapping[str, str]) -> Any:
        """Request `url`, and follow redirects on the same server."""
        for _ in range(_REDIRECTS + 1):
            moved, found = self._asked("GET", url, params)
            if moved is None:
                return found
            there = _same_server(url, moved)
            if there is None:
                raise RefusedRequestError(
                    f"{self.server.shown} redirects to another server: {printable(moved, 100)}",
                    "RefNet does not follow such redirects. If the server has moved, change its URL in the settings.",
                )
            url, params = there, {}
        raise UnavailableError(self.server, f"redirects more than {_REDIRECTS} times")

    def _asked(
        self, method: str, url: str, params: Mapping[str, str], content: object = None
    ) -> tuple[str | None, Any]:
        """Send one request; return the redirect's target and None, or None and the JSON."""
        self._limiter.wait()
        self.requests += 1
        self._client.cookies.clear()  # store nothing that a server sends
        with self._connection.bounded(_PATIENCE + self.server.silence) as is_late:
            try:
                full = httpx.URL(url).copy_merge_params({**params, **self.server.params})
                trace = {"trace": self._connection.trace}
                request = self._client.build_request(method, full, json=content, extensions=trace)
                with closing(self._client.send(request, stream=True)) as response:
                    return self._read(response)
            except httpx.TransportError as error:
                late = f"did not finish its response within {_PATIENCE:.0f} s"
                raise _RetryError(
                    late if is_late.is_set() else transport(error, self.server.silence)
                ) from None
            except (httpx.InvalidURL, UnicodeError) as error:  # the latter of a redirect's target, from idna
                raise RefusedRequestError(
                    f"{self.server.shown} cannot be requested: {printable(str(error), 200)}",
                    "Check the URL of the server in the settings, and the id.",
                ) from None

    def _read(self, response: httpx.Response) -> tuple[str | None, Any]:
        status, headers = response.status_code, response.headers
        if status == 200:
            return None, _parsed(headers, read_body(headers, response.iter_raw()))
        said = _said(response)  # an unread body would end the connection
        if status == 404:
            return None, None
        if status in {301, 302, 307, 308} and "location" in headers:
            return headers["location"], None
        if status in _TRANSIENT:
            why = "reports too many requests" if status == 429 else f"returned status {status}"
            raise _RetryError(why, retry_after(headers.get("retry-after"), datetime.now(UTC)), status == 429)
        raise self._refused(status, said)

    def _refused(self, status: int, said: str) -> RefnetError:
        for secret in (*self.server.headers.values(), *self.server.params.values()):  # it may repeat the key
            said = said.replace(secret.rpartition(" ")[2], "(the key)")
        if status in {401, 403}:
            key = self.server.key_setting
            return RefusedRequestError(
                f"{self.server.shown} refuses {'the key' if self.server.has_key else 'requests without a key'}{said}",
                f"{'Fix' if self.server.has_key else 'Set'} {key}.",
                status,
            )
        return RefusedRequestError(
            f"{self.server.shown} refuses the request with status {status}{said}",
            "Check the ids. If they are correct, this version of RefNet does not support that server.",
            status,
        )


def read_body(headers: Mapping[str, str], chunks: Iterable[bytes], longest: int = LONGEST_ANSWER) -> bytes:
    """Return the decompressed body of an answer, of at most `longest` bytes; _RetryError otherwise."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "", "gzip", "x-gzip"}:
        raise _RetryError(f"sends an unsupported content encoding ({printable(encoding, 40)})")
    inflate = zlib.decompressobj(31) if "gzip" in encoding else None
    end = time.monotonic() + _PATIENCE
    parts, size = [], 0
    for chunk in chunks:
        rest = chunk
        while rest:
            part, rest = _inflated(inflate, rest, longest + 1 - size) if inflate else (rest, b"")
            parts.append(part)
            size += len(part)
            if size > longest:
                raise _RetryError(f"sends more than {longest >> 20} MiB")
        if time.monotonic() > end:
            raise _RetryError(f"did not finish its response within {_PATIENCE:.0f} s")
    if inflate and not inflate.eof:
        raise _RetryError("sent a truncated response")
    return b"".join(parts)


def retry_after(value: str | None, now: datetime) -> float:
    """Return the wait of a header `Retry-After` (seconds or a date), in seconds, at most LONGEST; 0: none."""
    if value is None or not value.isascii():
        return 0.0
    if value.strip().isdecimal():
        return min(float(value.strip()[:10]), LONGEST)
    try:
        at = parsedate_to_datetime(value[:100])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return min(max((at - now).total_seconds(), 0.0), LONGEST)
    except (ValueError, OverflowError):
        return 0.0


def _inflated(inflate: Any, data: bytes, most: int) -> tuple[bytes, bytes]:
    """Return at most `most` bytes of decompressed data, and the remaining input."""
    try:
        part = inflate.decompress(data, most)
    except zlib.error:
        raise _RetryError("sent a response that is not valid gzip") from None
    if inflate.unused_data:
        raise _RetryError("sent data after its compressed response")
    return part, inflate.unconsumed_tail


def _parsed(headers: Mapping[str, str], body: bytes) -> Any:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and not (kind.startswith(("application/", "text/")) and kind.endswith("json")):
        raise _RetryError(f"returned {printable(kind, 60)} instead of JSON")
    if body.count(b",") > _MOST_VALUES:
        raise _RetryError(f"sends more than {_MOST_VALUES:,} values")
    try:
        return checked.parsed(body, LONGEST_ANSWER)
    except ValueError:
        raise _RetryError("sent a response that is not JSON, or is truncated") from None


def _said(response: httpx.Response) -> str:
    """Return the server's reason for its refusal, after a colon; "" if there is none that is safe to show."""
    try:
        values = checked.document(read_body(response.headers, response.iter_raw(), _LONGEST_ERROR))
    except (ValueError, _RetryError, httpx.TransportError):
        return ""
    found = values.get("error") or values.get("message")
    found = found.get("message") if isinstance(found, dict) else found
    return f": {printable(found, 300)}" if isinstance(found, str) else ""


def transport(error: httpx.TransportError, silence: float) -> str:
    """Return what happened to a connection, to follow the server's name. silence: the limit of each, in seconds."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"does not accept a connection within {CONNECT:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"sent nothing for {silence:.0f} s"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached: {printable(str(error), 200)}"
    return "closed the connection in the middle of a response"


def _is_last(state: tenacity.RetryCallState) -> bool:
    return state.attempt_number >= _TRIES or state.idle_for + state.upcoming_sleep > LONGEST + 60


def _error_of(state: tenacity.RetryCallState) -> _RetryError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _RetryError)  # noqa: S101  # nothing else is retried
    return error


def _same_server(url: str, location: str) -> str | None:
    """Return the target of a redirect if it is on the same server, else None."""
    try:
        there = urljoin(url, location)
        mine, its = ((one.scheme, one.hostname, one.port) for one in (urlsplit(url), urlsplit(there)))
    except ValueError:  # an invalid host or port
        return None
    return there if mine == its else None
