"""Merges staged rows into live tables: in one transaction, under locks, with counts and foreign keys checked."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Sequence

from psycopg import errors

from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.sources.database.admin_session import Session
from refnet.sources.database.plan.table_plan import Difference
from refnet.sources.database.rows.table_layout import DeferrableKey, ForeignKey, TableLayout
from refnet.sources.database.sql_text import Codec, literal
from refnet.sources.restore_options import Mode

LOCK_TIMEOUT = "10s"


def differ(session: Session, codec: Codec, layout: TableLayout) -> Difference:
    """Compare the staged rows with the live ones, by the key; without one all rows are compared by their text."""
    if not layout.key:
        return _differ_as_text(session, codec, layout)
    column = layout.key[0][0]
    missing, extra, same = b"t.%b IS NULL" % column, b"s.%b IS NULL" % column, _same_row(codec, layout)
    changed = b"NOT (%b OR %b OR %b)" % (missing, extra, same)
    counts = b", ".join(b"count(*) FILTER (WHERE %b)" % one for one in (missing, changed, extra, same))
    row = session.execute(
        b"SELECT %b FROM %b s FULL JOIN %b t ON %b" % (counts, layout.stage, layout.only, _same_key(layout))
    ).fetchone()
    assert row is not None  # noqa: S101  # an aggregate has a row
    return Difference(*row)


def _differ_as_text(session: Session, codec: Codec, layout: TableLayout) -> Difference:
    names = codec.listed(layout.columns)

    def only(one: bytes, other: bytes) -> bytes:
        rows = b"SELECT ROW(%b)::text FROM %b EXCEPT ALL SELECT ROW(%b)::text FROM %b"
        return b"SELECT count(*) FROM (%b) d" % (rows % (names, one, names, other))

    counts = (only(layout.stage, layout.only), only(layout.only, layout.stage))
    total = b"SELECT count(*) FROM " + layout.stage
    row = session.execute(b"SELECT (%b), (%b), (%b)" % (*counts, total)).fetchone()
    assert row is not None  # noqa: S101  # for the type checker
    missing, extra, staged = row
    return Difference(missing, 0, extra, staged - missing)


def can_disable_triggers(session: Session) -> bool:
    """Whether this role may disable triggers and cascades (session_replication_role)."""
    try:
        with session.transaction():
            session.execute("SET LOCAL session_replication_role = replica")
    except errors.InsufficientPrivilege:
        return False
    return True


def in_order(layouts: Sequence[TableLayout]) -> tuple[tuple[TableLayout, ...], tuple[str, ...]]:
    """Order `layouts` after the tables they refer to; also return the tables of a cycle, if any.

    Deferrable keys are ignored if they prevent an order.
    """
    for keys in ((True, False), (False,)):
        graph = {number: _referred(layouts, layout, keys) for number, layout in enumerate(layouts)}
        try:
            return tuple(layouts[number] for number in graphlib.TopologicalSorter(graph).static_order()), ()
        except graphlib.CycleError as error:
            cycle = tuple(dict.fromkeys(layouts[number].qualified for number in error.args[1]))
    return tuple(layouts), cycle


def _referred(layouts: Sequence[TableLayout], layout: TableLayout, deferrable: Collection[bool]) -> set[int]:
    """Return the numbers of the `layouts` that `layout` refers to by keys to other tables."""
    keys = {key.id for key in layout.foreign if key.out and not key.into and key.deferrable in deferrable}
    return {n for n, one in enumerate(layouts) for key in one.foreign if key.into and key.id in keys}


def merge(
    session: Session, codec: Codec, mode: Mode, planned: Sequence[tuple[TableLayout, Difference]]
) -> None:
    """Change all live tables according to `mode`, or none.

    RefnetError where a table changed since it was `planned`, or a foreign key or another key would break.
    LockNotAvailable where a table cannot be locked.
    """
    layouts, cycle = in_order([layout for layout, _ in planned])
    names = ", ".join(layout.qualified for layout in layouts)
    try:
        with session.transaction():
            _lock(session, layouts)
            for layout, difference in planned:
                if differ(session, codec, layout) != difference:
                    raise RefnetError(
                        f"{layout.qualified} changed after the plan was made",
                        "Retry to see the new plan; nothing was changed.",
                    )
            triggers_off = can_disable_triggers(session)
            if cycle and not triggers_off:
                raise cyclic(cycle)
            session.execute("SET CONSTRAINTS ALL DEFERRED")
            if triggers_off:
                session.execute("SET LOCAL session_replication_role = replica")
            _write(session, codec, layouts, mode)
            if triggers_off:
                _check_keys(session, layouts)
            for layout in layouts:
                _raise_sequences(session, layout)
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for layout in layouts:
                _check_rows(differ(session, codec, layout), layout, mode)
            if triggers_off:
                session.execute("SET LOCAL session_replication_role TO DEFAULT")
    except errors.IntegrityError as error:
        raise _would_break(names, error.diag.message_primary or str(error)) from error


def cyclic(tables: Sequence[str]) -> RefnetError:
    """Error: `tables` refer to each other in a cycle, and foreign keys are checked after each statement."""
    return RefnetError(
        f"{', '.join(tables)} refer to each other, and this role cannot defer their foreign keys",
        "Restore them as a superuser (or GRANT SET ON PARAMETER session_replication_role); nothing was changed.",
    )


def _lock(session: Session, layouts: Sequence[TableLayout]) -> None:
    """Lock the tables, and tables connected by foreign keys, against writers."""
    session.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    written = {layout.only for layout in layouts}
    joined = {table for layout in layouts for key in layout.foreign for table in (key.referring, key.other)}
    for table in sorted(written | joined):
        mode = b"SHARE ROW EXCLUSIVE" if table in written else b"SHARE"
        session.execute(b"LOCK TABLE %b IN %b MODE" % (table, mode))


def _write(session: Session, codec: Codec, layouts: Sequence[TableLayout], mode: Mode) -> None:
    """Delete from the last of `layouts` on, insert from the first on, so that no row refers to a missing one."""
    for layout in reversed(layouts) if mode is Mode.REPLACE else ():
        same = b"SELECT FROM %b s WHERE %b AND %b" % (
            layout.stage,
            _same_key(layout),
            _same_row(codec, layout),
        )
        session.execute(b"DELETE FROM %b t WHERE NOT EXISTS (%b)" % (layout.only, same))
    for layout in layouts:
        if mode is Mode.MERGE:
            _update(session, codec, layout)
        names = b", ".join(codec.quoted(column) for column in layout.columns)
        values = b", ".join(b"s." + codec.quoted(column) for column in layout.columns)
        existing = b"SELECT FROM %b t WHERE %b" % (layout.only, _same_key(layout))
        session.execute(
            b"INSERT INTO %b (%b) OVERRIDING SYSTEM VALUE SELECT %b FROM %b s WHERE NOT EXISTS (%b)"
            % (layout.name, names, values, layout.stage, existing)
        )


def _update(session: Session, codec: Codec, layout: TableLayout) -> None:
    """Update differing rows; referring rows are neither deleted nor cascaded."""
    columns = [codec.quoted(column) for column in layout.columns if column not in layout.fixed]
    if columns:
        values = b", ".join(b"%b = s.%b" % (column, column) for column in columns)
        session.execute(
            b"UPDATE %b t SET %b FROM %b s WHERE %b AND NOT %b"
            % (layout.only, values, layout.stage, _same_key(layout), _same_row(codec, layout))
        )


def _check_rows(left: Difference, layout: TableLayout, mode: Mode) -> None:
    """Check that the table now contains the artifact's rows, according to `mode`."""
    changed = left.changed if mode is not Mode.MISSING else 0
    if left.missing or changed or (mode is Mode.REPLACE and left.extra):
        raise RefnetError(
            f"the rows of {layout.qualified} differ from those of the artifact after they were written",
            "A trigger, a rule or an identity column changes what is written; nothing was changed.",
        )


