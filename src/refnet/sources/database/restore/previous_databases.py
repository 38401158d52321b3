"""Finds databases that restores made or replaced, checks them against the records, and drops them; and lists all others.

Each has a mark in its comment, for display and for copies of killed runs. The owner of a database can write any comment,
so a previous version is trusted only if a record names its oid and owner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from psycopg import errors, sql

from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.postgres.embedded import DATABASE
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.settings import SourceSettings
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import (
    Session,
    Statement,
    admin_session,
    locked_on_server,
    runs_restore,
)
from refnet.sources.database.plan.restore_facts import OWN_NAME, LiveSessions
from refnet.sources.database.restore.server_facts import sessions, system_identifier
from refnet.sources.database.sql_text import Codec
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousRecord

_MARK = "RefNet "
_UNRECORDED = "its comment is RefNet's, and no record in REFNET_HOME names it"

_MARKED = """
SELECT datname::text, oid::int8, pg_get_userbyid(datdba)::text, shobj_description(oid, 'pg_database'), datallowconn,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END
FROM pg_database WHERE NOT datistemplate
"""


@dataclass(frozen=True)
class PreviousDatabase:
    """A marked database on the server."""

    name: str
    oid: int
    owner: str
    mark: DatabaseMark
    #: Why its mark may be wrong; "" where a record names it or where it is a copy.
    doubt: str = ""
    #: The record of its name, if there is one.
    record: PreviousRecord | None = None
    #: In bytes.
    size: int = 0

    @property
    def of(self) -> str:
        return self.mark.of

    @property
    def why(self) -> MarkState:
        return self.mark.why

    @property
    def at(self) -> datetime:
        return self.mark.at

    @property
    def is_copy(self) -> bool:
        return self.why is MarkState.COPY


def comment_of(mark: DatabaseMark) -> str:
    """Return the comment that contains `mark`."""
    return _MARK + mark.to_json()


def read(name: str, comment: str | None) -> DatabaseMark | None:
    """The mark in `comment`; None if mark or name are not RefNet's, or they disagree."""
    match, mark = OWN_NAME.fullmatch(name), _in_comment(comment)
    return mark if match and mark and (match[2] == "copy") is (mark.why is MarkState.COPY) else None


def left_by_restore(name: str, comment: str | None, limit: int) -> bool:
    """Whether `name` belongs to a restore: a copy, or a closed previous version.

    Needs no record, as another machine may have restored: forging the mark would close the database to its users.
    """
    mark = read(name, comment)
    return mark is not None and (mark.why is MarkState.COPY or limit == 0)


def own_comment(comment: str | None) -> str | None:
    """The database's own comment, restored from a mark if needed: a live database must have no mark."""
    found = _in_comment(comment)
    return found.comment if found else comment


def _in_comment(comment: str | None) -> DatabaseMark | None:
    if not comment or not comment.startswith(_MARK):
        return None
    try:
        return DatabaseMark.from_json(comment.removeprefix(_MARK))
    except ValueError:
        return None


def versions(
    target: Target, records: Sequence[PreviousRecord], forget: Callable[[PreviousRecord], None]
) -> list[PreviousVersion]:
    """Databases that restores of `target` made or replaced, for prune; those in use or unrecorded are kept.

    `forget` removes the record of a database that is gone.
    """
    with admin_session(target) as admin:
        there = [
            PreviousVersion(
                SourceName.DATABASE,
                f"{'copy' if one.is_copy else 'database'} {one.name}",
                one.at,
                partial(_drop_locked, target, one, forget),
                _not_droppable(admin, one),
                target.display,
                one.size,
                one.is_copy,
            )
            for one in marked(admin, records)
            if one.of == target.name
        ]
        return there + [
            PreviousVersion(
                SourceName.DATABASE,
                f"record of {one.name}, which was dropped",
                one.mark.at,
                partial(forget, one),
                of=target.display,
                size=0,
            )
            for one in gone(admin, records, target.name)
        ]


def recorded(records: Sequence[PreviousRecord]) -> list[PreviousVersion]:
    """Previous versions on RefNet's own server while it is stopped; they stay."""
    why = "RefNet's own server is stopped: `refnet postgres start`"
    return [
        PreviousVersion(
            SourceName.DATABASE,
            f"database {one.name}",
            one.mark.at,
            lambda: None,
            why,
            of=one.mark.of,
            size=None,
        )
        for one in records
        if one.mark.of == DATABASE
    ]


def _not_droppable(admin: Session, one: PreviousDatabase) -> str:
    """Reason why prune must not drop it, or ""."""
    if one.doubt:
        return f"unknown: {one.doubt}"
    if one.is_copy:
        return "a restore loads it" if runs_restore(admin, one.of) else ""
    using = sessions(admin, one.name)
    return f"in use: {format_sessions(using)}" if using else ""


