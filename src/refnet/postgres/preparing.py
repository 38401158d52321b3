"""Opens sessions with RefNet's settings: set by SQL after the login, then compared with those in force.

The login itself carries few settings: poolers drop them, and functions of login event triggers run under them.
Transaction and statement pooling are refused: a session's settings would reach other clients, and pg_dump would read
without the settings that it makes before its transaction. So the check itself sets nothing: it compares the pids of the
server's processes.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.core.errors import Exit
from refnet.postgres.connect_error import LOGIN_TRIGGER, ConnectError

#: Settings under which a login trigger may not find its tables or not write: never sent at login (None), or not with
#: this value.
_AFTER_LOGIN = {"search_path": None, "row_security": None, "default_transaction_read_only": "on"}
#: Both since PostgreSQL 17. Event triggers could change compared data, or refuse a restore.
_LIMIT = "transaction_timeout"
_SILENT, _UNLIMITED = {"event_triggers": "off"}, {_LIMIT: "0"}

#: Sets settings of a session; parameters: a list of names, a list of values.
SET = """
SELECT s.name, pg_catalog.set_config(s.name, s.value, false)
FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) AS s(name, value)
"""
_IN_FORCE = "SELECT s.name, pg_catalog.current_setting(s.name) FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS s(name)"
_MAY_SILENCE = "SELECT pg_catalog.has_parameter_privilege('event_triggers', 'SET')"
_SINCE = 17

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

Session = psycopg.Connection[tuple[Any, ...]]
#: The server's address and the role.
Who = tuple[str, str]


@dataclass(frozen=True)
class WantedSession:
    """The settings of a session, its server and role."""

    settings: Mapping[str, str]
    who: Who
    #: The session backs up or restores, and is not the application's.
    reads: bool


class Openings:
    """Facts about servers and poolers, learned from earlier sessions of this process."""

    def __init__(self) -> None:
        self.poolers = Poolers()
        #: Poolers that refuse options at login.
        self._without_options: set[Who] = set()
        #: Server and role → whether the role may turn event triggers off, if known.
        self._silencing: dict[Who, bool] = {}
        #: Roles on servers that know transaction_timeout.
        self._unlimited: set[Who] = set()

    def at_login(self, wanted: WantedSession) -> dict[str, str]:
        """Return the settings that a login can carry."""
        if wanted.who in self._without_options:
            return {}
        kept = {
            name: value
            for name, value in wanted.settings.items()
            if name not in _AFTER_LOGIN or _AFTER_LOGIN[name] not in {None, value}
        }
        return kept | self._newer(wanted)

    def _newer(self, wanted: WantedSession) -> dict[str, str]:
        """Return additional settings of newer servers, as far as the server is known to have them."""
        if not wanted.reads:
            return {}
        unlimited = _UNLIMITED if wanted.who in self._unlimited and _LIMIT not in wanted.settings else {}
        return {**unlimited, **(_SILENT if self._silencing.get(wanted.who) else {})}

    def open(self, login: Callable[[Mapping[str, str]], Session], wanted: WantedSession) -> Session:
        """Log in; retry without options that a pooler refuses, or without a failing login trigger if allowed."""
        first: psycopg.OperationalError | None = None
        while True:
            try:
                return login(self.at_login(wanted) | self._mark(wanted.who))
            except psycopg.OperationalError as error:
                if not self._learns(str(error), wanted, again=first is not None):
                    raise first or error from None
                first = error

    def _mark(self, who: Who) -> dict[str, str]:
        return {} if who in self._without_options else {MARK: "on"}

    def _learns(self, said: str, wanted: WantedSession, *, again: bool) -> bool:
        """Learn from the login error `said`; return whether a retry may succeed. again: a login failed before."""
        who = wanted.who
        if "unsupported startup parameter" in said and who not in self._without_options:
            self._without_options.add(who)
        elif who in self._unlimited and _LIMIT in said:  # another server answers there now
            self._unlimited.discard(who)
        elif self._silencing.get(who) and "event_triggers" in said:
            self._silencing[who] = False
            return not again
        elif wanted.reads and not again and not self._silencing.get(who) and re.search(LOGIN_TRIGGER, said):
            self._silencing[who] = True
        else:
            return False
        return True

    def prepare(self, session: Session, wanted: WantedSession) -> None:
        """Set the settings of `session`; psycopg.Error, or ConnectError if one is not in force afterwards."""
        settings, who = dict(wanted.settings), wanted.who
        if wanted.reads and session.info.server_version // 10_000 >= _SINCE:
            self._unlimited.add(who)
            if who not in self._silencing:
                self._silencing[who] = session.execute(_MAY_SILENCE).fetchone() == (True,)
            settings |= self._newer(wanted)
        given = session.execute(SET, (list(settings), list(settings.values()))).fetchall()
        found = session.execute(_IN_FORCE, (list(settings),)).fetchall()
        if lost := set(given) - set(found):
            raise not_kept(who[0], {str(name) for name, _ in lost})


def statements(settings: Mapping[str, str]) -> bytes:
    """Return SQL for psql that sets `settings`."""
    return "".join(f"SET {name} = '{value}';\n" for name, value in settings.items()).encode()


def question(settings: Iterable[str]) -> bytes:
    """Return the query for the values in force, one per line, as `not_in_force` expects."""
    return b"VALUES " + ", ".join(f"(pg_catalog.current_setting('{name}'))" for name in settings).encode()


def not_in_force(settings: Mapping[str, str], answer: bytes) -> list[str]:
    """Return the names of `settings` that differ from psql's `answer` to `question`."""
    shown = dict(zip(settings, answer.decode(errors="replace").splitlines(), strict=False))
    # An empty search_path is shown quoted, and ISO with the order of days and months.
    return [
        name for name, value in settings.items() if shown.get(name, "").strip('"').split(", ")[0] != value
    ]


def not_kept(where: str, names: Iterable[str]) -> ConnectError:
    """Return the error for a session that lost settings."""
    return ConnectError(
        f"{where} reset settings of the session: {', '.join(sorted(names))}",
        "A connection pooler discards them: connect to the server's own address.",
        code=Exit.USAGE,
    )


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