def _check_keys(session: Session, layouts: Sequence[TableLayout]) -> None:
    """Check each key once, in place of the disabled triggers."""
    seen: set[tuple[str, bytes, bytes]] = set()
    for layout in layouts:
        for key in layout.foreign:
            if key.id not in seen:
                _check(session, layout, key)
            seen.add(key.id)
        for unique in layout.deferrable:
            _check_unique(session, layout, unique)


def _check(session: Session, layout: TableLayout, key: ForeignKey) -> None:
    """Check that every referring row has a referenced row; skip NOT VALID keys."""
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
        what = "refer to rows that would not exist" if key.into else "would refer to rows that do not exist"
        raise _would_break(layout.qualified, f"{row[0]} rows {what} ({key.name})")


def _check_unique(session: Session, layout: TableLayout, key: DeferrableKey) -> None:
    """Check a deferrable key, in place of the disabled triggers."""
    columns = b", ".join(key.columns)
    filled = b" AND ".join(b"%b IS NOT NULL" % column for column in key.columns)
    row = session.execute(
        b"SELECT count(*) FROM (SELECT FROM %b WHERE %b GROUP BY %b HAVING count(*) > 1) d"
        % (layout.only, filled, columns)
    ).fetchone()
    if row and row[0]:
        raise _would_break(
            layout.qualified, f"{plural(row[0], 'value')} of the key {key.name} would be duplicated"
        )


def _raise_sequences(session: Session, layout: TableLayout) -> None:
    """Move each sequence of the table to its column's largest value (smallest, if it descends), never back."""
    for one in layout.sequences:
        end, past = (b"max", b">") if one.ascending else (b"min", b"<")
        session.execute(
            b"SELECT pg_catalog.setval(%b::regclass, m.value) FROM %b q, (SELECT %b(%b) AS value FROM %b) m"
            b" WHERE m.value %b q.last_value OR (m.value = q.last_value AND NOT q.is_called)"
            % (literal(one.name), one.name, end, one.column, layout.only, past)
        )


def _same_key(layout: TableLayout) -> bytes:
    """Condition for equal keys; without a key always false, so that all rows are replaced."""
    return (
        b" AND ".join(b"t.%b %b s.%b" % (column, operator, column) for column, operator in layout.key)
        or b"false"
    )


def _same_row(codec: Codec, layout: TableLayout) -> bytes:
    """Condition for equal text of two rows: every type has text, not every type has equality."""

    def text(alias: bytes) -> Iterator[bytes]:
        return (alias + codec.quoted(column) for column in layout.columns)

    return b"ROW(%b)::text = ROW(%b)::text" % (b", ".join(text(b"s.")), b", ".join(text(b"t.")))


def _would_break(tables: str, why: str) -> RefnetError:
    return RefnetError(
        f"{tables} cannot be restored alone: {why}",
        "Restore the tables that it refers to as well, or the complete database; nothing was changed.",
    )