def _drop_locked(target: Target, one: PreviousDatabase, forget: Callable[[PreviousRecord], None]) -> None:
    """Drop it, then forget its record; RefnetError (LOCKED) while a restore of the same database runs, as it may be its copy."""
    with admin_session(target) as admin, locked_on_server(admin, one.of):
        drop(admin, target, one)
        if one.record:
            forget(one.record)


def marked(admin: Session, records: Sequence[PreviousRecord] = ()) -> tuple[PreviousDatabase, ...]:
    """Return every marked or recorded database of the server, oldest first."""
    system = system_identifier(admin)
    known = {record.name: record for record in records if system is None or record.system in {system, None}}
    found = (_previous(row, known.get(row[0]), system) for row in admin.execute(_MARKED).fetchall())
    return tuple(sorted((one for one in found if one), key=lambda one: (one.at, one.name)))


def _previous(
    row: tuple[Any, ...], record: PreviousRecord | None, system: str | None
) -> PreviousDatabase | None:
    name, oid, owner, comment, opened, size = row
    if record and record.mark.why is not MarkState.COPY:
        return PreviousDatabase(name, oid, owner, record.mark, record.doubt(system, oid, owner), record, size)
    mark = read(name, comment) or (None if opened or comment else _unmarked_copy(name))
    if mark is None:
        return None
    return PreviousDatabase(
        name, oid, owner, mark, "" if mark.why is MarkState.COPY else _UNRECORDED, record, size
    )


def _unmarked_copy(name: str) -> DatabaseMark | None:
    """Mark for an unmarked copy: a name of RefNet's, no comment, no connections allowed."""
    match = OWN_NAME.fullmatch(name)
    if not match or match[2] != "copy":
        return None
    at = datetime.fromtimestamp(0, UTC)
    with suppress(ValueError, OverflowError):  # anybody may have named it
        at = datetime.strptime(match[3], "%Y%m%d_%H%M%S").astimezone()
    return DatabaseMark(match[1], MarkState.COPY, at)


def of_database(
    all_marked: Iterable[PreviousDatabase], database: str, *whys: MarkState
) -> tuple[PreviousDatabase, ...]:
    """Marked databases that belong to `database`."""
    return tuple(one for one in all_marked if one.of == database and one.why in whys)


def comment_on(name: str, comment: str | None) -> sql.Composed:
    """Return the statement that sets a database's comment."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def limit_of(name: str, limit: int) -> sql.Composed:
    """Return the statement that sets a database's connection limit; with 0 only superusers connect."""
    return sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(sql.Identifier(name), sql.Literal(limit))


def open_copy(admin: Session, name: str, mark: DatabaseMark) -> None:
    """Mark a new copy and allow connections, in one transaction: a copy without a mark is empty."""
    with admin.transaction():
        admin.execute(comment_on(name, comment_of(mark)))
        admin.execute(allow_connections(name, allow=True))


def allow_connections(name: str, *, allow: bool) -> sql.Composed:
    """Return the statement that allows connections to a database, or forbids them, to superusers as well."""
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allow))


def template(name: str, *, is_template: bool) -> sql.Composed:
    """Return the statement that makes a database a template, which nobody drops and every creator of databases copies, or not."""
    return sql.SQL("ALTER DATABASE {} IS_TEMPLATE {}").format(sql.Identifier(name), sql.Literal(is_template))


def free_name(admin: Session, name: str) -> str:
    """`name`, with a number appended if it is taken."""
    taken = {row[0] for row in admin.execute("SELECT datname::text FROM pg_database").fetchall()}
    numbered = (f"{name[:60]}_{number}" for number in range(2, 100))
    return next(one for one in (name, *numbered) if one not in taken)


def oid_of(admin: Session, name: str) -> int:
    """The oid of the database `name`; RefnetError if it no longer exists."""
    row = admin.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", (name,)).fetchone()
    if row is None:
        raise _vanished(name)
    return int(row[0])


def _vanished(name: str) -> RefnetError:
    hint = "It was dropped or renamed meanwhile: `psql -l` lists the databases. Rename it back, then retry."
    return RefnetError(f"the database {name} is gone", hint)


def record_of(admin: Session, live: str, name: str, successor: int, mark: DatabaseMark) -> PreviousRecord:
    """Return the record of the database `live` as a previous version named `name`; `successor`: the new one's oid."""
    row = admin.execute(
        "SELECT oid::int8, pg_get_userbyid(datdba)::text, pg_current_snapshot()::text,"
        " shobj_description(oid, 'pg_database'), datconnlimit, datistemplate FROM pg_database WHERE datname = %s",
        (live,),
    ).fetchone()
    if row is None:
        raise _vanished(live)
    oid, owner, snapshot, comment, limit, template = row
    own = replace(mark, snapshot=snapshot, comment=own_comment(comment), limit=limit, template=template)
    return PreviousRecord(system_identifier(admin), name, oid, owner, successor, own)


def closed(record: PreviousRecord) -> list[Statement]:
    """Return the statements that mark a previous version and close it to all but superusers."""
    mark = comment_on(record.name, comment_of(record.mark))
    copied = [template(record.name, is_template=False)] if record.mark.template else []
    return [mark, limit_of(record.name, 0), *copied]


