"""Calls in threads that end with the process: one that is interrupted does not wait for a request that hangs."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


def in_background(
    call: Callable[_Arguments, _Value], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> Future[_Value]:
    """Start `call` in a thread of its own. The caller limits how many run at once."""
    future: Future[_Value] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # the future raises it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
