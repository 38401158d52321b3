"""What works in parallel in a dump, a load or a comparison: tasks in threads, and PostgreSQL's programs as children.

A task runs once its prerequisites are done, the largest first. The first failure stops all, programs too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import IO

from refnet.catalog.artifact import Finding, Progress, silent
from refnet.catalog.manifest import Outcome
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries
from refnet.sources.database import server_errors


@dataclass(frozen=True)
class Workers:
    """Parallel workers of a dump, a load or a comparison."""

    #: PostgreSQL's client programs, of the server's major or newer.
    binaries: Binaries
    #: How many run at once.
    jobs: int
    #: Gets the bytes that a dump has copied (on the server's disk), or that a load or comparison has read (COPY text).
    progress: Progress = silent


@dataclass(eq=False)
class Task:
    """One piece of work."""

    #: Of the ready tasks the one with the largest weight runs first; of equals, the first.
    weight: int
    run: Callable[[], None]
    #: Tasks that must be done before.
    after: tuple[Task, ...] = ()
    #: Tables (oids) that it shares with other tasks.
    beside: frozenset[int] = frozenset()
    #: Tables that it locks against every other task.
    alone: frozenset[int] = frozenset()
    #: Runs instead of `run` where workers have nothing to do; gets their number.
    wide: Callable[[int], None] | None = None


class Stopped(Exception):  # noqa: N818  # not an error: another task failed
    """Raised in a task that was stopped."""


@dataclass(frozen=True)
class Checks:
    """Checks whose tasks may run beside those of others."""

    tasks: Sequence[Task]
    #: Ends the tasks that run, from another thread.
    stop: Callable[[], None]
    #: What they found; asked once all tasks have ended. What a failure left unread is no difference.
    findings: Callable[[], Iterable[Finding]]


def run_checks(several: Sequence[Checks], workers: int, found: list[Finding]) -> None:
    """Run the tasks of `several` checks together, the largest first; add what they find to `found`, in their order.

    If one fails (the server ends), that is raised, and the differences that were found until then are added.
    """

    def stop() -> None:
        for one in several:
            one.stop()

    try:
        run_all(itertools.chain.from_iterable(one.tasks for one in several), workers, stop)
    except Exception:
        found += (one for checks in several for one in checks.findings() if one.outcome is Outcome.FAILED)
        raise
    found += (one for checks in several for one in checks.findings())


def run_all(tasks: Iterable[Task], workers: int, stop: Callable[[], None]) -> None:
    """Run every task in `workers` threads.

    After the first failure (or an interrupt) no task begins. `stop` is called once and must end those that run;
    the failure is raised when all have ended.
    """
    board = _Board(tasks, stop, workers)
    try:
        for _ in range(workers):
            threading.Thread(target=board.work, daemon=True).start()
        board.wait()
    except BaseException as error:
        board.fail(error)
        board.wait()
        raise
    if board.failure:
        raise board.failure


#: All other tasks are little work beside one with so many times their weight.
_LITTLE = 3


@dataclass
class _Board:
    """The tasks that are left, shared by the threads."""

    tasks: Iterable[Task]
    stop: Callable[[], None]
    workers: int
    failure: BaseException | None = None
    #: Threads that have begun, and not ended.
    working: int = 0
    left: int = 0
    #: The weights of all tasks that have not ended.
    weight: int = 0
    running: int = 0
    ready: list[tuple[int, int, Task]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=itertools.count)
    waits_for: Counter[Task] = field(default_factory=Counter)
    followers: dict[Task, list[Task]] = field(default_factory=dict)
    beside: Counter[int] = field(default_factory=Counter)
    alone: set[int] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        for task in self.tasks:
            self.left += 1
            self.weight += task.weight
            self.waits_for[task] = len(task.after)
            for earlier in task.after:
                self.followers.setdefault(earlier, []).append(task)
            if not task.after:
                self._push(task)

    def _push(self, task: Task) -> None:
        heappush(self.ready, (-task.weight, next(self.order), task))

    def wait(self) -> None:
        """Wait until no task is left, or one has failed, and every thread has ended; one that begins later does nothing.

        Not by Thread.join: before Python 3.13, one that is interrupted takes the thread for ended (python/cpython#90882).
        """
        with self.changed:
            self.changed.wait_for(lambda: not self.working and (self.failure or not self.left))

    def work(self) -> None:
        with self.changed:
            self.working += 1
        try:
            self._work()
        finally:
            with self.changed:
                self.working -= 1
                self.changed.notify_all()

    def _work(self) -> None:
        while found := self._take():
            task, idle = found
            try:
                if idle and task.wide:
                    task.wide(idle)
                else:
                    task.run()
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001  # carried to the caller's thread, and raised there
                self.fail(error)
                return
            self._done(task)

    def fail(self, error: BaseException) -> None:
        with self.changed:
            first = self.failure is None
            self.failure = self.failure or error
            self.changed.notify_all()
        if first:
            self.stop()

    def _take(self) -> tuple[Task, int] | None:
        """Return the next task, and how many workers have nothing to do beside it, or soon will."""
        with self.changed:
            while self.left and not self.failure:
                if task := self._first_free():
                    self.beside.update(task.beside)
                    self.alone |= task.alone
                    self.running += 1
                    return task, self._idle(task)
                self.changed.wait()
            return None

    def _first_free(self) -> Task | None:
        """Return the first ready task whose tables are free; the others keep their order."""
        blocked, found = [], None
        while self.ready and not found:
            item = heappop(self.ready)
            if self._is_free(item[2]):
                found = item[2]
            else:
                blocked.append(item)
        for item in blocked:
            heappush(self.ready, item)
        return found

    def _is_free(self, task: Task) -> bool:
        locked = (task.beside | task.alone) & self.alone
        return not locked and not any(self.beside[table] for table in task.alone)

    def _idle(self, task: Task) -> int:
        if self.weight - task.weight <= task.weight // _LITTLE:
            return self.workers - 1  # it lasts longer than everything else that is left
        spare = self.workers - self.running
        free = (item for item in self.ready if self._is_free(item[2]))
        return spare - len(list(itertools.islice(free, spare)))

    def _done(self, task: Task) -> None:
        with self.changed:
            self.left -= 1
            self.weight -= task.weight
            self.running -= 1
            self.beside.subtract(task.beside)
            self.alone -= task.alone
            for follower in self.followers.get(task, ()):
                self.waits_for[follower] -= 1
                if not self.waits_for[follower]:
                    self._push(follower)
            self.changed.notify_all()


#: Bytes of stderr that are read: the last ones, or all of them.
_STDERR, _ALL = 1 << 20, 256 << 20


class Programs:
    """The child processes of one load, run as `account` (None: as this process)."""

    def __init__(self, environment: Mapping[str, str], account: Account | None = None) -> None:
        self._become = account.become if account else {}
        # English messages of the programs; the server's are in the server's language.
        self._environment = {**environment, "LC_ALL": "C"}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        command: Sequence[str],
        doing: str,
        feed: Iterable[bytes] | None = None,
        handles: Collection[int] = (),
    ) -> bytes:
        """Run `command`, which inherits `handles`, and return its stdout.

        RefnetError contains its first error line; Stopped if `stop` ended it.
        """
        code, stdout, stderr = self._ran(command, feed, handles, _STDERR)
        if code:
            raise server_errors.of_program(command[0].rpartition("/")[2], stderr, doing)
        return stdout

    def attempt(self, command: Sequence[str], doing: str) -> bytes:
        """Run `command`, which may fail; return its stderr, "" on success. Stopped as in `run`."""
        code, _, stderr = self._ran(command, None, (), _ALL)
        if code and (not stderr or len(stderr) >= _ALL):
            raise server_errors.of_program(command[0].rpartition("/")[2], stderr, doing)
        return stderr if code else b""

    def ended(self, command: Sequence[str]) -> tuple[int, bytes]:
        """Run `command`, which says something by its exit code; return that, and its stdout or else its stderr.

        Stopped as in `run`.
        """
        code, stdout, stderr = self._ran(command, None, (), _STDERR)
        return code, stdout or stderr

    def _ran(
        self, command: Sequence[str], feed: Iterable[bytes] | None, handles: Collection[int], most: int
    ) -> tuple[int, bytes, bytes]:
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = self._start(command, stdout, stderr, handles, fed=feed is not None)
            try:
                if feed is not None:
                    _feed(child, feed)
                code = child.wait()
            finally:
                self._end(child)
            if code and self._stopped:
                raise Stopped
            stdout.seek(0)
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - most))
            return code, stdout.read(-1 if code == 0 else _STDERR), stderr.read(most)

    def stop(self) -> None:
        """End the children that run and let no other start."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()

    def _start(
        self,
        command: Sequence[str],
        stdout: IO[bytes],
        stderr: IO[bytes],
        handles: Collection[int],
        *,
        fed: bool,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Stopped
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environment,
                bufsize=0,
                pass_fds=tuple(handles),
                **self._become,
            )
            self._running.add(child)
            return child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(child)
            if child.poll() is None:
                child.kill()
        child.wait()


def _feed(child: subprocess.Popen[bytes], feed: Iterable[bytes]) -> None:
    """Write `feed` to the child; if it ends early, its stderr has the reason."""
    with contextlib.suppress(BrokenPipeError), child.stdin or contextlib.nullcontext() as stdin:
        for piece in feed:
            view = memoryview(piece)
            while view and stdin:
                view = view[stdin.write(view) :]


def restricted(text: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield `text` in a `\restrict` pair with a secret key, so that psql runs no command from it."""
    key = secrets.token_hex(24).encode()
    yield b"\\restrict " + key + b"\n"
    yield from text
    yield b"\\unrestrict " + key + b"\n"
