"""Fetches the open-access PDFs of papers into the attachments of a vault.

The links come from a provider, and their servers may be hostile: only public addresses are asked, each redirect is checked,
and the connection goes to the address that was checked, whatever the name means a moment later. A file gets its name, which no
server chooses, when it is complete.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from refnet import __version__
from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core.extras import needed
from refnet.core.files import explained, write_all
from refnet.network import SESSION, server_errors, vault_files
from refnet.network.frontmatter import NotOursError
from refnet.network.http_api import CONNECT, Connection, retry_after, transport
from refnet.network.jobs import printable
from refnet.network.reference_formats import citation_keys
from refnet.postgres.session import Target

with needed("network"):
    import httpx

_REDIRECTS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
#: Status of a server that may answer later; the wait if it names none, in seconds.
_BUSY, _PAUSE, _TRIES = frozenset({429, 503}), 5.0, 2
_LATER = "is busy; a later run fetches it"
#: The longest wait that a server may ask for, in seconds; a later run asks again.
_LONGEST_WAIT = 60.0
_TYPES = frozenset(
    {"", "application/pdf", "application/x-pdf", "application/octet-stream", "binary/octet-stream"}
)
_BEGIN, _END = b"%PDF-", b"%%EOF"
#: A PDF has its end within so many last bytes, as readers expect.
_TAIL = 1024
#: The most characters of a file name before the key.
_NAME = 100

_WANTED = """
SELECT p.title, p.open_access_url, a.name, p.year, e.ids
FROM papers p
JOIN (SELECT paper_id, array_agg(scheme || ':' || value ORDER BY scheme, value) AS ids FROM external_ids GROUP BY paper_id) e
    ON e.paper_id = p.id
