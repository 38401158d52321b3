"""Restores some tables: creates missing ones, and changes rows of existing ones; reads only their bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from psycopg import errors

from refnet.catalog.artifact import Progress, silent
from refnet.catalog.identity import Identity
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database import rights, server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, of_text
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.artifact.table_definitions import TableDefinitions, below, children
from refnet.sources.database.plan.restore_facts import OWN_ORIGIN, Destination, Permission, origin_refusal
from refnet.sources.database.plan.table_plan import Difference, TablePlan, TableSelection
from refnet.sources.database.restore.loader_settings import time_zone
from refnet.sources.database.restore.missing_tables import LiveObjects, MissingTables
from refnet.sources.database.restore.server_facts import system_identifier
from refnet.sources.database.rows import merge, staged_rows, table_layout
from refnet.sources.database.rows.live_catalog import PREPARED
from refnet.sources.database.rows.staged_rows import Recorded
from refnet.sources.database.rows.table_layout import TableLayout
from refnet.sources.database.sql_text import Codec
from refnet.sources.restore_options import Mode

#: Rows are compared by their text, so every session formats values in the same way. It writes despite a read-only default.
_SETTINGS: Mapping[str, str] = {
    **READER_SETTINGS,
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "client_min_messages": "warning",
}
#: The sessions that keep a table from being changed.
_LOCKS = f"""
SELECT n.nspname::text, c.relname::text, coalesce('the prepared transaction ' || {PREPARED}, concat('process ', l.pid, ' of ',
       coalesce(a.usename::text, 'unknown'), ' (', coalesce(nullif(a.application_name, ''), 'unnamed'), ')'))
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted
  AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.mode <> 'AccessShareLock' ORDER BY l.pid
"""  # noqa: S608  # of constants
#: The most that a message names.
_MOST_HOLDERS = 3


@dataclass(frozen=True)
class Staged:
    """Staged rows of existing tables, and definitions of missing ones, in one session."""

    #: One per table: those that are created, then the others in the order in which they are written.
    plans: tuple[TablePlan, ...]
    #: What does not come back, a sentence each.
    notes: tuple[str, ...]
    #: Each of them stops the restore.
    problems: tuple[RefnetError, ...]
    #: The superuser whose rights the code in the definitions has, or "".
    superuser: str
    #: Creates the missing tables and merges the rows into the others; returns more notes.
    apply: Callable[[], tuple[str, ...]]


@dataclass(frozen=True)
class _Work:
    """A restore of tables in its session."""

    session: Session
    codec: Codec
    reader: Reader
    selection: TableSelection
    progress: Progress

    @property
    def mode(self) -> Mode:
        return self.selection.mode or Mode.MISSING

    def stage(self, recorded: Sequence[Recorded], definitions: Sequence[Definition]) -> list[_Existing]:
        """Stage the rows of existing tables, and compare them."""
        found = self._found(recorded, definitions)
        rights.check_writable(self.session, self.codec, [live for _, live in found], self.mode)
        existing = []
        for one, live in found:
            staged_rows.stage(self.session, self.reader, one, live, self.progress)
            columns = table_layout.column_differences(
                self.session, self.codec, definitions, (one.schema, one.name)
            )
            existing.append(_Existing(one, live, merge.differ(self.session, self.codec, live), columns))
        return existing

    def _found(
        self, recorded: Sequence[Recorded], definitions: Sequence[Definition]
    ) -> list[tuple[Recorded, TableLayout]]:
        """Tables, recorded and live, referenced ones first; RefnetError if one cannot be restored."""
        can_disable = merge.can_disable_triggers(self.session)
        by_layout: dict[TableLayout, Recorded] = {}
        for number, one in enumerate(recorded):
            live = table_layout.read(self.session, self.codec, one.schema, one.name, number)
            live.check(self.mode)
            for part in one.parts:
                live = self._of_columns(live, part, definitions)
            if not can_disable:
                live.check_side_effects(deletes=self.mode is Mode.REPLACE)
            by_layout[live] = one
        ordered, cycle = merge.in_order(list(by_layout))
        if cycle and not can_disable:
            raise merge.cyclic(cycle)
        return [(by_layout[live], live) for live in ordered]

    def _of_columns(self, live: TableLayout, part: int, definitions: Sequence[Definition]) -> TableLayout:
        """`live` with the columns of a recorded table; RefnetError lists the differences if that is impossible."""
        table = self.reader.index.tables[part]
        try:
            return live.of_columns(table.columns, self.mode)
        except RefnetError as error:
            name = (table.schema, table.name)
            columns = table_layout.column_differences(self.session, self.codec, definitions, name)
            raise RefnetError("; ".join((error.message, *columns)), error.hint) from error

    def apply(self, missing: MissingTables | None, existing: Sequence[_Existing]) -> tuple[str, ...]:
        """Change everything or nothing; return what was not restored. RefnetError if a requirement is missing."""
        for problem in missing.problems() if missing else ():
            raise problem
        try:
            with self.session.transaction():
                self.session.execute(f"SET LOCAL lock_timeout = '{merge.LOCK_TIMEOUT}'")
                if missing:
                    missing.create(self.session, self.progress)
                if existing:
                    planned = [(one.live, one.difference) for one in existing]
                    merge.merge(self.session, self.codec, self.mode, planned)
                if missing:
                    missing.finish(self.session)
        except errors.LockNotAvailable as error:
            raise self._locked(missing, existing) from error
        return tuple(missing.notes) if missing else ()

    def _locked(self, missing: MissingTables | None, existing: Sequence[_Existing]) -> RefnetError:
        tables = {(one.recorded.schema, one.recorded.name) for one in existing}
        tables |= missing.joined() if missing else frozenset()
        by = _holders(self.session, self.codec, tables) or "other sessions"
        names = ", ".join(".".join(name) for name in sorted(tables))
        return RefnetError(
            f"{names or self.selection} could not be locked within {merge.LOCK_TIMEOUT}: locked by {by}",
            "Wait for it to end, or end it (pg_terminate_backend, ROLLBACK PREPARED), and retry; nothing was changed.",
        )


def _holders(session: Session, codec: Codec, tables: Collection[tuple[str, str]]) -> str:
    """Some sessions that have locks on `tables`, or ""."""
    found = {who: None for schema, name, who in codec.rows(session, _LOCKS) if (schema, name) in tables}
    return ", ".join([*found][:_MOST_HOLDERS])


@dataclass(frozen=True)
class _Existing:
    """A table that exists, with its rows staged."""

    recorded: Recorded
    live: TableLayout
    difference: Difference
    #: How its columns differ, a sentence each.
    columns: tuple[str, ...]


@contextlib.contextmanager
def staged(
    target: Target,
    reader: Reader,
    selection: TableSelection,
    permission: Permission = OWN_ORIGIN,
    progress: Progress = silent,
) -> Iterator[Staged]:
    """Stage the rows of the selected existing tables, and plan `apply`, which changes all or nothing.

    RefnetError, before any row is read, if rows cannot be restored at all or by this role, or come from another
    database than `target` without permission.
    """
    with _explained(target), target.connect(_SETTINGS, encoding=reader.index.encoding) as session:
        destination, origin = _checked(session, target, reader, permission)
        time_zone(session, reader.index)
        work = _Work(session, Codec.of(session, reader.index.encoding), reader, selection, progress)
        recorded = staged_rows.find_all(reader, work.codec, selection)
        _check_apart(recorded)
        live = LiveObjects.read(session, work.codec)
        there, gone = _split(reader, recorded, live)
        sections = (MemberKind.PRE, MemberKind.POST) if gone else (MemberKind.PRE,)
        definitions = of_text(map(reader.text, sections), work.codec)
        missing = _missing(work, definitions, gone, live) if gone else None
        _check_mode(there, selection)
        existing = work.stage(there, definitions)
        plan = partial(
            TablePlan,
            destination=destination,
            artifact=reader.name,
            origin=origin,
            created=datetime.fromisoformat(reader.index.snapshot),
        )
        created = [plan(table=one.qualified, mode=None, difference=Difference(_rows(reader, one), 0, 0, 0),
                        creation=missing.creation(one)) for one in gone if missing]  # fmt: skip
        changed = [plan(table=one.recorded.qualified, mode=work.mode, difference=one.difference,
                        columns=one.columns) for one in existing]  # fmt: skip
        yield Staged(
            (*created, *changed),
            missing.lost() if missing else (),
            missing.problems() if missing else (),
            live.user if missing and live.superuser else "",
            lambda: work.apply(missing, existing),
        )


@contextlib.contextmanager
def _explained(target: Target) -> Iterator[None]:
    """Turn errors about missing rights into RefnetErrors."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise server_errors.of_server(error, f"restoring tables in {target.display}") from error


