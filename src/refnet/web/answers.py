"""How requests are answered: with JSON, within a time limit, or by a stream of events."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Response

from refnet.core.errors import RefnetError
from refnet.core.formatting import plain

#: The longest line of an error, in characters.
MOST_LINE = 500
#: The time limit of work that reads the backup folder or other files, in seconds.
SECONDS = 30.0
#: The most streams of events, the interval of checks in seconds, and the unchanged checks after which an empty comment
#: is sent: only sending shows that a browser has left.
MOST_STREAMS, EVERY, IDLE = 32, 0.5, 30
_Result = TypeVar("_Result")


def json_text(text: str, status: int = 200) -> Response:
    """Return an answer with the JSON `text`."""
    return Response(text, status, media_type="application/json")


def json_of(values: Any, status: int = 200) -> Response:
    """Return an answer with `values` as JSON; undecodable bytes of names are escaped."""
    return json_text(json.dumps(values) + "\n", status)


def failed(status: int, error: str, hint: str) -> Response:
    """Return an answer with an error, as {error, hint}."""
    return json_of({"error": plain(error)[:MOST_LINE], "hint": plain(hint)[:MOST_LINE]}, status)


def read_text(text: str) -> str:
    """Return a client's `text`; ValueError if it contains a control character."""
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        raise ValueError("contains a control character")
    return text


async def within(seconds: float, what: str, work: Awaitable[_Result]) -> _Result:
    """Await `work` and return its result; RefnetError after `seconds`, even if it cannot be cancelled.

    what: the subject of that error.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(seen)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if done:
        return task.result()
    task.cancel()
    raise RefnetError(
        f"{what} did not answer within {seconds:g} s",
        "Retry later; /health names what fails.",
        transient=True,
    )


async def threaded(work: Callable[[], _Result], threads: CapacityLimiter) -> _Result:
    """Run the blocking `work` in one of `threads` and return its result; hanging work keeps its thread."""
    return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads)


def seen(task: asyncio.Task[Any]) -> None:
    """Mark the error of `task` as retrieved, as nobody may await it."""
    if not task.cancelled():
        task.exception()


class Streams:
    """The open server-sent events of one server: parts of a page, sent when they change."""

    def __init__(self) -> None:
        self._open = 0
        self._ending = asyncio.Event()

    @property
    def are_full(self) -> bool:
        return self._open >= MOST_STREAMS

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
