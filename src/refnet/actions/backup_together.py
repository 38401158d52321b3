"""Back up several sources in parallel: a program of its own for each, at most `jobs` at work.

Every database of a group opens its snapshot first and then waits for its turn, so the snapshots are close together
however long the dumps take. A program, not a thread: Ctrl-C ends it as it ends a backup of one source, and a killed one
stops no other. A new program, not a fork: this process may have threads (an object store's client has), and their locks
would stay locked in a fork for ever. The job goes to the program through a socket, so no secret is in its command line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from refnet.actions.backup import Options, backup
from refnet.actions.backup_result import Backup
from refnet.catalog.artifact import Counted
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.processes import end_with_parent
from refnet.core.signals import ended_by, interruptible
from refnet.sources import kind_of

#: Programs with an open snapshot at a time: each holds back VACUUM on its server.
MOST_OPEN = 16
#: Seconds that an open snapshot waits for its turn: a backup before it may hang, and VACUUM must go on.
MOST_WAITING = 6 * 3600.0
#: Seconds without any progress of a program at work, after which it is ended: it hangs, maybe with its snapshot open.
MOST_SILENT = 12 * 3600.0
#: Seconds between two looks for silent programs, and that one has for its cleanup.
_LOOK_SECONDS, _TO_END = 60.0, 60.0
#: What runs a child; the number of its socket follows.
PROGRAM: tuple[str, ...] = (sys.executable, "-P", "-m", __name__)
#: Seconds between two messages about the progress of one step.
_STEP_SECONDS = 0.1
#: Python loses a signal that comes while a child starts, so it is sent again.
_AGAIN_SECONDS = 2.0
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

Result = Backup | RefnetError | None
#: The context in which a source is backed up; its progress and notes show those of the child.
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
        with ExitStack() as contexts:
            group = _Group()
            try:
                with _blocked():
                    for name in names[start : start + MOST_OPEN]:
                        group.start(contexts.enter_context(opened(name)), name, options)
                for name, result in group.run(jobs):
                    ended(name, result)
            finally:
                group.end()
            moments += group.moments
    return max(moments) - min(moments) if len(moments) > 1 else None


class _Child:
    """The program that backs up the source `name`."""

    def __init__(self, context: Context, name: SourceName, options: Options) -> None:
        self.name, self.context = name, context
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*PROGRAM, str(theirs.fileno())]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self.pipe = Connection(ours.detach())
        self._heard = time.monotonic()
        job = (context.settings, context.clock, context.service, dict(context.variables), name, options)
        with suppress(BrokenPipeError):  # it was killed: `says` finds that
            self.pipe.send(job)

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing for too long."""
        return time.monotonic() - self._heard > MOST_SILENT

    def go(self) -> None:
        """Give it its turn."""
        self._heard = time.monotonic()
        with suppress(OSError):  # it has ended: the next look finds that
            self.pipe.send(None)

    def give_up(self) -> tuple[str, RefnetError]:
        """End it, by force if it ends by no signal; its last message."""
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_TO_END)
        self.process.kill()
        hung = RefnetError(
            f"the backup of {self.name} made no progress for {MOST_SILENT / 3600:.0f} h, and was ended",
            "Check its server, its disk and its stores, and retry.",
            transient=True,
        )
        return "result", hung

    def says(self) -> tuple[Any, ...]:
        """Its next message: ("snapshot", time) or ("result", Result); others are shown, and returned too."""
        self._heard = time.monotonic()
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            killed = RefnetError(
                f"the backup of {self.name} was killed",
                "Check the system's log for the out-of-memory killer, and retry.",
                transient=True,
            )
            return "result", killed
        match message:
            case ("progress", step, unit, done, total):
                self.context.progress(Counted(step, unit) if unit else step, done, total)
            case ("note", sentence):
                self.context.note(sentence)
        return message

    def end(self) -> None:
        """End it, if it still runs, with its cleanup."""
        self.pipe.close()  # while it waits for its turn, this ends it
        while self.process.poll() is None:
            self.process.send_signal(ended_by())
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_AGAIN_SECONDS)


