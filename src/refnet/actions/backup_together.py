"""Back up several sources in parallel: one process each, at most `jobs` at work.

Every database of a group opens its snapshot first and then waits for its turn, so the snapshots are close together
however long the dumps take. A process, not a thread: Ctrl-C ends it as it ends a backup of one source, and a killed one
stops no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from refnet.actions.backup import Options, backup
from refnet.actions.backup_result import Backup
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.processes import end_with_parent
from refnet.core.signals import ended_by, interruptible
from refnet.sources import kind_of

#: Processes with an open snapshot at a time: each holds back VACUUM on its server.
MOST_OPEN = 16
#: Python loses a signal that comes while a process is being forked, so it is sent again.
_AGAIN_SECONDS = 2.0
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_FORK = multiprocessing.get_context("fork")

Result = Backup | RefnetError | None


#: Opens the context of a source in its process.
Opened = Callable[[SourceName], AbstractContextManager[Context]]


def back_up_together(
    opened: Opened,
    names: Sequence[SourceName],
    options: Options,
    jobs: int,
    ended: Callable[[SourceName, Result], None],
) -> float | None:
    """Back up `names`; an error of one stops no other.

    Args:
        opened: the context of each source.
        options: of every backup.
        jobs: maximum number of parallel dumps or proofs.
        ended: called with each result.

    Returns:
        Seconds between the first snapshot of a database and the last one; None with fewer than two.
    """
    moments: list[float] = []
    for start in range(0, len(names), MOST_OPEN):
        group = _Group()
        try:
            with _blocked():
                group.start(opened, options, names[start : start + MOST_OPEN])
            for name, result in group.run(jobs):
                ended(name, result)
        finally:
            group.end()
        moments += group.moments
    return max(moments) - min(moments) if len(moments) > 1 else None


class _Group:
    """The processes of one group."""

    def __init__(self) -> None:
        #: When each snapshot of a database was open, by the monotonic clock.
        self.moments: list[float] = []
        self._children: dict[Connection, tuple[SourceName, BaseProcess]] = {}

    def start(self, opened: Opened, options: Options, names: Sequence[SourceName]) -> None:
        """Start a process for each of `names`; signals are blocked, and each process gets them when it is ready."""
        for name in names:
            ours, theirs = _FORK.Pipe()
            inherited = (ours, *self._children)
            child = _FORK.Process(target=_work, args=(theirs, inherited, opened, name, options))
            child.start()
            theirs.close()
            self._children[ours] = (name, child)

    def run(self, jobs: int) -> Iterator[tuple[SourceName, Result]]:
        """Give each process its turn when it is ready; yield each result."""
        ready: deque[Connection] = deque()
        running: set[Connection] = set()
        waiting = set(self._children)
        while waiting:
            while ready and len(running) < jobs:
                running.add(one := ready.popleft())
                with suppress(OSError):  # it has ended: the next look finds that
                    one.send(None)
            for one in waiting & {*wait(list(waiting))}:
                name, child = self._children[one]
                said = _received(one, name)
                if isinstance(said, float):
                    ready.append(one)
                    self.moments += [said] if kind_of(name).is_snapshot else []
                    continue
                waiting.discard(one)
                running.discard(one)
                if one in ready:
                    ready.remove(one)
                child.join()
                yield name, said

    def end(self) -> None:
        """End the processes that still run, each with its cleanup."""
        for one, (_, child) in self._children.items():
            one.close()  # one that waits for its turn ends
            while child.is_alive() and _is_child(child.pid):
                with suppress(ProcessLookupError):
                    os.kill(child.pid or 0, ended_by())
                child.join(_AGAIN_SECONDS)
            child.join()


def _is_child(pid: int | None) -> bool:
    """Return whether `pid` is a child of this process.

    multiprocessing forgets the end of a child if a signal arrives while it waits for that child.
    """
    try:
        os.waitid(os.P_PID, pid or 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _received(one: Connection, name: SourceName) -> Any:
    try:
        return one.recv()
    except EOFError:
        return RefnetError(
            f"the backup of {name} was killed",
            "Check the system's log for the out-of-memory killer, and retry.",
            transient=True,
        )


def _work(
    pipe: Connection, inherited: Sequence[Connection], opened: Opened, name: SourceName, options: Options
) -> None:
    """Back up `name` in this process, and send the result.

    inherited: the parent's ends of pipes; closed here, so that closing them in the parent is noticed.
    """
    end_with_parent(signal.SIGINT)
    for one in inherited:
        one.close()
    turn = _Turn(pipe)
    result: Result
    try:
        with interruptible():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            try:
                with opened(name) as context:
                    result = backup(context, name, replace(options, turn=turn))
            finally:  # the parent repeats its signal, and nobody would handle that one
                signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    except RefnetError as error:
        result = error
    except KeyboardInterrupt:
        os._exit(130)  # the cleanup has run; the parent reports the signal
    with suppress(BrokenPipeError):
        pipe.send(result)


@contextmanager
def _blocked() -> Iterator[None]:
    """Block terminating signals: during the start of a process they would end it with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Turn:
    """Called once the snapshot is taken: the first call waits for the parent's turn."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe: Connection | None = pipe

    def __call__(self) -> None:
        if self._pipe:
            try:
                self._pipe.send(time.monotonic())
                self._pipe.recv()
            except (EOFError, BrokenPipeError):  # the parent ends
                raise KeyboardInterrupt from None
            self._pipe = None
