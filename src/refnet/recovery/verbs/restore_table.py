"""Restores the rows of one table into the live one, from that table's bytes of an artifact alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.model.restoring_table import Mode, TablePlan
from refnet.recovery.model.source import Progress, silent
from refnet.recovery.sources.database import merge, rows, shape
from refnet.recovery.sources.database.names import Codec
from refnet.recovery.sources.database.sqlgz import Reader

#: Rows are compared by their text, so every session makes it the same way; a read-only default is no obstacle.
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
    """The artifact's rows beside the live table, in one session. `seconds`: what the staging and the plan took."""

    plan: TablePlan
    seconds: float
    apply: Callable[[], None]


@contextlib.contextmanager
def staged(
    target: Target,
    reader: Reader,
    table: str,
    mode: Mode,
    *,
    clock: Callable[[], float],
    progress: Progress = silent,
) -> Iterator[Staged]:
    """Read the rows of `table` (`table` or `schema.table`) and say what `apply` would do; it changes all or nothing.

    RefnetError where the table cannot be restored by rows, or not by this role.
    """
    began = clock()
    with target.connect(_SETTINGS, encoding=reader.index.encoding) as session:
        codec = Codec.of(session, reader.index.encoding)
        recorded = rows.find(reader, codec, table)
        live = shape.read(session, codec, recorded.schema, recorded.name)
        live.check(reader.index.tables[recorded.parts[0]].columns)
        if not merge.may_hold_back(session):
            live.check_without_powers(deletes=mode is Mode.REPLACE)
        rows.stage(session, codec, reader, recorded, live, progress)
        difference = merge.differ(session, codec, live)
        plan = TablePlan(
            target.name,
            recorded.qualified,
            reader.name,
            datetime.fromisoformat(reader.index.snapshot),
            mode,
            difference,
        )
        yield Staged(plan, clock() - began, lambda: merge.merge(session, codec, live, mode, difference))