LEFT JOIN ranks r ON r.paper_id = p.id
LEFT JOIN paper_authors w ON w.paper_id = p.id AND w.position = 1
LEFT JOIN authors a ON a.id = w.author_id
WHERE p.open_access_url IS NOT NULL AND p.details_fetched_at IS NOT NULL
ORDER BY r.position, p.citation_count DESC NULLS LAST, p.id LIMIT %s
"""


@dataclass(frozen=True)
class PdfLimits:
    """What a run fetches, and what a server may do."""

    #: The most papers.
    papers: int
    #: The largest PDF, in bytes.
    size: int
    #: HOST:PORT of servers that are not public and may be asked, also by http.
    servers: frozenset[str] = frozenset()
    #: For one request with its answer, and for each silence, in seconds.
    time: float = 300.0
    silence: float = 30.0
    #: Between two requests to one server, in seconds.
    gap: float = 1.0


@dataclass(frozen=True)
class MissingPdf:
    """A PDF that was not fetched."""

    title: str | None
    url: str
    reason: str


@dataclass
class FetchedPdfs:
    """The result of a run."""

    #: The new files, as paths in the vault; of a plan, what would be fetched.
    fetched: list[str] = field(default_factory=list)
    #: How many were there.
    there: int = 0
    missing: list[MissingPdf] = field(default_factory=list)


@dataclass(frozen=True)
class _Wanted:
    title: str | None
    url: str
    author: str | None
    year: int | None
    ids: list[str]

    @property
    def path(self) -> str:
        key = citation_keys([(0, self.author, self.year, self.title, "")])[0]
        return f"{vault_files.ATTACHMENTS}/{key[:_NAME]}-{vault_files.pdf_key(self.ids[0])}.pdf"


def fetch_pdfs(
    target: Target, folder: Path, limits: PdfLimits, progress: Progress = silent, *, plan: bool = False
) -> FetchedPdfs:
    """Fetch the PDFs of the best ranked papers with an open-access link, but for those that are there.

    RefnetError if the database or the vault `folder` cannot be used, LOCKED if another run fetches.
    """
    with (
        server_errors(target, "cannot be read", "Fix the cause and retry."),
        target.connect(SESSION) as connection,
    ):
        wanted = [_Wanted(*row) for row in connection.execute(_WANTED, [limits.papers])]
    with explained(folder), vault_files.vault_folder(folder, make=not plan) as vault:
        there = {} if vault is None else vault_files.pdfs(vault)
        missing = [one for one in wanted if not any(vault_files.pdf_key(each) in there for each in one.ids)]
        done = FetchedPdfs(there=len(wanted) - len(missing))
        if vault is None or plan:
            done.fetched += [one.path for one in missing]
            return done
        with vault_files.attachments(vault, folder), PdfClient(limits) as client:
            for count, one in enumerate(missing, 1):
                _fetch(one, vault, client, done)
                progress(Counted("PDFs", "PDFs"), count, len(missing))
    return done


def _fetch(wanted: _Wanted, vault: int, client: PdfClient, done: FetchedPdfs) -> None:
    def fill(handle: int) -> None:
        client.fetch(wanted.url, lambda data: write_all(handle, data))
        os.fsync(handle)

    try:
        vault_files.write(vault, wanted.path, fill)
        done.fetched.append(wanted.path)
    except (NoPdfError, NotOursError) as error:
        done.missing.append(MissingPdf(wanted.title, printable(wanted.url, 300), str(error)))


class NoPdfError(Exception):
    """A link that leads to no PDF; the reason, with the name of the server."""

    def __init__(self, url: httpx.URL, reason: str) -> None:
        super().__init__(f"{printable(url.host, 100) or 'the link'} {reason}")


class _BusyError(Exception):
    """The server asks for a wait, in seconds."""

    def __init__(self, after: float) -> None:
        super().__init__()
        self.after = after


class PdfClient:
    """Asks servers for PDFs, one at a time; a context manager."""

    def __init__(self, limits: PdfLimits, sleep: Callable[[float], None] = time.sleep) -> None:
        self._limits = limits
        self._sleep = sleep
        #: Server → when it may be asked again, by the monotonic clock.
        self._free_at: dict[str, float] = {}
        self._connection = Connection()
        self._client = httpx.Client(
            headers={
                "Accept": "application/pdf,*/*;q=0.5",
                "Accept-Encoding": "identity",
                "User-Agent": f"refnet/{__version__}",
            },
            timeout=httpx.Timeout(limits.silence, connect=CONNECT),
            # A connection belongs to the name whose certificate was checked, not to its address.
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
            verify=httpx.create_ssl_context(),
            trust_env=False,  # a proxy would look the name up once more
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, link: str, write: Callable[[bytes], None]) -> None:
        """Pass the PDF at `link` to `write` in parts; NoPdfError, also after some parts."""
        url = _joined(httpx.URL("https://"), link)
        for _ in range(_REDIRECTS + 1):
            moved = self._asked(url, write)
            if moved is None:
                return
            url = _joined(url, moved)
        raise NoPdfError(url, f"redirects more than {_REDIRECTS} times")

    def _asked(self, url: httpx.URL, write: Callable[[bytes], None]) -> str | None:
        """Ask, and once more if the server is busy; return the target of a redirect, or None after a PDF."""
        if url.scheme == "http" and url.port is None and f"{url.host}:80" not in self._limits.servers:
            url = url.copy_with(scheme="https")
        address = self._address(url)
        for _ in range(_TRIES):
            self._wait(url)
            try:
                return self._requested(url, address, write)
            except _BusyError as error:
                self._free_at[url.host] = time.monotonic() + error.after
        self._free_at[url.host] = math.inf  # its other PDFs need no tries in this run
        raise NoPdfError(url, _LATER)

    def _wait(self, url: httpx.URL) -> None:
        left = self._free_at.get(url.host, 0) - time.monotonic()
        if left > _LONGEST_WAIT:
            raise NoPdfError(url, _LATER)
        if left > 0:
            self._sleep(left)
        self._free_at[url.host] = time.monotonic() + self._limits.gap

    def _address(self, url: httpx.URL) -> str:
        """Return the address of the server of `url`; NoPdfError if it may not be asked."""
        port = url.port or (80 if url.scheme == "http" else 443)
        is_named = f"{url.host}:{port}" in self._limits.servers
        is_usable = 0 < port < 1 << 16 and not url.userinfo
        if not is_usable or (url.scheme != "https" and not (is_named and url.scheme == "http")):
            raise NoPdfError(url, "has a link that is not https, or with a password")
        try:
            found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NoPdfError(url, "cannot be resolved") from None
        addresses = [str(one[4][0]) for one in sorted(found, key=lambda one: one[0] is not socket.AF_INET)]
        if not is_named and not all(map(is_public, addresses)):
            raise NoPdfError(url, "is not on the public internet")
        return addresses[0]

    def _requested(self, url: httpx.URL, address: str, write: Callable[[bytes], None]) -> str | None:
        limits = self._limits
        self._client.cookies.clear()
        request = self._client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode()},
            extensions={"sni_hostname": url.raw_host.decode(), "trace": self._connection.trace},
        )
        with self._connection.bounded(limits.time) as is_late:
            try:
                with closing(self._client.send(request, stream=True)) as response:
                    return self._read(url, response, write)
            except (httpx.TransportError, NoPdfError) as error:
                if is_late.is_set():
                    raise NoPdfError(url, f"did not finish its response within {limits.time:.0f} s") from None
                if isinstance(error, NoPdfError):
                    raise
                raise NoPdfError(url, transport(error, limits.silence)) from None
            except UnicodeError:  # httpx reads the target of a redirect too, and lets this through
                raise NoPdfError(url, "redirects to an invalid link") from None

    def _read(self, url: httpx.URL, response: httpx.Response, write: Callable[[bytes], None]) -> str | None:
        status, headers = response.status_code, response.headers
        if status in _MOVED and "location" in headers:
            return str(headers["location"])
        if status in _BUSY:
            raise _BusyError(retry_after(headers.get("retry-after"), datetime.now(UTC)) or _PAUSE)
        if status != 200:
            raise NoPdfError(url, f"answered with status {status}")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise NoPdfError(url, f"sent {printable(kind, 60)} instead of a PDF")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise NoPdfError(url, "sent a compressed response, which nobody asked for")
        self._save(url, response, write)
        return None

    def _save(self, url: httpx.URL, response: httpx.Response, write: Callable[[bytes], None]) -> None:
        too_large = NoPdfError(url, f"sent more than {self._limits.size:,} bytes (crawl.pdf_bytes)")
        length = response.headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length[:20]) > self._limits.size:
            raise too_large
        begin, end, size = b"", b"", 0
        for part in response.iter_raw():
            size += len(part)
            begin, end = (begin + part[: len(_BEGIN)])[: len(_BEGIN)], (end + part)[-_TAIL:]
            if size > self._limits.size:
                raise too_large
            if not _BEGIN.startswith(begin):
                raise NoPdfError(url, "sent something that is not a PDF")
            write(part)
        if begin != _BEGIN or _END not in end:
            raise NoPdfError(url, "sent a truncated PDF")


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, and no other address is inside it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast
    return found in _PUBLIC and found.is_global and not (found.sixtofour or found.teredo)


_PUBLIC = ipaddress.ip_network("2000::/3")


def _joined(url: httpx.URL, link: str) -> httpx.URL:
    try:
        found = url.join(link)
        _ = found.host  # decoded only now
    except (httpx.InvalidURL, ValueError):
        raise NoPdfError(url, f"has an invalid link: {printable(link, 100)}") from None
    return found
