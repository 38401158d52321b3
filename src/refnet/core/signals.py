"""SIGINT, SIGTERM and SIGHUP end a program by KeyboardInterrupt, so that every block cleans up.

Celery's workers and beat replace these handlers by their own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class _State:
    #: A signal came.
    ending: bool = False
    #: A `delayed` block runs.
    delayed: bool = False
    #: The signal that came.
    number: int = 0


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGINT, SIGTERM or SIGHUP in the block; ignore later ones.

    So no signal interrupts the cleanup. An inherited SIG_IGN is kept for SIGHUP (nohup), but not for SIGINT (background
    jobs of a script). Call this once, in the main thread.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    _state.ending, _state.number = False, 0
    before = {number: signal.signal(number, _end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def delayed() -> Iterator[None]:
    """Delay the KeyboardInterrupt of `interruptible` to the end of the block. Other threads never get one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = (_state.ending, _state.delayed)
    _state.delayed = True
    try:
        yield
    finally:
        _state.delayed = before[1]
    if _state.ending and not any(before):
        raise KeyboardInterrupt


def ended_by() -> signal.Signals:
    """Return the signal that ends this process; SIGINT if none came."""
    return signal.Signals(_state.number or signal.SIGINT)


def _end(number: int, _frame: FrameType | None) -> None:
    if not _state.ending:
        _state.ending, _state.number = True, number
        if not _state.delayed:
            raise KeyboardInterrupt
