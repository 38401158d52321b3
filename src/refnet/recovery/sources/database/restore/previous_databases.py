"""Databases that a restore made or replaced: listed, told from forged ones by the records, dropped in the end.

Each carries a mark in its comment, for people and for copies of runs that were killed. A comment is whatever the
database's owner writes, so a previous version is believed only where a record names its oid and its owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import psycopg
from psycopg import errors, sql

from refnet.errors import RefnetError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.formatting import plural
from refnet.recovery.model.previous import Mark, Record, Why
from refnet.recovery.model.restore_plan import Sessions
from refnet.recovery.model.retention import PreviousVersion
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.admin_session import Session, alone, maintenance
from refnet.recovery.sources.database.restore.server_facts import sessions
from refnet.recovery.sources.database.rows import row_counts

_MARK = "RefNet "
#: Only a database with such a name is ever dropped, whatever its comment says.
_NAME = re.compile(r"(.*)_(copy|before|undone)_\d{8}_\d{6}(?:_\d+)?", re.DOTALL)
_UNRECORDED = "its comment is RefNet's, and no record in REFNET_HOME names it"

_MARKED = """
SELECT datname::text, oid::int8, pg_get_userbyid(datdba)::text, shobj_description(oid, 'pg_database'), datallowconn,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END
FROM pg_database WHERE NOT datistemplate
"""


@dataclass(frozen=True)
class PreviousDatabase:
    """A marked database on the server.

    `doubt`: why it may not be what its mark says, "" where a record names it or where it is a copy. `record`: the
    record of its name, if there is one. `size` in bytes.
    """

    name: str
    oid: int
    owner: str
    mark: Mark
    doubt: str = ""
    record: Record | None = None
    size: int = 0

    @property
    def of(self) -> str:
        return self.mark.of

    @property
    def why(self) -> Why:
        return self.mark.why

    @property
    def at(self) -> datetime:
        return self.mark.at

    @property
    def is_copy(self) -> bool:
        return self.why is Why.COPY


def comment_of(mark: Mark) -> str:
    """The comment that carries `mark`."""
    return _MARK + mark.to_json()


def read(name: str, comment: str | None) -> Mark | None:
    """The mark of a database by its name and comment, or None where they are none of ours, or disagree."""
    match, mark = _NAME.fullmatch(name), _in_comment(comment)
    return mark if match and mark and (match[2] == "copy") is (mark.why is Why.COPY) else None


def own_comment(comment: str | None) -> str | None:
    """`comment`, or the one that a mark in its place keeps: a live database must not look like a kept one."""
    found = _in_comment(comment)
    return found.comment if found else comment


def _in_comment(comment: str | None) -> Mark | None:
    if not comment or not comment.startswith(_MARK):
        return None
    try:
        return Mark.from_json(comment.removeprefix(_MARK))
    except ValueError:
        return None


def previous_databases(target: Target, records: Sequence[Record]) -> list[PreviousVersion]:
    """What restores of `target` made or replaced, for prune: one in use, or not recorded, is held back."""
    with maintenance(target) as admin:
        return [
            PreviousVersion(
                SourceName.DATABASE,
                f"database {one.name}",
                one.at,
                partial(_drop_alone, target, one),
                _held_back(admin, one),
            )
            for one in marked(admin, records)
            if one.of == target.name
        ]


def _held_back(admin: Session, one: PreviousDatabase) -> str:
    if one.doubt:
        return f"unknown: {one.doubt}"
    using = () if one.is_copy else sessions(admin, one.name)
    return f"in use: {told(using)}" if using else ""


def _drop_alone(target: Target, one: PreviousDatabase) -> None:
    """Drop it; RefnetError (LOCKED) where a restore of the same database runs, whose copy it may be."""
    with maintenance(target) as admin, alone(admin, one.of):
        drop(admin, target, one)


def marked(admin: Session, records: Sequence[Record] = ()) -> tuple[PreviousDatabase, ...]:
    """Every marked or recorded database of the server, oldest first."""
    system = row_counts.system_identifier(admin)
    known = {record.name: record for record in records if system is None or record.system in {system, None}}
    found = (_kept(known.get(row[0]), system, *row) for row in admin.execute(_MARKED).fetchall())
    return tuple(sorted((kept for kept in found if kept), key=lambda kept: (kept.at, kept.name)))


def _kept(
    record: Record | None,
    system: str | None,
    name: str,
    oid: int,
    owner: str,
    comment: str | None,
    opened: bool,
    size: int,
) -> PreviousDatabase | None:
    if record:
        return PreviousDatabase(name, oid, owner, record.mark, record.doubt(system, oid, owner), record, size)
    mark = read(name, comment) or (None if opened or comment else _unborn(name))
    if mark is None:
        return None
    return PreviousDatabase(name, oid, owner, mark, "" if mark.why is Why.COPY else _UNRECORDED, None, size)


def _unborn(name: str) -> Mark | None:
    """That of a copy that was created and not yet marked: it has our name, no comment, and lets nobody in."""
    match = _NAME.fullmatch(name)
    if not match or match[2] != "copy":
        return None
    return Mark(match[1], Why.COPY, datetime.min.replace(tzinfo=UTC))


def of_database(
    all_marked: Iterable[PreviousDatabase], database: str, *whys: Why
) -> tuple[PreviousDatabase, ...]:
    """Those of them that belong to `database`."""
    return tuple(kept for kept in all_marked if kept.of == database and kept.why in whys)


def comment_on(name: str, comment: str | None) -> sql.Composed:
    """The statement that gives a database its comment."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def limit_of(name: str, limit: int) -> sql.Composed:
    """The statement that gives a database its limit of connections; 0 lets in superusers alone."""
    return sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(sql.Identifier(name), sql.Literal(limit))


