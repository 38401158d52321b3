"""The session from which databases are made, renamed and dropped: in none of them, one restore at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from refnet.errors import Exit, RefnetError
from refnet.postgres.connecting import ConnectError
from refnet.postgres.session import READER_SETTINGS, Target

Session = psycopg.Connection[tuple[Any, ...]]
Statement = sql.SQL | sql.Composed

#: It waits for hours beside a load, and makes no transaction that could be lost.
_SETTINGS: Mapping[str, str] = {
    **READER_SETTINGS,
    "default_transaction_read_only": "off",
    "synchronous_commit": "on",
    "client_min_messages": "warning",
}
#: Where every server lets administrators in.
_PLACES = ("postgres", "template1")
_PASSED_OVER = {"3D000", "42501", "55000"}  # not there, not allowed there, no connections allowed


@contextlib.contextmanager
def maintenance(target: Target) -> Iterator[Session]:
    """A session beside the database of `target`; ConnectError where the server lets us into neither place."""
    session = _connect(target)
    with session:
        yield session


def _connect(target: Target) -> Session:
    places = [place for place in _PLACES if place != target.name]
    for place in places[:-1]:
        try:
            return target.database(place).connect(_SETTINGS, encoding="UTF8")
        except ConnectError as error:
            if error.sqlstate not in _PASSED_OVER:
                raise
    return target.database(places[-1]).connect(_SETTINGS, encoding="UTF8")


@contextlib.contextmanager
def alone(admin: Session, database: str) -> Iterator[None]:
    """Hold the one lock of restores of `database` on this server; RefnetError (LOCKED) where another run does.

    The server holds it for the session, so that a killed run blocks nobody.
    """
    if not _locked(admin, database):
        raise RefnetError(
            f"another run restores {database} on this server",
            "Wait for it to end; a killed one holds no lock.",
            Exit.LOCKED,
        )
    try:
        yield
    finally:
        if not admin.closed:
            admin.execute("SELECT pg_advisory_unlock(%s)", (_key(database),))


def _locked(admin: Session, database: str) -> bool:
    row = admin.execute("SELECT pg_try_advisory_lock(%s)", (_key(database),)).fetchone()
    return bool(row and row[0])


def _key(database: str) -> int:
    digest = hashlib.sha256(b"refnet restores " + database.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
