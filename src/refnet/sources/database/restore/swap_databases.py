"""Swaps databases in one transaction, while another session keeps terminating the sessions in them.

Terminating first and renaming then fails against a pool that reconnects, so both happen at the same time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from refnet.core.errors import RefnetError
from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, Statement, admin_session

_TRIES = 5
_PAUSE = 0.01  # seconds between two rounds of terminating sessions

#: The server's own workers end by themselves; those of extensions (pg_cron) start again, like the clients of a pool.
_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_backend_pid()
    AND backend_type NOT IN ('autovacuum worker', 'parallel worker', 'logical replication worker')
"""


@dataclass(frozen=True)
class Rename:
    """A rename of one database."""

    old: str
    new: str
    #: Of the intended database: another one may have its name by now.
    oid: int

    @property
    def statement(self) -> Statement:
        return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
            sql.Identifier(self.old), sql.Identifier(self.new)
        )


def swap(admin: Session, target: Target, renames: Sequence[Rename], also: Sequence[Statement] = ()) -> None:
    """Do `renames`, in this order, and run `also`, all in one transaction; change nothing where it fails.

    Nobody connects to the databases before that: the server delays connections until a rename is committed, and
    earlier sessions are terminated. RefnetError where a name belongs to another database than the intended one.
    """
    names = [rename.old for rename in renames]
    with _disconnected(target, names):
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
                    raise _in_use(admin, names) from error
            except errors.DuplicateDatabase as error:
                raise RefnetError(
                    f"a database named {renames[-1].new} was created on the server during the restore",
                    "It was not touched. Drop or rename it, or give another name, then retry.",
                ) from error
            except psycopg.Error as error:
                raise server_errors.of_server(error, "swapping the databases") from error
            else:
                return


def terminate(admin: Session, names: list[str]) -> None:
    """Terminate the other sessions in the databases `names`."""
    admin.execute(_TERMINATE, (names,))


def _check(admin: Session, renames: Sequence[Rename]) -> None:
    """Compare the oid of each renamed database, which nobody else can rename now."""
    found: dict[str, int] = dict(admin.execute("SELECT datname::text, oid::int8 FROM pg_database").fetchall())
    for rename in renames:
        if found.get(rename.new) != rename.oid:
            raise RefnetError(
                f"{rename.old} was replaced by another database before the swap",
                "Stop the program that renames databases on this server, then retry; nothing was changed.",
            )


@contextlib.contextmanager
def _disconnected(target: Target, names: list[str]) -> Iterator[None]:
    """Keep terminating the sessions in `names`, from a session of its own, until the block ends."""
    over = threading.Event()

    def keep_terminating() -> None:
        with contextlib.suppress(psycopg.Error):
            while not over.wait(_PAUSE):
                terminate(other, names)

    with admin_session(target) as other:
        thread = threading.Thread(target=keep_terminating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _in_use(admin: Session, names: list[str]) -> RefnetError:
    rows = admin.execute(
        "SELECT coalesce(application_name, ''), usename::text FROM pg_stat_activity WHERE datname = ANY (%s)",
        (names,),
    ).fetchall()
    prepared = admin.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = ANY (%s)", (names,)
    ).fetchall()
    users = [f"the prepared transaction {gid}" for (gid,) in prepared]
    users += [f"a session of {user} ({application or 'unnamed'})" for application, user in rows]
    return RefnetError(
        f"{names[0]} cannot be renamed, it is in use by {', '.join(users) or 'a session that has ended since'}",
        "End what uses it and retry; nothing was changed.",
    )