def open_copy(admin: Session, name: str, mark: Mark) -> None:
    """Mark a new copy and let sessions in, in one step: what lets nobody in and has no mark is empty."""
    with admin.transaction():
        admin.execute(comment_on(name, comment_of(mark)))
        admin.execute(let_in(name, allow=True))


def let_in(name: str, *, allow: bool) -> sql.Composed:
    """The statement that lets sessions into a database, or nobody, superusers included."""
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allow))


def gone(admin: Session, records: Sequence[Record], database: str) -> tuple[Record, ...]:
    """Those of `records`, of `database` on this server, whose database is not there any more."""
    system = row_counts.system_identifier(admin)
    there = set(admin.execute("SELECT datname::text, oid::int8 FROM pg_database").fetchall())
    return tuple(
        one
        for one in records
        if one.mark.of == database and one.system == system and (one.name, one.oid) not in there
    )


def drop(admin: Session, target: Target, kept: PreviousDatabase) -> None:
    """Drop a copy with whoever is still in it, or a previous version that nobody uses; RefnetError where one does.

    Its subscriptions first lose their slots, which may be those of the live one: DROP would drop them at the
    publisher.
    """
    found = next(
        (one for one in marked(admin, [kept.record] if kept.record else []) if one.name == kept.name), None
    )
    if found is None:
        there = admin.execute("SELECT FROM pg_database WHERE datname = %s", (kept.name,)).fetchone()
        if there is None:
            return
        raise RefnetError(f"{kept.name} carries no mark of RefNet, so it is not dropped", "Drop it yourself.")
    if found.oid != kept.oid or found.doubt:
        raise RefnetError(
            f"{kept.name} is not dropped: {found.doubt or 'another database has its name now'}",
            f'Look at it, then drop it yourself: DROP DATABASE "{kept.name}".',
        )
    force = sql.SQL(" WITH (FORCE)" if found.is_copy else "")
    try:
        if not found.is_copy and (using := sessions(admin, kept.name)):
            raise in_use(kept.name, using)
        _drop_subscriptions(admin, target, kept.name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(kept.name)) + force)
    except errors.ObjectInUse as error:
        raise in_use(kept.name, sessions(admin, kept.name)) from error
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"dropping {kept.name}") from error


def in_use(name: str, using: Sequence[Sessions]) -> RefnetError:
    """That `name` is not dropped, as somebody is connected to it."""
    return RefnetError(
        f"{name} is not dropped, it is in use: {told(using) or 'a session that came and went'}",
        "Point them at the live database, or drop it yourself: DROP DATABASE … WITH (FORCE).",
    )


def told(using: Sequence[Sessions]) -> str:
    """Who is connected: `2 sessions of web (gunicorn)`."""
    return ", ".join(
        f"{plural(s.count, 'session')} of {s.user} ({s.application or 'unnamed'})" for s in using
    )


def _drop_subscriptions(admin: Session, target: Target, name: str) -> None:
    here = "SELECT subname::text, datallowconn FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
    found = admin.execute(here, (name,)).fetchall()
    if not found:
        return
    if not found[0][1]:
        admin.execute(let_in(name, allow=True))
    # The settings of a database are its owner's: a search_path of his would run his code as this role.
    with target.database(name).connect(READER_SETTINGS) as session:
        for subscription in (sql.Identifier(one) for one, _ in found):
            for change in ("DISABLE", "SET (slot_name = NONE)"):
                session.execute(sql.SQL("ALTER SUBSCRIPTION {} ").format(subscription) + sql.SQL(change))
            session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))
