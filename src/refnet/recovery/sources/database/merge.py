"""Staged rows merged into the live table: one transaction, under a lock, counted again, every foreign key checked."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import errors

from refnet.errors import RefnetError
from refnet.recovery.model.restoring_table import Difference, Mode
from refnet.recovery.model.words import plural
from refnet.recovery.sources.database.names import Codec
from refnet.recovery.sources.database.rows import STAGE
from refnet.recovery.sources.database.shape import DeferrableKey, ForeignKey, Session, Shape

_LOCK_TIMEOUT = "10s"


def differ(session: Session, codec: Codec, shape: Shape) -> Difference:
    """The staged rows beside the live ones."""
    column = shape.key[0][0]
    lacking, extra, alike = b"t.%b IS NULL" % column, b"s.%b IS NULL" % column, _alike(codec, shape)
    unlike = b"NOT (%b OR %b OR %b)" % (lacking, extra, alike)
    counts = b", ".join(b"count(*) FILTER (WHERE %b)" % one for one in (lacking, unlike, extra, alike))
    row = session.execute(
        b"SELECT %b FROM %b s FULL JOIN %b t ON %b" % (counts, STAGE, shape.only, _same_key(shape))
    ).fetchone()
    assert row is not None  # noqa: S101  # an aggregate has a row
    return Difference(*row)


def may_hold_back(session: Session) -> bool:
    """Whether this role may keep triggers and cascades from firing (session_replication_role)."""
    try:
        with session.transaction():
            session.execute("SET LOCAL session_replication_role = replica")
    except errors.InsufficientPrivilege:
        return False
    return True


def merge(session: Session, codec: Codec, shape: Shape, mode: Mode, planned: Difference) -> None:
    """Make the live table what `mode` says, or nothing of it.

    RefnetError where it changed since it was `planned`, where a foreign key or another key would break, or
    where it cannot be locked.
    """
    try:
        with session.transaction():
            _lock(session, shape)
            if differ(session, codec, shape) != planned:
                raise RefnetError(
                    f"{shape.shown} was changed while the plan was looked at",
                    "Run it again to see the new plan; nothing was changed.",
                )
            held_back = may_hold_back(session)
            if held_back:
                session.execute("SET LOCAL session_replication_role = replica")
            _write(session, codec, shape, mode)
            if held_back:
                for key in shape.foreign:
                    _check(session, shape, key)
                for unique in shape.deferrable:
                    _check_unique(session, shape, unique)
            _raise_sequences(session, shape)
    except errors.LockNotAvailable as error:
        raise RefnetError(
            f"{shape.shown} could not be locked within {_LOCK_TIMEOUT}: other sessions write to it",
            "Run it again when they are done; nothing was changed.",
        ) from error
    except errors.IntegrityError as error:
        raise _would_break(shape, error.diag.message_primary or str(error)) from error


def _lock(session: Session, shape: Shape) -> None:
    """No writer in the table or in what its foreign keys join it to, until all is written and checked."""
    session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    session.execute(b"LOCK TABLE %b IN SHARE ROW EXCLUSIVE MODE" % shape.only)
    for table in sorted({table for key in shape.foreign for table in (key.referring, key.other)}):
        session.execute(b"LOCK TABLE %b IN SHARE MODE" % table)


def _write(session: Session, codec: Codec, shape: Shape, mode: Mode) -> None:
    names = b", ".join(codec.quoted(column) for column in shape.columns)
    values = b", ".join(b"s." + codec.quoted(column) for column in shape.columns)
    key = _same_key(shape)
    if mode is Mode.REPLACE:
        kept = b"SELECT FROM %b s WHERE %b AND %b" % (STAGE, key, _alike(codec, shape))
        session.execute(b"DELETE FROM %b t WHERE NOT EXISTS (%b)" % (shape.only, kept))
    session.execute(
        b"INSERT INTO %b (%b) OVERRIDING SYSTEM VALUE SELECT %b FROM %b s WHERE NOT EXISTS (SELECT FROM %b t WHERE %b)"
        % (shape.name, names, values, STAGE, shape.only, key)
    )


def _check(session: Session, shape: Shape, key: ForeignKey) -> None:
    """Every referring row finds the row that it refers to; what was never checked in the database is not here."""
    if not key.valid:
        return
    pairs = zip(key.columns, key.other_columns, key.operators, strict=True)
    same = b" AND ".join(b"p.%b %b f.%b" % (other, operator, column) for column, other, operator in pairs)
    filled = b" AND ".join(b"f.%b IS NOT NULL" % column for column in key.columns)
    row = session.execute(
        b"SELECT count(*) FROM %b f WHERE %b AND NOT EXISTS (SELECT FROM %b p WHERE %b)"
        % (key.referring, filled, key.other, same)
    ).fetchone()
    if row and row[0]:
        what = (
            "refer to rows that would not be there" if key.into else "would refer to rows that are not there"
        )
        raise _would_break(shape, f"{row[0]} rows {what} ({key.name})")


def _check_unique(session: Session, shape: Shape, key: DeferrableKey) -> None:
    """No two rows share a key that PostgreSQL would have checked by the triggers that were held back."""
    columns = b", ".join(key.columns)
    filled = b" AND ".join(b"%b IS NOT NULL" % column for column in key.columns)
    row = session.execute(
        b"SELECT count(*) FROM (SELECT FROM %b WHERE %b GROUP BY %b HAVING count(*) > 1) d"
        % (shape.only, filled, columns)
    ).fetchone()
    if row and row[0]:
        raise _would_break(shape, f"{plural(row[0], 'value')} of the key {key.name} would stand twice")


def _raise_sequences(session: Session, shape: Shape) -> None:
    """Each sequence of the table at least at its column's largest value (at most at the smallest, if it descends)."""
    for one in shape.sequences:
        end, beyond = (b"max", b">") if one.ascending else (b"min", b"<")
        session.execute(
            b"SELECT pg_catalog.setval(%b::regclass, m.value) FROM %b q, (SELECT %b(%b) AS value FROM %b) m"
            b" WHERE m.value %b q.last_value OR (m.value = q.last_value AND NOT q.is_called)"
            % (_literal(one.name), one.name, end, one.column, shape.only, beyond)
        )


def _literal(name: bytes) -> bytes:
    return b"'" + name.replace(b"'", b"''") + b"'"


def _same_key(shape: Shape) -> bytes:
    return b" AND ".join(b"t.%b %b s.%b" % (column, operator, column) for column, operator in shape.key)


def _alike(codec: Codec, shape: Shape) -> bytes:
    """Whether two rows have the same text: every type has one, not every type has an equality."""

    def text(alias: bytes) -> Iterator[bytes]:
        return (alias + codec.quoted(column) for column in shape.columns)

    return b"ROW(%b)::text = ROW(%b)::text" % (b", ".join(text(b"s.")), b", ".join(text(b"t.")))


def _would_break(shape: Shape, why: str) -> RefnetError:
    return RefnetError(
        f"{shape.shown} cannot be restored alone: {why}",
        "Restore the tables that it refers to as well, or the whole database; nothing was changed.",
    )