def gone(admin: Session, records: Sequence[PreviousRecord], database: str) -> tuple[PreviousRecord, ...]:
    """Records of `database` on this server whose database no longer exists."""
    system = system_identifier(admin)
    existing = set(admin.execute("SELECT datname::text, oid::int8 FROM pg_database").fetchall())
    return tuple(
        one
        for one in records
        if one.mark.of == database and one.system == system and (one.name, one.oid) not in existing
    )


def drop(admin: Session, target: Target, previous: PreviousDatabase) -> None:
    """Drop a copy and disconnect its sessions, or drop a previous version; RefnetError if that has sessions.

    Subscriptions are detached from their slots first: DROP would drop the slots at the publisher, and the live database
    may use them.
    """
    name = previous.name
    records = [previous.record] if previous.record else []
    found = next((one for one in marked(admin, records) if one.name == name), None)
    if found is None:
        if admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            return
        raise RefnetError(f"{name} has no mark of RefNet, so it is not dropped", "Drop it yourself.")
    if found.oid != previous.oid or found.doubt:
        raise RefnetError(
            f"{name} is not dropped: {found.doubt or 'another database has its name now'}",
            f'Check it, then drop it yourself: DROP DATABASE "{name}".',
        )
    force = sql.SQL(" WITH (FORCE)" if found.is_copy else "")
    try:
        if not found.is_copy and (using := sessions(admin, name)):
            raise _in_use(name, using)
        _drop_subscriptions(admin, target, name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)) + force)
    except errors.ObjectInUse as error:
        raise _in_use(name, sessions(admin, name)) from error
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"dropping {name}") from error


def _in_use(name: str, using: Sequence[LiveSessions]) -> RefnetError:
    return RefnetError(
        f"{name} is not dropped, it is in use: {format_sessions(using) or 'a session that has ended since'}",
        "Point them at the live database, or drop it yourself: DROP DATABASE … WITH (FORCE).",
    )


def format_sessions(using: Sequence[LiveSessions]) -> str:
    """Connected sessions: `2 sessions of web (gunicorn)`."""
    return ", ".join(
        f"{plural(s.count, 'session')} of {s.user} ({s.application or 'unnamed'})" for s in using
    )


def _drop_subscriptions(admin: Session, target: Target, name: str) -> None:
    here = "SELECT subname::text, datallowconn FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
    found = admin.execute(here, (name,)).fetchall()
    if not found:
        return
    if not found[0][1]:
        admin.execute(allow_connections(name, allow=True))
    # Its owner sets the settings of a database: another search_path would run the owner's code as this role.
    settings = {**READER_SETTINGS, "default_transaction_read_only": "off"}
    with target.database(name).connect(settings) as session:
        for subscription in (sql.Identifier(one) for one, _ in found):
            for change in ("DISABLE", "SET (slot_name = NONE)"):
                session.execute(sql.SQL("ALTER SUBSCRIPTION {} ").format(subscription) + sql.SQL(change))
            session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))


#: `postgres` is the database to connect to before there is any other one; by default it is empty.
_OTHERS = """
SELECT datname::text, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
WHERE datallowconn AND datname NOT IN ('postgres', 'template0', 'template1', current_database()) ORDER BY 1
"""
#: Without the server's own templates. A limit of -2 is that of a database whose DROP was interrupted: nobody can connect.
_ALL = """
SELECT datname::text, shobj_description(oid, 'pg_database'), datconnlimit, datallowconn AND datconnlimit <> -2
FROM pg_database WHERE datname NOT IN ('template0', 'template1') ORDER BY 1
"""


def other_databases(target: Target) -> list[str]:
    """Other databases on the server of `target`, without databases made by restores.

    RefnetError if the server cannot be asked.
    """
    try:
        with target.connect({**READER_SETTINGS, "statement_timeout": "10000"}) as session:
            codec, _ = Codec.of_server(session)
            rows = codec.rows(session, _OTHERS)
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"listing the databases of {target.display}") from error
    return [name for name, comment in rows if read(name, comment) is None]


def databases_of_cluster(cluster: SourceSettings, before: Collection[str]) -> list[str]:
    """Databases of the server to back up, including known ones that now refuse connections: their backup must fail."""
    return databases_on(Target.from_url(cluster.url or "", f"clusters.{cluster.name}.url"), before)


def databases_on(target: Target, before: Collection[str] = ()) -> list[str]:
    """Databases of a server without those that restores made and left; of `before` also those that refuse connections.

    RefnetError if the server cannot be asked.
    """
    try:
        with target.connect(encoding="UTF8") as session:
            rows = session.execute(_ALL).fetchall()
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"listing the databases of {target.display}") from error
    return [
        name
        for name, comment, limit, open_to_sessions in rows
        if (open_to_sessions or name in before) and not left_by_restore(name, comment, limit)
    ]
