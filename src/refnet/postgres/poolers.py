"""Connection poolers between RefNet and the server: transaction and statement pooling are refused.

With these, a session's settings would reach other clients, and pg_dump would read without the settings that it makes
before its transaction. So the check itself sets nothing: it compares the pids of the server's processes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from refnet.core.errors import Exit
from refnet.postgres.connect_error import ConnectError

Session = psycopg.Connection[tuple[Any, ...]]

#: A parameter that is sent at login; a pooler that drops startup parameters drops it too.
MARK = "refnet.session"
_SIGNS = f"SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('{MARK}', true)"
_PROCESS = "SELECT pg_catalog.pg_backend_pid(), extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text"
_DIRECT = """
SELECT concat(coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), 'HOST'), ':', pg_catalog.current_setting('port'))
"""
#: The number of test logins: each may reach another process of a pooler with several.
_ROUNDS = 24
#: In seconds: how long to wait for a second session, how long a result stays valid.
_ANSWER, _HOLDS = 15.0, 300.0
_HINT = "Set {named} to the server's own address ({direct}), or to a pool with pool_mode = session."


class PoolerError(ConnectError):
    """A pooler is between RefNet and the server, and its sessions cannot be used."""


class Poolers:
    """Results of the checks for poolers, by connection string."""

    def __init__(self) -> None:
        #: Connection string → when its pooler passed the check, in monotonic seconds.
        self._accepted: dict[str, float] = {}

    def knows(self, conninfo: str) -> bool:
        """Return whether a pooler was found behind `conninfo`."""
        return conninfo in self._accepted

    def check(self, session: Session, conninfo: str, open_another: Callable[[], Session], named: str) -> None:
        """Raise PoolerError if `session`, in which nothing was set yet, belongs to an unusable pooler.

        conninfo, open_another: of the same connection. named: the setting with the URL, for the error.
        """
        row = session.execute(_SIGNS).fetchone()
        if row and row[0] == session.info.backend_pid and row[1]:
            return
        if time.monotonic() - self._accepted.get(conninfo, float("-inf")) > _HOLDS:
            _keeps_sessions_apart(session, open_another, named)
            self._accepted[conninfo] = time.monotonic()


def _keeps_sessions_apart(session: Session, open_another: Callable[[], Session], named: str) -> None:
    """Raise PoolerError if the server process behind `session` changes, or serves another client too."""
    at = f"the connection pooler at {session.info.host}:{session.info.port}"
    mine = session.execute(_PROCESS).fetchone()
    for _ in range(_ROUNDS):
        with _another(open_another, session, at, named) as other:
            try:
                other.execute("BEGIN")
                serving = other.execute(_PROCESS).fetchone()
            except psycopg.errors.ProtocolViolation:
                raise _shares(session, at, "statement", named) from None
            # Last, as this query waits if the pool has one session for both.
            if serving == mine or session.execute(_PROCESS).fetchone() != mine:
                other.rollback()
                raise _shares(session, at, "transaction", named)


@contextmanager
def _another(open_another: Callable[[], Session], session: Session, at: str, named: str) -> Iterator[Session]:
    """Open another session; PoolerError if the pooler does not serve both in time."""
    expired = threading.Event()
    with open_another() as other:

        def expire() -> None:
            expired.set()
            for each in (session, other):
                with (
                    suppress(OSError, psycopg.Error),
                    socket.socket(fileno=os.dup(each.fileno())) as link,
                ):
                    link.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_ANSWER, expire)
        timer.daemon = True
        timer.start()
        try:
            yield other
        except psycopg.OperationalError:
            if not expired.is_set():
                raise
            raise PoolerError(
                f"{at} opened no second session within {_ANSWER:.0f} s",
                f"Raise its pool_size (a backup needs --jobs and three more), or set {named} to the server's own address.",
                transient=True,
            ) from None
        finally:
            timer.cancel()
            timer.join()  # the timer uses both sessions


def _shares(session: Session, at: str, mode: str, named: str) -> PoolerError:
    (direct,) = session.execute(_DIRECT).fetchone() or ("",)
    return PoolerError(
        f"{at} changes the server session with each {mode} (pool_mode = {mode})",
        _HINT.format(named=named, direct=direct),
        code=Exit.USAGE,
    )
