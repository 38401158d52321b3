"""Runs tasks once their prerequisites are done, largest first; the first failure stops all."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush


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


class Stopped(Exception):  # noqa: N818  # not an error: another task failed
    """Raised in a task that was stopped."""


def run_all(tasks: Iterable[Task], workers: int, stop: Callable[[], None]) -> None:
    """Run every task in `workers` threads.

    After the first failure (or an interrupt) no task begins. `stop` is called once and must end those that run;
    the failure is raised when all have ended.
    """
    board = _Board(tasks, stop)
    threads = [threading.Thread(target=board.work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        board.fail(error)
        for thread in threads:
            thread.join()
        raise
    if board.failure:
        raise board.failure


@dataclass
class _Board:
    """The tasks that are left, shared by the threads."""

    tasks: Iterable[Task]
    stop: Callable[[], None]
    failure: BaseException | None = None
    left: int = 0
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
            self.waits_for[task] = len(task.after)
            for earlier in task.after:
                self.followers.setdefault(earlier, []).append(task)
            if not task.after:
                self._push(task)

    def _push(self, task: Task) -> None:
        heappush(self.ready, (-task.weight, next(self.order), task))

    def work(self) -> None:
        while task := self._take():
            try:
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

    def _take(self) -> Task | None:
        with self.changed:
            while self.left and not self.failure:
                if task := self._first_free():
                    self.beside.update(task.beside)
                    self.alone |= task.alone
                    return task
                self.changed.wait()
            return None

    def _first_free(self) -> Task | None:
        """Return the first ready task whose tables are free; the others keep their order."""
        blocked, found = [], None
        while self.ready and not found:
            item = heappop(self.ready)
            task = item[2]
            if (task.beside | task.alone) & self.alone or any(self.beside[table] for table in task.alone):
                blocked.append(item)
            else:
                found = task
        for item in blocked:
            heappush(self.ready, item)
        return found

    def _done(self, task: Task) -> None:
        with self.changed:
            self.left -= 1
            self.beside.subtract(task.beside)
            self.alone -= task.alone
            for follower in self.followers.get(task, ()):
                self.waits_for[follower] -= 1
                if not self.waits_for[follower]:
                    self._push(follower)
            self.changed.notify_all()
