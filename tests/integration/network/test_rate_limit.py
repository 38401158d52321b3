"""The rate of requests: all workers together, a wait that the server asks for, a row that is wrong."""

from __future__ import annotations

import threading
import time

import pytest

from refnet.network.rate_limit import LONGEST, Limiter
from refnet.postgres.session import Target

RATE = 40.0


def test_workers_at_once_keep_the_rate_together(migrated: Target) -> None:
    times: list[float] = []

    def work() -> None:
        with migrated.connect() as session:
            limiter = Limiter(session, "shared", RATE)
            for _ in range(5):
                limiter.wait()
                times.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(times) - min(times) >= 19 / RATE * 0.95


def test_a_push_or_a_wrong_row_delays_each_worker_by_at_most_an_hour(migrated: Target) -> None:
    waits: list[float] = []
    with migrated.connect() as session:
        one, other = (Limiter(session, "pushed", RATE, waits.append) for _ in range(2))
        one.push(90)
        other.wait()
        one.push(10**6)
        other.wait()
        session.execute("UPDATE rate_limits SET next_at = 'infinity' WHERE name = 'pushed'")
        other.wait()
    assert [round(wait) for wait in waits] == [90, LONGEST, LONGEST]


def test_no_limit_waits_for_nothing(migrated: Target) -> None:
    with migrated.connect() as session:
        limiter = Limiter(session, "unlimited", 0, lambda _seconds: pytest.fail("it waits"))
        limiter.push(90)
        limiter.wait()
        assert session.execute("SELECT count(*) FROM rate_limits WHERE name = 'unlimited'").fetchone() == (0,)
