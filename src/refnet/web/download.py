"""The download of an artifact: exactly the bytes of its manifest, or an answer that is visibly cut off."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from typing import BinaryIO
from urllib.parse import quote

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Manifest
from refnet.core.errors import Exit, RefnetError

#: The most concurrent downloads; how long a client may take nothing, in seconds; the size of a block, in bytes.
MOST, STALLED, BLOCK = 4, 60.0, 1 << 20
_running: set[Download] = set()


def open_checked(artifact: OpenArtifact, manifest: Manifest) -> BinaryIO:
    """Open the file of `artifact`; RefnetError (DAMAGED) if its size differs from the manifest."""
    file = artifact.open()
    size = os.fstat(file.fileno()).st_size
    if size == manifest.size:
        return file
    file.close()
    message = f"{artifact.name} is damaged: it has {size:,} bytes, its manifest says {manifest.size:,}"
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
