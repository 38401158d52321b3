"""`/artifacts/{source}/{name}`: one artifact with content, evidence, copies and download.

A download is exactly the bytes of the manifest, or an answer that is visibly cut off.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from refnet import wiring
from refnet.actions.list import notes
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry, Manifest, Unprotected
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import left_out, size
from refnet.core.member_names import show
from refnet.sources import kind_of
from refnet.sources.folder.browsing import FolderPage
from refnet.sources.folder.files_artifact import archive_errors
from refnet.web.child_process import printed
from refnet.web.contents import ROWS, Part, contents_of, tables_of
from refnet.web.pages.base import fragment, page, reading, short
from refnet.web.shared_facts import Artifacts, artifacts

router = APIRouter(include_in_schema=False)
#: Limits of a page: lines of evidence, other lines.
LINES, SENTENCES = 100, 50
#: Of downloads: the most at once; how long a client may take nothing, in seconds; the size of a block, in bytes.
MOST, STALLED, BLOCK = 4, 60.0, 1 << 20
_running: set[Download] = set()
_PATH = "/artifacts/{source}/{name}"


@dataclass(frozen=True)
class ArtifactContents:
    """A page of the files or tables of an artifact, or the reason why they cannot be shown."""

    #: `tables` or `files`.
    what: str
    asked: Part = Part()
    #: Of tables, and of files that no list names: as `refnet show` prints them, at most ROWS.
    lines: Sequence[Any] = ()
    #: The lines of all pages.
    total: int = 0
    #: Of files with a list.
    folder: FolderPage | None = None
    trouble: RefnetError | None = None

    @property
    def last(self) -> int:
        """The number of the last page."""
        return max(1, -(-self.total // ROWS))


@router.get(_PATH)
async def artifact_page(request: Request, source: str, name: str) -> Response:
    """Show one artifact with a page of its files; its tables follow as a part, or with `?contents=yes`."""
    found, asked = await artifacts(request), Part.of(request)
    entry, store = found.find(source, name)
    what = lists(found, entry, store)
    at_once = what == "files" or asked != Part() or request.query_params.get("contents") == "yes"
    contents = await _contents(request, found, entry, asked) if what and at_once else None
    return page(
        request, "artifact.html.j2", entry=entry, store=store, facts=[*_facts(entry.manifest)], found=found,
        details=entry.manifest.details, place=_place(entry.manifest), since=unchanged_since(found.of(entry.source, store), entry),
        notes=notes(entry, found.facts.now), places=found.places(entry), contents=contents,
        evidence=entry.evidence[: -LINES - 1 : -1], lists=what,
        can_download=not (store or found.settings.encryption_local), sentences=SENTENCES,
    )  # fmt: skip


@router.get(f"{_PATH}/contents")
async def artifact_contents(request: Request, source: str, name: str) -> Response:
    """Return the tables or files of an artifact, as a part of its page."""
    found = await artifacts(request)
    entry = listed(found, source, name)
    contents = await _contents(request, found, entry, Part.of(request))
    return fragment(request, "artifact_contents.html.j2", contents=contents, entry=entry)


def listed(found: Artifacts, source: str, name: str, what: str = "") -> Entry:
    """Return an artifact whose content a page can show; RefnetError (USAGE) for another.

    what: the kind of its parts, tables or files; "": either.
    """
    entry, store = found.find(source, name)
    if (there := lists(found, entry, store)) and what in ("", there):
        return entry
    raise RefnetError(
        f"{name[:100]} has no {what or 'content'} that a page can show",
        "Use `refnet show` in a terminal.",
        Exit.USAGE,
    )


def unchanged_since(entries: Sequence[Entry], entry: Entry) -> datetime | None:
    """Return the time of the first artifact that had the same content, as had all since; None: it has changed.

    Of a folder, the bytes of the artifacts are compared, of a database the digests of its rows.
    """
    since = None
    for one in sorted(entries, key=lambda one: one.made, reverse=True):
        if one.made >= entry.made or not one.complete:
            continue
        rows = entry.row_digests and one.row_digests == entry.row_digests
        if not rows and one.manifest.sha256 != entry.manifest.sha256:
            break
        since = one.created
    return since


@router.get(f"{_PATH}/download")
async def artifact_download(request: Request, source: str, name: str) -> Response:
    """Send the file of an artifact in the backup folder."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    if store or found.settings.encryption_local:
        where = f" --store {store}" if store else ""
        hint = f"It needs the recovery key: refnet fetch {name}{where} --identity-file FILE"
        raise RefnetError(f"{name} is encrypted, and is not downloaded from here", hint, Exit.USAGE)
    opened = wiring.store(found.settings).artifact(entry)
    file = await reading(request, "the backup folder", lambda: open_checked(opened, entry.manifest))
    return Download(file, entry.name, entry.manifest.size, entry.manifest.sha256)


def lists(found: Artifacts, entry: Entry, store: str) -> str:
    """Return the kind of list (tables, files) of `entry` that is readable without the recovery key; "": none."""
    return "" if store or found.settings.encryption_local else kind_of(entry.source).contains


async def _contents(request: Request, found: Artifacts, entry: Entry, asked: Part) -> ArtifactContents:
    what = kind_of(entry.source).contains  # also the option of `refnet show` that lists it
    try:
        if what == "tables":
            tables = tables_of(await tables_in(request, entry), asked)
            return ArtifactContents(what, asked, tables[asked.first : asked.first + ROWS], len(tables))
        if entry.manifest.files_sha256 is None:
            return await _unlisted(request, entry)
        folder = await reading(request, "the list of files", partial(_folder, request, found, entry, asked))
        return ArtifactContents(what, asked, folder.lines, folder.total, folder)
    except RefnetError as error:
        return ArtifactContents(what, asked, trouble=error)


