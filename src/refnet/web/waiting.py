"""Bounded waits: each ends in time, and what blocks runs in a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from refnet.core.errors import RefnetError

#: Seconds for what reads the backup folder or other files.
SECONDS = 30.0
_Result = TypeVar("_Result")


async def within(seconds: float, what: str, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of `work`; RefnetError if it takes longer, even where it cannot be cancelled.

    what: who did not answer.
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
    """Return the result of `work`, which blocks, from one of `threads`; one that hangs keeps its place there."""
    return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads)


def seen(task: asyncio.Task[Any]) -> None:
    """Take the error of `task`, for which nobody may ask later."""
    if not task.cancelled():
        task.exception()
