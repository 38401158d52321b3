"""Calls in daemon threads: an interrupted process does not wait for a hanging request."""

import ctypes
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")
#: mallopt's number for the size from which a block is memory of its own, and that size in bytes.
_MMAP_THRESHOLD, _LARGE = -3, 4 << 20


def in_background(
    call: Callable[_Arguments, _Value], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> Future[_Value]:
    """Start `call` in a new thread. The caller limits their number."""
    return_large_blocks()
    future: Future[_Value] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # the future raises it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


@cache
def return_large_blocks() -> None:
    """Make glibc return large blocks to the system; otherwise it keeps several 16 MiB pieces per thread."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