def _missing(
    work: _Work, definitions: tuple[Definition, ...], gone: Sequence[Recorded], live: LiveObjects
) -> MissingTables:
    tops = [(one.schema, one.name) for one in gone]
    attached = below(children(definitions), tops)
    tables = frozenset(name for name in attached if name in tops or name not in live.relations)
    schemas = frozenset(live.without("schema", work.selection.schemas))
    chosen = TableDefinitions(definitions, tables, schemas)
    return MissingTables(work.reader, work.codec, tuple(gone), chosen, live)


def _split(
    reader: Reader, recorded: Sequence[Recorded], live: LiveObjects
) -> tuple[list[Recorded], list[Recorded]]:
    """Split tables into existing and missing ones.

    Missing partitions of an existing table count as missing.
    """
    there, gone = [], []
    for one in recorded:
        if not live.has_table((one.schema, one.name)):
            gone.append(one)
            continue
        tables = {number: reader.index.tables[number] for number in one.parts}
        missing = [n for n, table in tables.items() if not live.has_table((table.schema, table.name))]
        there.append(replace(one, parts=tuple(n for n in one.parts if n not in missing)))
        gone += [Recorded(tables[n].schema, tables[n].name, (n,)) for n in missing]
    return there, gone


def _rows(reader: Reader, one: Recorded) -> int:
    return sum(reader.index.tables[number].rows for number in one.parts)


def _check_mode(there: Sequence[Recorded], selection: TableSelection) -> None:
    if there and not selection.mode:
        raise RefnetError(
            f"{', '.join(one.qualified for one in there)} exist{'s' * (len(there) == 1)} already, so --mode is required",
            "missing adds rows whose key is missing, merge also changes those that differ, replace restores all rows.",
            Exit.USAGE,
        )


def _check_apart(recorded: Sequence[Recorded]) -> None:
    """Raise RefnetError if one table is a partition of another: its rows would be written twice."""
    of: dict[int, Recorded] = {}
    for one in recorded:
        for part in one.parts:
            if part in of:
                raise RefnetError(
                    f"{of[part].qualified} and {one.qualified} share rows: one is a partition of the other",
                    "Name one of the two.",
                    Exit.USAGE,
                )
            of[part] = one


def _checked(
    session: Session, target: Target, reader: Reader, permission: Permission
) -> tuple[Destination, Identity]:
    """The target, and the origin of the rows; RefnetError if the target must not get them."""
    destination = Destination(
        Identity(target.name, system_identifier(session)), target.address, occupied=True
    )
    origin = Identity(reader.index.database["name"], reader.index.server["system_identifier"])
    if refused := origin_refusal(reader.name, origin, destination, permission):
        raise refused
    return destination, origin
