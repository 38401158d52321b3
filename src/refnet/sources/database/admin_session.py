"""The session that creates, renames and drops databases, and the lock that allows one restore at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import MAINTENANCE, READER_SETTINGS, Target
from refnet.sources.database import server_errors

Session = psycopg.Connection[tuple[Any, ...]]
Statement = sql.SQL | sql.Composed

#: It is idle for hours during a load, so it has no timeouts; none of its transactions may be lost.
_SETTINGS: Mapping[str, str] = {
    **READER_SETTINGS,
    "default_transaction_read_only": "off",
    "synchronous_commit": "on",
    "client_min_messages": "warning",
}
_TRY_NEXT = {"3D000", "42501", "55000"}  # no such database, no privilege, no connections allowed

#: How long a server may take to accept that a query ends.
_CANCEL_SECONDS = 5.0


def cancel(session: Session) -> None:
    """End the query that `session` runs in another thread, if it runs one."""
    with contextlib.suppress(psycopg.Error):
        session.cancel_safe(timeout=_CANCEL_SECONDS)


@contextlib.contextmanager
def admin_session(target: Target) -> Iterator[Session]:
    """Open a session in a database other than that of `target`; ConnectError if the server allows none.

    An error of the server that the block does not handle becomes a ServerError: an administrator may end any session.
    """
    session = _connect(target)
    try:
        with session:
            yield session
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"changing {target.display}") from error


def _connect(target: Target) -> Session:
    names = [name for name in MAINTENANCE if name != target.name]
    for name in names[:-1]:
        try:
            return target.database(name).connect(_SETTINGS, encoding="UTF8")
        except ConnectError as error:
            if error.sqlstate not in _TRY_NEXT:
                raise
    return target.database(names[-1]).connect(_SETTINGS, encoding="UTF8")


@contextlib.contextmanager
def locked_on_server(admin: Session, database: str) -> Iterator[None]:
    """Lock restores of `database` on this server; RefnetError (LOCKED) if another run holds the lock.

    The lock ends with the session, so a killed run blocks nobody.
    """
    if not _locked(admin, database):
        raise RefnetError(
            f"another run restores {database} on this server",
            "Wait for it to end; a killed run leaves no lock.",
            Exit.LOCKED,
        )
    try:
        yield
    finally:
        if not admin.closed:
            admin.execute("SELECT pg_advisory_unlock(%s)", (_key(database),))


def runs_restore(admin: Session, database: str) -> bool:
    """Return whether another run restores `database` on this server."""
    if not _locked(admin, database):
        return True
    admin.execute("SELECT pg_advisory_unlock(%s)", (_key(database),))
    return False


def _locked(admin: Session, database: str) -> bool:
    row = admin.execute("SELECT pg_try_advisory_lock(%s)", (_key(database),)).fetchone()
    return bool(row and row[0])


def _key(database: str) -> int:
    digest = hashlib.sha256(b"refnet restores " + database.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
