"""Server-sent events: parts of a page, sent when they change; a limited number, ended by the stop of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from refnet.core.errors import RefnetError

#: The most streams, the interval of checks in seconds, and the unchanged checks after which an empty comment is sent:
#: only sending shows that a browser has left.
MOST, EVERY, IDLE = 32, 0.5, 30


class Streams:
    """The open streams of one server."""

    def __init__(self) -> None:
        self._open = 0
        self._ending = asyncio.Event()

    @property
    def are_full(self) -> bool:
        return self._open >= MOST

    def end(self) -> None:
        """End all streams, also later ones."""
        self._ending.set()

    async def follow(self, look: Callable[[], Awaitable[tuple[str, bool]]]) -> AsyncIterator[str]:
        """Yield events with the HTML of `look` whenever it changes; after the last one (True) the event `done`."""
        if self.are_full:
            return
        self._open += 1
        try:
            shown, same = "", 0
            while not self._ending.is_set():
                try:
                    html, last = await look()
                except RefnetError:  # the reloaded page reports it
                    return
                same = same + 1 if html == shown else 0
                if html != shown:
                    yield "".join(f"data: {line}\n" for line in html.split("\n")) + "\n"
                elif same % IDLE == 0:
                    yield ":\n\n"
                shown = html
                if last:
                    yield "event: done\ndata: \n\n"
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), EVERY)
        finally:
            self._open -= 1