async def tables_in(request: Request, entry: Entry) -> list[dict[str, Any]]:
    """Return the tables of an artifact, as `refnet show --tables` prints them; RefnetError if that fails."""
    kept = contents_of(request)
    if (known := kept.tables(entry)) is not None:
        return known
    output = await short(request, ["show", entry.name, "--tables", "--json"])
    try:
        return kept.keep_tables(entry, printed(output.stdout)["tables"])
    except (ValueError, LookupError):
        hint = f"Run it in a terminal: refnet show {entry.name} --tables"
        raise output.error("its tables cannot be listed", hint) from None


def _folder(request: Request, found: Artifacts, entry: Entry, asked: Part) -> FolderPage:
    artifact = wiring.store(found.settings).artifact(entry)
    names = contents_of(request).names(artifact)
    with archive_errors(entry.name):
        if asked.search:
            return names.search(asked.search, asked.first, ROWS)
        try:
            return names.page(asked.path, asked.first, ROWS)
        except LookupError:
            raise RefnetError(
                f"{entry.name} has no folder {show(asked.path)}", "Search for its name.", Exit.USAGE
            ) from None


async def _unlisted(request: Request, entry: Entry) -> ArtifactContents:
    """The first files of an archive without a list, which is read in a process of its own."""
    output = await short(request, ["show", entry.name, "--files", "--json"])
    try:
        said = printed(output.stdout)
        return ArtifactContents("files", lines=said["files"][:ROWS], total=said["total"])
    except (ValueError, LookupError, TypeError):
        hint = f"Run it in a terminal: refnet show {entry.name} --files"
        raise output.error("its files cannot be listed", hint) from None


def _place(manifest: Manifest) -> str:
    """Return what an artifact is of, in words: a folder, a file of SQLite, or a database and its server."""
    details = manifest.details
    where = details.get("folder") or details.get("path") or details.get("database") or ""
    version = details.get("server_version")
    return f"{where} (PostgreSQL {version})"[:500] if where and version else str(where)[:500]


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield label and text of the manifest's other facts; its details may contain anything."""
    yield "SHA-256", manifest.sha256
    if manifest.compared:
        yield "compared with the source", manifest.compared
    yield "made by", manifest.made_by[:200]
    if manifest.is_unknown:
        yield "database", "unknown: not recorded"
    plain = [(n, v) for n, v in manifest.details.items() if v is not None and not isinstance(v, (dict, list))]
    for name, value in plain[:SENTENCES]:
        yield ("digest" if name == "state" else name.replace("_", " ")[:100]), _value(name, value)
    if excluded := left_out(manifest.details):
        yield "left out", excluded
    if lacks := Unprotected.read(manifest.details):
        yield "not protected", str(lacks)


def _value(name: str, value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value)[:500]
    return f"{size(value)} ({value:,} bytes)" if name.endswith("bytes") else f"{value:,}"


def open_checked(artifact: OpenArtifact, manifest: Manifest) -> BinaryIO:
    """Open the file of `artifact`; RefnetError (DAMAGED) if its size differs from the manifest."""
    file = artifact.open()
    there = os.fstat(file.fileno()).st_size
    if there == manifest.size:
        return file
    file.close()
    message = f"{artifact.name} is damaged: it has {there:,} bytes, its manifest says {manifest.size:,}"
    raise RefnetError(message, "Choose another artifact, or a copy of it.", Exit.DAMAGED)


class Readable(Protocol):
    """What a download reads, and closes."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Download(Response):
    """An answer with the `size` bytes of `file`, which it closes. The last block is sent only if the SHA-256 matches."""

    def __init__(self, file: Readable, name: str, size: int, sha256: str) -> None:
        super().__init__(media_type="application/octet-stream")
        self._file, self._name, self._size, self._sha256 = file, name, size, sha256
        self.headers["content-length"] = str(size)
        self.headers["content-disposition"] = disposition(name)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._file):
            if len(_running) >= MOST:
                raise RefnetError(f"{MOST} downloads run already", "Retry when one has ended.", Exit.LOCKED)
            _running.add(self)
            gone = asyncio.ensure_future(_gone(receive))
            try:
                with suppress(TimeoutError, OSError):  # the client has disconnected or stalls
                    await self._send(send, gone)
            finally:
                gone.cancel()
                _running.discard(self)

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await asyncio.wait_for(send(head), STALLED)
        async for block, last in self._blocks():
            if gone.done():
                return
            body = {"type": "http.response.body", "body": block, "more_body": not last}
            await asyncio.wait_for(send(body), STALLED)

    async def _blocks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield each block, and whether it is the last; omit the last block of a damaged artifact."""
        digest, left = hashlib.sha256(), self._size

        def read() -> bytes:
            found = self._file.read(min(BLOCK, left))
            digest.update(found)
            return found

        while left or not self._size:
            block = await to_thread.run_sync(read)
            left -= len(block)
            if (left and not block) or (not left and digest.hexdigest() != self._sha256):
                logging.getLogger("refnet").warning("%s is damaged: its download was ended", self._name)
                return
            yield block, not left
            if not left:
                return


async def _gone(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def disposition(name: str) -> str:
    """Return the value of Content-Disposition for a file of any name."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in name)
    encoded = quote(name, safe="", errors="replace")
    more = "" if plain == name else f"; filename*=UTF-8''{encoded}"
    return f'attachment; filename="{plain}"{more}'
