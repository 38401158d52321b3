"""Tasks run in an order that wastes nothing, and a failure stops them all."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
from refnet.sources.database.workers import Checks, Stopped, Task, run_all, run_checks


def recorded(names: list[str], name: str, weight: int, *after: Task, **locks: frozenset[int]) -> Task:
    return Task(weight, lambda: names.append(name), after, **locks)


def test_the_largest_ready_task_runs_first() -> None:
    ran: list[str] = []
    small, large = recorded(ran, "small", 1), recorded(ran, "large", 9)
    run_all([small, large, recorded(ran, "waits", 99, small)], 1, lambda: None)
    assert ran == ["large", "small", "waits"]


def test_a_task_waits_for_everything_that_it_needs_whoever_runs_it() -> None:
    ran: list[str] = []
    rows = [recorded(ran, "rows", 5) for _ in range(50)]
    run_all([recorded(ran, "index", 9, *rows), *rows], 4, lambda: None)
    assert ran == ["rows"] * 50 + ["index"]


def test_tasks_locking_one_table_never_run_beside_others_of_that_table() -> None:
    inside, most = 0, {"alone": 0}
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=20)

    def enter(kind: str) -> None:
        nonlocal inside
        with lock:
            inside += 1
            most["alone"] = max(most["alone"], inside if kind == "alone" else 0)
        if kind == "beside":
            both.wait()
        with lock:
            inside -= 1

    table = frozenset({7})
    beside = [Task(2, lambda: enter("beside"), beside=table) for _ in range(2)]
    alone = [Task(1, lambda: enter("alone"), alone=table) for _ in range(20)]
    run_all([*beside, *alone], 4, lambda: None)
    assert most["alone"] == 1


def test_the_first_failure_is_raised_stops_the_others_and_lets_none_begin() -> None:
    stop, running = threading.Event(), threading.Event()

    def long() -> None:
        running.set()
        assert stop.wait(20)
        raise Stopped

    def fails() -> None:
        assert running.wait(20)
        raise ValueError("the first")

    never: list[str] = []
    failing = Task(8, fails)
    with pytest.raises(ValueError, match="the first"):
        run_all([Task(9, long), failing, recorded(never, "never", 1, failing)], 2, stop.set)
    assert never == []


def test_an_interrupt_while_threads_begin_stops_those_that_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, began, ended = threading.Event(), threading.Event(), list[bool]()
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        real(thread)
        assert began.wait(20)
        raise KeyboardInterrupt

    def slow() -> None:
        began.set()
        assert stop.wait(20)
        ended.append(True)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_all([Task(2, slow), Task(1, slow)], 2, stop.set)
    assert ended == [True]


def test_after_an_interrupt_every_thread_has_ended() -> None:
    stop, ended = threading.Event(), list[bool]()

    def slow_to_end() -> None:
        assert stop.wait(20)
        threading.Event().wait(0.2)
        ended.append(True)

    def interrupt() -> None:
        here = threading.main_thread().ident or 0
        while not (
            (caller := sys._current_frames()[here].f_back) and caller.f_code.co_name in {"join", "wait_for"}
        ):
            os.sched_yield()
        signal.pthread_kill(here, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            run_all([Task(1, slow_to_end)], 1, stop.set)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_a_task_is_told_how_many_workers_are_idle_beside_it() -> None:
    told: list[int] = []
    run_all([Task(1, lambda: told.append(0), wide=told.append)], 3, lambda: None)
    run_all([Task(1, lambda: told.append(0), wide=told.append)], 1, lambda: None)
    assert told == [2, 0]


def test_no_worker_is_idle_beside_a_task_that_runs_or_may_begin() -> None:
    told: list[int] = []
    both = threading.Barrier(2, timeout=20)

    def run() -> None:
        told.append(0)
        both.wait()

    run_all([Task(weight, run, wide=told.append) for weight in (2, 1)], 2, lambda: None)
    assert told == [0, 0]


@pytest.mark.parametrize(("small", "idle"), [(30, 1), (40, 0)])
def test_a_worker_counts_as_idle_beside_a_task_that_outlasts_all_others(small: int, idle: int) -> None:
    told: list[int] = []
    both = threading.Barrier(2, timeout=20)
    first = Task(90, both.wait)
    ended = threading.Event()

    def large_has_begun() -> None:
        both.wait()
        assert ended.wait(20)

    def run() -> None:
        told.append(0)
        ended.set()

    def wide(count: int) -> None:
        told.append(count)
        ended.set()

    large = Task(90, run, (first,), wide=wide)
    run_all([first, Task(small, large_has_begun), large], 2, lambda: None)
    assert told == [idle]


def test_a_task_whose_table_is_locked_keeps_no_worker_busy() -> None:
    told: list[int] = []
    table = frozenset({7})
    tasks = [Task(weight, lambda: told.append(0), alone=table, wide=told.append) for weight in (2, 1)]
    run_all(tasks, 2, lambda: None)
    assert told == [1, 1]


def test_checks_run_together_and_their_findings_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=20)
    found: list[Finding] = []

    def checks(name: str, weight: int) -> Checks:
        def run() -> None:
            both.wait()
            found.append(Finding(name, Outcome.PASSED))

        return Checks([Task(weight, run)], lambda: None, lambda: [one for one in found if one.what == name])

    findings: list[Finding] = []
    run_checks([checks("rows", 1), checks("schema", 2)], 2, findings)
    assert [one.what for one in findings] == ["rows", "schema"]


def test_a_check_that_fails_stops_all_the_others_and_differences_are_kept() -> None:
    stopped = [threading.Event() for _ in range(2)]

    def waits() -> None:
        assert stopped[0].wait(20)
        raise Stopped

    def fails() -> None:
        raise ValueError("it fails")

    differs, passed = Finding("rows", Outcome.FAILED), Finding("schema", Outcome.PASSED)
    findings: list[Finding] = []
    several = [
        Checks([Task(1, run)], one.set, lambda: [passed, differs])
        for run, one in zip((waits, fails), stopped, strict=True)
    ]
    with pytest.raises(ValueError, match="it fails"):
        run_checks(several, 2, findings)
    assert all(one.is_set() for one in stopped)
    assert findings == [differs, differs]
