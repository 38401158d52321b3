"""Databases that a restore made or put aside: marked by their comment, listed, dropped when their time is over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import psycopg
from psycopg import sql

from refnet.errors import RefnetError
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import utc
from refnet.recovery.sources.database import failure
from refnet.recovery.sources.database.maintenance import Session, alone, maintenance

_MARK = "RefNet "
#: Only a database with such a name is ever dropped, whatever its comment says.
_NAME = re.compile(r"(.*)_(copy|before|undone)_\d{8}_\d{6}(?:_\d+)?", re.DOTALL)


class Why(StrEnum):
    """What a marked database is."""

    COPY = "copy"  # being loaded; a leftover where no restore runs
    RESTORED = "restored"  # put aside by a restore
    UNDONE = "undone"  # put aside by an undo


@dataclass(frozen=True)
class Kept:
    """A marked database.

    `of`: the name that it had, or is to have. `at`: when it was marked. `snapshot`: PostgreSQL's text of the
    moment of the exchange, from which what was written since is counted. `comment`: its own comment, put
    back with its name. `artifact`: what was restored in its place.
    """

    name: str
    of: str
    why: Why
    at: datetime
    artifact: str = ""
    snapshot: str = ""
    comment: str | None = None
    size: int = 0

    def expires(self, days: int) -> datetime:
        return self.at + timedelta(days=days)

    def mark(self) -> str:
        """The comment that makes it recognised."""
        values = {**asdict(self), "at": utc(self.at)}
        return _MARK + json.dumps({key: values[key] for key in values if key not in {"name", "size"}})


def read(name: str, comment: str | None, size: int = 0) -> Kept | None:
    """The mark of a database by its name and comment, or None where it has none of ours."""
    return _in_comment(name, comment, size) if _NAME.fullmatch(name) else None


def own_comment(comment: str | None) -> str | None:
    """`comment`, or the one that a mark in its place keeps: a live database must not look like a kept one."""
    found = _in_comment("", comment, 0)
    return found.comment if found else comment


def _in_comment(name: str, comment: str | None, size: int) -> Kept | None:
    if not comment or not comment.startswith(_MARK):
        return None
    try:
        values = json.loads(comment.removeprefix(_MARK))
        why, at = Why(values.pop("why")), datetime.fromisoformat(values.pop("at"))
        return Kept(name=name, why=why, at=at, size=size, **values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def kept_databases(target: Target) -> tuple[Kept, ...]:
    """Every marked database on the server of `target`, oldest first."""
    with maintenance(target) as admin:
        return marked(admin)


def drop_kept(target: Target, kept: Kept) -> None:
    """Drop one of them; RefnetError (LOCKED) where a restore of the same database runs, whose copy it may be."""
    with maintenance(target) as admin, alone(admin, kept.of):
        drop(admin, target, kept.name)


def marked(admin: Session) -> tuple[Kept, ...]:
    """Every marked database of the server, oldest first."""
    rows = admin.execute("""
        SELECT datname::text, shobj_description(oid, 'pg_database'), datallowconn,
               CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END
        FROM pg_database WHERE NOT datistemplate""").fetchall()
    found = (
        read(name, comment, size) or (None if open_ else _unborn(name, comment, size))
        for name, comment, open_, size in rows
    )
    return tuple(sorted((kept for kept in found if kept), key=lambda kept: (kept.at, kept.name)))


def _unborn(name: str, comment: str | None, size: int) -> Kept | None:
    """A copy that was created and not yet marked: it has our name, no comment, and lets nobody in."""
    match = _NAME.fullmatch(name)
    if not match or match[2] != "copy" or comment:
        return None
    return Kept(name, match[1], Why.COPY, datetime.min.replace(tzinfo=UTC), size=size)


def of_database(all_marked: Iterable[Kept], database: str, *whys: Why) -> tuple[Kept, ...]:
    """Those of them that belong to `database`."""
    return tuple(kept for kept in all_marked if kept.of == database and kept.why in whys)


def comment_on(name: str, comment: str | None) -> sql.Composed:
    """The statement that gives a database its comment."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def open_copy(admin: Session, copy: Kept) -> None:
    """Mark a new copy and let sessions in, in one step: what lets nobody in and has no mark is empty."""
    with admin.transaction():
        admin.execute(comment_on(copy.name, copy.mark()))
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(copy.name)))


def drop(admin: Session, target: Target, name: str) -> None:
    """Drop a marked database with whoever is still in it.

    Its subscriptions first lose their slots, which may be those of the live one: DROP would drop them at the
    publisher.
    """
    row = admin.execute(
        "SELECT EXISTS (SELECT FROM pg_subscription WHERE subdbid = d.oid) FROM pg_database d WHERE datname = %s",
        (name,),
    ).fetchone()
    if row is None:
        return
    if name not in {one.name for one in marked(admin)}:
        raise RefnetError(f"{name} carries no mark of RefNet, so it is not dropped", "Drop it yourself.")
    try:
        if row[0]:
            _drop_subscriptions(target.database(name))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise failure.of_server(error, f"dropping {name}") from error


def _drop_subscriptions(target: Target) -> None:
    with target.connect() as session:
        here = "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        for (name,) in session.execute(f"SELECT subname::text FROM pg_subscription WHERE {here}").fetchall():  # noqa: S608  # no value in it
            subscription = sql.Identifier(name)
            for change in ("DISABLE", "SET (slot_name = NONE)"):
                session.execute(sql.SQL("ALTER SUBSCRIPTION {} ").format(subscription) + sql.SQL(change))
            session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))
