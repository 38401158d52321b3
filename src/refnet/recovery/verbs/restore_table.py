"""Restores the rows of some tables into the live ones; reads only those tables' bytes of an artifact."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import errors

from refnet.errors import Exit, RefnetError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.origin import OWN, Destination, Permission, refusal
from refnet.recovery.model.source import Progress, silent
from refnet.recovery.model.table_plan import Difference, Mode, TablePlan, TableSelection
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.admin_session import Session
from refnet.recovery.sources.database.artifact.sqlgz import Reader
from refnet.recovery.sources.database.rows import merge, row_counts, staged_rows, table_layout, write_rights
from refnet.recovery.sources.database.rows.table_layout import TableLayout
from refnet.recovery.sources.database.sql_names import Codec

#: Rows are compared by their text, so every session formats values in the same way. It writes despite a read-only default.
_SETTINGS: Mapping[str, str] = {
    **READER_SETTINGS,
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "client_min_messages": "warning",
}


@dataclass(frozen=True)
class Staged:
    """The artifact's rows beside the live tables, in one session."""

    #: One per table, in the order in which they are written.
    plans: tuple[TablePlan, ...]
    #: Merges the rows into the live tables.
    apply: Callable[[], None]


@contextlib.contextmanager
def staged(
    target: Target,
    reader: Reader,
    selection: TableSelection,
    permission: Permission = OWN,
    progress: Progress = silent,
) -> Iterator[Staged]:
    """Read the rows of the selected tables and plan what `apply` does, which changes all or nothing.

    RefnetError, before any row is read, where the rows of one cannot be restored, or not by this role, or where they
    are of another database than `target` and not permitted.
    """
    with _explained(target), target.connect(_SETTINGS, encoding=reader.index.encoding) as session:
        destination, origin = _checked(session, target, reader, permission)
        codec = Codec.of(session, reader.index.encoding)
        found = _found(session, codec, reader, selection)
        layouts = [live for _, live in found]
        write_rights.check(session, codec, layouts, deletes=selection.mode is Mode.REPLACE)
        planned: list[tuple[TableLayout, Difference]] = []
        plans: list[TablePlan] = []
        for recorded, live in found:
            staged_rows.stage(session, reader, recorded, live, progress)
            planned.append((live, merge.differ(session, codec, live)))
            plans.append(
                TablePlan(
                    destination,
                    recorded.qualified,
                    reader.name,
                    origin,
                    datetime.fromisoformat(reader.index.snapshot),
                    selection.mode,
                    planned[-1][1],
                )
            )
        yield Staged(tuple(plans), lambda: merge.merge(session, codec, selection.mode, planned))


@contextlib.contextmanager
def _explained(target: Target) -> Iterator[None]:
    """Raise a right that the role misses as a RefnetError."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise server_errors.of_server(error, f"restoring rows in {target.display}") from error


def _found(
    session: Session, codec: Codec, reader: Reader, selection: TableSelection
) -> list[tuple[staged_rows.Recorded, TableLayout]]:
    """Return each table, recorded and live, those that others refer to first; RefnetError where it cannot be restored."""
    recorded = list(dict.fromkeys(staged_rows.find(reader, codec, table) for table in selection.names))
    _check_apart(recorded)
    can_disable = merge.can_disable_triggers(session)
    by_layout: dict[TableLayout, staged_rows.Recorded] = {}
    for number, one in enumerate(recorded):
        live = table_layout.read(session, codec, one.schema, one.name, number)
        live.check(reader.index.tables[one.parts[0]].columns)
        if not can_disable:
            live.check_side_effects(deletes=selection.mode is Mode.REPLACE)
        by_layout[live] = one
    ordered, cycle = merge.in_order(list(by_layout))
    if cycle and not can_disable:
        raise merge.cyclic(cycle)
    return [(by_layout[live], live) for live in ordered]


def _check_apart(recorded: Sequence[staged_rows.Recorded]) -> None:
    """Raise RefnetError where one table is a partition of another: its rows would be written twice."""
    for one, other in itertools.combinations(recorded, 2):
        if set(one.parts) & set(other.parts):
            raise RefnetError(
                f"{one.qualified} and {other.qualified} share rows: one is a partition of the other",
                "Name one of the two.",
                Exit.USAGE,
            )


def _checked(
    session: Session, target: Target, reader: Reader, permission: Permission
) -> tuple[Destination, Identity]:
    """Return the target and the origin of the rows; RefnetError where the target may not get them."""
    destination = Destination(
        Identity(target.name, row_counts.system_identifier(session)), target.address, occupied=True
    )
    origin = Identity(reader.index.database["name"], reader.index.server["system_identifier"])
    if refused := refusal(reader.name, origin, destination, permission):
        raise refused
    return destination, origin
