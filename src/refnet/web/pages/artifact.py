"""`/artifacts/{source}/{name}`: one artifact with content, evidence, copies and download.

A download is exactly the bytes of the manifest, or an answer that is visibly cut off.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from refnet import wiring
from refnet.actions.catalog import notes
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry, Manifest, Unprotected
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import left_out, size
from refnet.sources import kind_of
from refnet.web.child_process import last_error, printed
from refnet.web.pages.base import fragment, page, reading, short
from refnet.web.shared_facts import Artifacts, artifacts

router = APIRouter(include_in_schema=False)
#: Limits of a page: tables or files, lines of evidence, other lines.
CONTENTS, LINES, SENTENCES = 500, 100, 50
#: Of downloads: the most at once; how long a client may take nothing, in seconds; the size of a block, in bytes.
MOST, STALLED, BLOCK = 4, 60.0, 1 << 20
_running: set[Download] = set()
_PATH = "/artifacts/{source}/{name}"


@dataclass(frozen=True)
class ArtifactContents:
    """The tables or files of an artifact, or the reason why they cannot be shown."""

    #: `tables` or `files`.
    what: str
    #: As printed by `refnet show`, at most CONTENTS.
    first: list[dict[str, Any]] = field(default_factory=list)
    #: The number of all tables or files.
    total: int = 0
    trouble: RefnetError | None = None


@router.get(_PATH)
async def artifact_page(request: Request, source: str, name: str) -> Response:
    """Show one artifact; with `?contents=yes` also its tables or files, for browsers without JavaScript."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    wanted = request.query_params.get("contents") == "yes" and lists(found, entry, store)
    contents = await _contents(request, entry) if wanted else None
    return page(
        request, "artifact.html.j2", entry=entry, store=store, facts=[*_facts(entry.manifest)], found=found,
        notes=notes(entry, found.facts.now), places=found.places(entry), contents=contents,
        evidence=entry.evidence[: -LINES - 1 : -1], lists=lists(found, entry, store),
        can_download=not (store or found.settings.encryption_local), sentences=SENTENCES,
    )  # fmt: skip


@router.get(f"{_PATH}/contents")
async def artifact_contents(request: Request, source: str, name: str) -> Response:
    """Return the tables or files of an artifact, as a part of its page."""
    found = await artifacts(request)
    entry, store = found.find(source, name)
    if not lists(found, entry, store):
        raise RefnetError(
            f"{name[:100]} has no list of its content on this page", "Use `refnet show`.", Exit.USAGE
        )
    return fragment(request, "artifact_contents.html.j2", contents=await _contents(request, entry))


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
    return Download(file, entry.manifest)


def lists(found: Artifacts, entry: Entry, store: str) -> str:
    """Return the kind of list (tables, files) of `entry` that is readable without the recovery key; "": none."""
    return "" if store or found.settings.encryption_local else kind_of(entry.source).contains


async def _contents(request: Request, entry: Entry) -> ArtifactContents:
    what = kind_of(entry.source).contains  # also the option of `refnet show` that lists it
    hint = f"Run it in a terminal: refnet show {entry.name} --{what}"
    unreadable = ("the list of its content cannot be read", hint)
    try:
        output = await short(request, ["show", entry.name, f"--{what}", "--json"])
        if output.code != Exit.DONE:
            return ArtifactContents(what, trouble=RefnetError(*(last_error(output.stderr) or unreadable)))
        said = printed(output.stdout)
        return ArtifactContents(what, said[what][:CONTENTS], said["total"])
    except RefnetError as error:
        return ArtifactContents(what, trouble=error)
    except (ValueError, LookupError, TypeError):
        return ArtifactContents(what, trouble=RefnetError(*unreadable))


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


class Download(Response):
    """An answer with the bytes of `file`, which it closes. The last block is sent only if the SHA-256 matches."""

    def __init__(self, file: BinaryIO, manifest: Manifest) -> None:
        super().__init__(media_type="application/octet-stream")
        self._file, self._manifest = file, manifest
        self.headers["content-length"] = str(manifest.size)
        self.headers["content-disposition"] = disposition(manifest.name)

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
        digest, left = hashlib.sha256(), self._manifest.size

        def read() -> bytes:
            found = self._file.read(min(BLOCK, left))
            digest.update(found)
            return found

        while left or not self._manifest.size:
            block = await to_thread.run_sync(read)
            left -= len(block)
            if (left and not block) or (not left and digest.hexdigest() != self._manifest.sha256):
                logging.getLogger("refnet").warning(
                    "%s is damaged: its download was ended", self._manifest.name
                )
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
