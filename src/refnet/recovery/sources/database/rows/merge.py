"""Staged rows merged into the live tables: one transaction, under locks, counted again, every foreign key checked."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Sequence

from psycopg import errors

from refnet.errors import RefnetError
from refnet.recovery.model.formatting import plural
from refnet.recovery.model.table_plan import Difference, Mode
from refnet.recovery.sources.database.rows.table_layout import DeferrableKey, ForeignKey, Session, Shape
from refnet.recovery.sources.database.sql_names import Codec

_LOCK_TIMEOUT = "10s"


def differ(session: Session, codec: Codec, shape: Shape) -> Difference:
    """The staged rows beside the live ones."""
    column = shape.key[0][0]
    lacking, extra, alike = b"t.%b IS NULL" % column, b"s.%b IS NULL" % column, _alike(codec, shape)
    unlike = b"NOT (%b OR %b OR %b)" % (lacking, extra, alike)
    counts = b", ".join(b"count(*) FILTER (WHERE %b)" % one for one in (lacking, unlike, extra, alike))
    row = session.execute(
        b"SELECT %b FROM %b s FULL JOIN %b t ON %b" % (counts, shape.stage, shape.only, _same_key(shape))
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


def in_order(shapes: Sequence[Shape]) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """`shapes`, each behind those that it refers to, and the tables of a cycle that leaves no such order.

    Keys that can be deferred to the end of the transaction give way first.
    """
    for keys in ((True, False), (False,)):
        graph = {number: _referred(shapes, shape, keys) for number, shape in enumerate(shapes)}
        try:
            return tuple(shapes[number] for number in graphlib.TopologicalSorter(graph).static_order()), ()
        except graphlib.CycleError as error:
            cycle = tuple(dict.fromkeys(shapes[number].shown for number in error.args[1]))
    return tuple(shapes), cycle


def _referred(shapes: Sequence[Shape], shape: Shape, deferrable: Collection[bool]) -> set[int]:
    """The places of those `shapes` that `shape` refers to by other keys than one of its own table."""
    keys = {key.id for key in shape.foreign if key.out and not key.into and key.deferrable in deferrable}
    return {n for n, one in enumerate(shapes) for key in one.foreign if key.into and key.id in keys}


def merge(session: Session, codec: Codec, mode: Mode, planned: Sequence[tuple[Shape, Difference]]) -> None:
    """Make the live tables what `mode` says, or nothing of them.

    RefnetError where one changed since it was `planned`, where a foreign key or another key would break, or
    where one cannot be locked.
    """
    shapes, cycle = in_order([shape for shape, _ in planned])
    names = ", ".join(shape.shown for shape in shapes)
    try:
        with session.transaction():
            _lock(session, shapes)
            for shape, difference in planned:
                if differ(session, codec, shape) != difference:
                    raise RefnetError(
                        f"{shape.shown} was changed while the plan was looked at",
                        "Run it again to see the new plan; nothing was changed.",
                    )
            held_back = may_hold_back(session)
            if cycle and not held_back:
                raise cyclic(cycle)
            session.execute("SET CONSTRAINTS ALL DEFERRED")
            if held_back:
                session.execute("SET LOCAL session_replication_role = replica")
            _write(session, codec, shapes, mode)
            if held_back:
                _check_keys(session, shapes)
            for shape in shapes:
                _raise_sequences(session, shape)
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except errors.LockNotAvailable as error:
        raise RefnetError(
            f"{names} could not be locked within {_LOCK_TIMEOUT}: other sessions write there",
            "Run it again when they are done; nothing was changed.",
        ) from error
    except errors.IntegrityError as error:
        raise _would_break(names, error.diag.message_primary or str(error)) from error


def cyclic(tables: Sequence[str]) -> RefnetError:
    """That no order restores `tables` where foreign keys are checked at each statement."""
    return RefnetError(
        f"{', '.join(tables)} refer to each other, and this role cannot hold their foreign keys back",
        "Restore them as a superuser (or GRANT SET ON PARAMETER session_replication_role); nothing was changed.",
    )


def _lock(session: Session, shapes: Sequence[Shape]) -> None:
    """No writer in the tables or in what their foreign keys join them to, until all is written and checked."""
    session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    written = {shape.only for shape in shapes}
    joined = {table for shape in shapes for key in shape.foreign for table in (key.referring, key.other)}
    for table in sorted(written | joined):
        mode = b"SHARE ROW EXCLUSIVE" if table in written else b"SHARE"
        session.execute(b"LOCK TABLE %b IN %b MODE" % (table, mode))


def _write(session: Session, codec: Codec, shapes: Sequence[Shape], mode: Mode) -> None:
    """Delete from the last of `shapes` on, insert from the first on: what refers to a row goes before it."""
    for shape in reversed(shapes) if mode is Mode.REPLACE else ():
        kept = b"SELECT FROM %b s WHERE %b AND %b" % (shape.stage, _same_key(shape), _alike(codec, shape))
        session.execute(b"DELETE FROM %b t WHERE NOT EXISTS (%b)" % (shape.only, kept))
    for shape in shapes:
        names = b", ".join(codec.quoted(column) for column in shape.columns)
        values = b", ".join(b"s." + codec.quoted(column) for column in shape.columns)
        there = b"SELECT FROM %b t WHERE %b" % (shape.only, _same_key(shape))
        session.execute(
            b"INSERT INTO %b (%b) OVERRIDING SYSTEM VALUE SELECT %b FROM %b s WHERE NOT EXISTS (%b)"
            % (shape.name, names, values, shape.stage, there)
        )


def _check_keys(session: Session, shapes: Sequence[Shape]) -> None:
    """Check what the triggers that were held back would have checked, each key once."""
    seen: set[tuple[str, bytes, bytes]] = set()
    for shape in shapes:
        for key in shape.foreign:
            if key.id not in seen:
                _check(session, shape, key)
            seen.add(key.id)
        for unique in shape.deferrable:
            _check_unique(session, shape, unique)


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
        raise _would_break(shape.shown, f"{row[0]} rows {what} ({key.name})")


def _check_unique(session: Session, shape: Shape, key: DeferrableKey) -> None:
    """No two rows share a key that PostgreSQL would have checked by the triggers that were held back."""
    columns = b", ".join(key.columns)
    filled = b" AND ".join(b"%b IS NOT NULL" % column for column in key.columns)
    row = session.execute(
        b"SELECT count(*) FROM (SELECT FROM %b WHERE %b GROUP BY %b HAVING count(*) > 1) d"
        % (shape.only, filled, columns)
    ).fetchone()
    if row and row[0]:
        raise _would_break(shape.shown, f"{plural(row[0], 'value')} of the key {key.name} would stand twice")


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


def _would_break(tables: str, why: str) -> RefnetError:
    return RefnetError(
        f"{tables} cannot be restored alone: {why}",
        "Restore the tables that it refers to as well, or the whole database; nothing was changed.",
    )
