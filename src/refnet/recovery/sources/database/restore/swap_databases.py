"""Databases that change names in one transaction, while whoever connects to them is put out again and again.

Ending the sessions first and renaming then loses against a pool that reconnects; here both happen at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from refnet.errors import RefnetError
from refnet.postgres.session import Target
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.admin_session import Session, Statement, maintenance

_TRIES = 5
_PAUSE = 0.01  # seconds between two rounds of ending sessions

_END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')
"""


@dataclass(frozen=True)
class Rename:
    """The database that is renamed: `oid` says which one is meant, as a name may have been given to another."""

    old: str
    new: str
    oid: int

    @property
    def statement(self) -> Statement:
        return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
            sql.Identifier(self.old), sql.Identifier(self.new)
        )


def exchange(
    admin: Session, target: Target, renames: Sequence[Rename], also: Sequence[Statement] = ()
) -> None:
    """Do `renames`, in this order, and run `also`, all in one transaction; nothing where it fails.

    Nobody gets into any of the databases until the names are exchanged: the server holds connections back
    while a rename is not yet committed, and those that were faster are ended. RefnetError where a name belongs to
    another database than the one that is meant.
    """
    names = [rename.old for rename in renames]
    with _nobody_in(target, names):
        for attempt in range(_TRIES):
            try:
                with admin.transaction():
                    for rename in renames:
                        admin.execute(rename.statement)
                    _check(admin, renames)
                    for statement in also:
                        admin.execute(statement)
            except errors.ObjectInUse as error:
                if attempt == _TRIES - 1:
                    raise _held(admin, names) from error
            except psycopg.Error as error:
                raise server_errors.of_server(error, "exchanging the databases") from error
            else:
                return


def _check(admin: Session, renames: Sequence[Rename]) -> None:
    """Hold each renamed database, which nobody else can rename now, against its oid."""
    found: dict[str, int] = dict(admin.execute("SELECT datname::text, oid::int8 FROM pg_database").fetchall())
    for rename in renames:
        if found.get(rename.new) != rename.oid:
            raise RefnetError(
                f"{rename.old} is another database than the one that was looked at a moment ago",
                "Somebody renames databases on this server: see who, then run it again; nothing was changed.",
            )


@contextlib.contextmanager
def _nobody_in(target: Target, names: list[str]) -> Iterator[None]:
    """Keep ending the sessions in `names` from a session of its own until the block ends."""
    over = threading.Event()

    def keep_ending() -> None:
        with contextlib.suppress(psycopg.Error):
            while not over.wait(_PAUSE):
                ender.execute(_END_SESSIONS, (names,))

    with maintenance(target) as ender:
        thread = threading.Thread(target=keep_ending, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _held(admin: Session, names: list[str]) -> RefnetError:
    rows = admin.execute(
        "SELECT coalesce(application_name, ''), usename::text FROM pg_stat_activity WHERE datname = ANY (%s)",
        (names,),
    ).fetchall()
    prepared = admin.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = ANY (%s)", (names,)
    ).fetchall()
    held = [f"the prepared transaction {gid}" for (gid,) in prepared]
    held += [f"a session of {user} ({application or 'unnamed'})" for application, user in rows]
    return RefnetError(
        f"{names[0]} could not be renamed, it is held by {', '.join(held) or 'a session that came and went'}",
        "End what holds it and run it again; nothing was changed.",
    )
