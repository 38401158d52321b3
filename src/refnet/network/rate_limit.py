"""A common rate limit of all workers for a server: the time of the next request is in the table `rate_limits`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

#: The longest wait, in seconds; a later time in a row is wrong (a restored backup, a changed clock).
LONGEST = 3600.0


class Limiter:
    """The rate limit of one server, shared by all workers.

    Args:
        connection: a session in autocommit mode; None: no limit.
        name: the row of `rate_limits`.
        rate: requests per second; 0: no limit.
        sleep: sleeps for some seconds.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any] | None,
        name: str,
        rate: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._name = name
        self._step = 1 / rate if rate else 0.0
        self._sleep = sleep

    def wait(self) -> None:
        """Take the next turn, and sleep until then."""
        if not self._step or self._connection is None:
            return
        values = {"name": self._name, "step": self._step, "longest": LONGEST}
        row = self._connection.execute(_TAKE, values).fetchone()
        if row and row[0] > 0:
            self._sleep(float(row[0]))

    def push(self, seconds: float) -> None:
        """Delay the next request of all workers by `seconds`, at most LONGEST."""
        if self._step and self._connection is not None:
            values = {"name": self._name, "seconds": min(seconds, LONGEST)}
            self._connection.execute(_PUSH, values)


# The server's clock counts: workers on several machines need no common clock.
_TAKE = """
INSERT INTO rate_limits AS mine (name, next_at)
VALUES (%(name)s, clock_timestamp() + make_interval(secs => %(step)s))
ON CONFLICT (name) DO UPDATE SET next_at = make_interval(secs => %(step)s) + least(
    greatest(mine.next_at, clock_timestamp()), clock_timestamp() + make_interval(secs => %(longest)s)
)
RETURNING extract(epoch FROM next_at - clock_timestamp()) - %(step)s
"""
_PUSH = """
INSERT INTO rate_limits AS mine (name, next_at)
VALUES (%(name)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE
SET next_at = greatest(mine.next_at, clock_timestamp() + make_interval(secs => %(seconds)s))
"""