class _Group:
    """The programs of one group."""

    def __init__(self) -> None:
        #: When each snapshot of a database was open, by the monotonic clock.
        self.moments: list[float] = []
        self._children: dict[Connection, _Child] = {}

    def start(self, context: Context, name: SourceName, options: Options) -> None:
        """Start the program of `name`; signals are blocked, and it gets them when it is ready."""
        child = _Child(context, name, options)
        self._children[child.pipe] = child

    def run(self, jobs: int) -> Iterator[tuple[SourceName, Result]]:
        """Give each program its turn when it is ready; yield each result."""
        ready: deque[Connection] = deque()
        running: set[Connection] = set()
        waiting = set(self._children)
        while waiting:
            while ready and len(running) < jobs:
                running.add(pipe := ready.popleft())
                self._children[pipe].go()
            heard = {*wait(list(waiting), _LOOK_SECONDS)}
            silent = {pipe for pipe in waiting - heard - {*ready} if self._children[pipe].is_silent}
            for pipe in waiting & (heard | silent):
                child = self._children[pipe]
                match child.give_up() if pipe in silent else child.says():
                    case ("snapshot", moment):
                        ready.append(pipe)
                        self.moments += [moment] if kind_of(child.name).is_snapshot else []
                    case ("result", result):
                        waiting.discard(pipe)
                        running.discard(pipe)
                        if pipe in ready:
                            ready.remove(pipe)
                        child.process.wait()
                        yield child.name, result

    def end(self) -> None:
        """End the programs that still run, each with its cleanup."""
        for child in self._children.values():
            child.end()


@contextmanager
def _blocked() -> Iterator[None]:
    """Block terminating signals: a program that starts would end at one with a traceback, and it inherits the mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Parent:
    """The parent, as its child sees it; any thread may use it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._lock = threading.Lock()
        self._has_turn = False
        self._last: dict[str, float] = {}

    def tell(self, *message: Any) -> None:
        with self._lock, suppress(BrokenPipeError):  # the parent has ended, and its end ends this process
            self.pipe.send(message)

    def note(self, sentence: str) -> None:
        self.tell("note", sentence)

    def progress(self, step: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - self._last.get(step, -1.0) >= _STEP_SECONDS:
            self._last[step] = now
            self.tell("progress", str(step), getattr(step, "unit", ""), done, total)

    def turn(self) -> None:
        """Called once the snapshot is open: the first call waits for the parent's permission."""
        if self._has_turn:
            return
        self._has_turn = True
        self.tell("snapshot", time.monotonic())
        try:
            if not self.pipe.poll(MOST_WAITING):
                raise RefnetError(
                    f"it waited {MOST_WAITING / 3600:.0f} h for other backups, and has released its snapshot",
                    "Check which backup of this run hangs (`refnet monitor`), end it, and retry.",
                    transient=True,
                )
            self.pipe.recv()
        except (EOFError, ConnectionResetError):  # the parent ends
            raise KeyboardInterrupt from None


def _work(parent: _Parent) -> None:
    """Back up the source of the job in this process, and send the result."""
    settings, clock, service, variables, name, options = parent.pipe.recv()
    context = Context(settings, clock, parent.progress, parent.note, service, variables=variables)
    result: Result
    try:
        with interruptible():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            try:
                result = backup(context, name, replace(options, turn=parent.turn))
            finally:  # the parent repeats its signal, and nobody would handle that one
                signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    except RefnetError as error:
        result = error
    parent.tell("result", result)


def main(handle: int) -> None:
    """Run as the child whose parent is at the other end of the socket `handle`."""
    end_with_parent(signal.SIGINT)
    try:
        _work(_Parent(Connection(handle)))
    except (KeyboardInterrupt, EOFError, ConnectionResetError):
        os._exit(130)  # the cleanup has run; the parent reports the signal


if __name__ == "__main__":
    main(int(sys.argv[1]))
