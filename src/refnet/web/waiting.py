"""Waits with a time limit, and blocking work in a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from refnet.core.errors import RefnetError

#: The time limit of work that reads the backup folder or other files, in seconds.
SECONDS = 30.0
_Result = TypeVar("_Result")


async def within(seconds: float, what: str, work: Coroutine[Any, Any, _Result]) -> _Result:
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
