"""The workers that copy large tables, and pg_dump beside them: when one fails, none begins another table."""

from __future__ import annotations

import io
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.dump import parallel_dump, row_copy
from refnet.sources.database.dump.pgdump import PgDump
from refnet.sources.database.dump.psql_copy import PsqlCopy
from refnet.sources.database.workers import Workers

#: The largest comes first in the queue.
_TABLES = "".join(
    f"CREATE TABLE t{n} AS SELECT md5(i::text) FROM generate_series(1, {9000 - 1000 * n}) i;"
    for n in range(6)
)
_INSTEAD = {
    "t0": b"COPY (SELECT 1 / 0) TO STDOUT",
    "t1": b"COPY (SELECT pg_catalog.pg_sleep(20)) TO STDOUT",
}

_BLOCKED = b"DO $$BEGIN RAISE lock_not_available; END$$"


@pytest.fixture
def database(make_database: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(parallel_dump, "LARGE", 8192)
    return make_database(_TABLES)


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables whose copy began. t0 is copied by one worker while the other runs a long copy of t1."""
    names: list[str] = []
    copy = PsqlCopy.copy
    both = threading.Barrier(2)

    def watched(psql: PsqlCopy, statement: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        found = re.search(rb"t[0-9]", statement)
        name = found[0].decode() if found else ""
        names.append(name)
        if name in _INSTEAD:
            both.wait(60)
        return copy(psql, _INSTEAD.get(name, statement), lock=lock)

    monkeypatch.setattr(PsqlCopy, "copy", watched)
    return names


def test_a_table_that_cannot_be_copied_stops_the_other_workers(
    database: Target, wheel: Binaries, began: list[str]
) -> None:
    with pytest.raises(RefnetError, match="division by zero"):
        parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 2))
    assert sorted(began) == ["t0", "t1"]


def test_an_interrupt_stops_the_workers(
    database: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[bytes] = []
    copy = PsqlCopy.copy

    def watched(psql: PsqlCopy, statement: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        began.append(statement)
        return copy(psql, statement if b'"t0"' in statement else _INSTEAD["t1"], lock=lock)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PsqlCopy, "copy", watched)
    with pytest.raises(KeyboardInterrupt):
        parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 2, interrupt))
    assert len(began) <= 3


def test_a_table_another_session_waits_to_alter_is_still_copied(
    database: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 2))
    copy = PsqlCopy.copy

    def blocked(psql: PsqlCopy, statement: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        return copy(psql, _BLOCKED if b'"t0"' in statement else statement, lock=lock)

    monkeypatch.setattr(PsqlCopy, "copy", blocked)
    index = parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 2))
    assert index.tables == expected.tables
    assert all(table.blocks and table.rows for table in index.tables)


def test_a_worker_locks_a_table_once_and_tries_a_blocked_one_once(
    database: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_copy, "RANGE", 50_000)
    expected = parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 1))
    copy, locks = PsqlCopy.copy, Counter[str]()

    def watched(psql: PsqlCopy, statement: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        found = re.search(rb'"(t[0-9])"', statement)
        name = found[1].decode() if found else ""
        locks[name] += bool(lock)
        return copy(psql, _BLOCKED if name == "t1" else statement, lock=lock)

    monkeypatch.setattr(PsqlCopy, "copy", watched)
    index = parallel_dump.dump(database, io.BytesIO(), Workers(wheel, 1))
    assert index.tables == expected.tables
    assert len(index.members_of(MemberKind.BLOCK)) > 2 * len(index.tables)
    # A new session begins after the blocked table.
    assert locks == {f"t{n}": 1 for n in range(6)}


def test_a_pg_dump_that_is_killed_within_the_rows_is_reported(
    make_database: Callable[..., Target], wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = PgDump._output

    def killed(pgdump: PgDump, child: subprocess.Popen[bytes], errors: IO[bytes]) -> Iterator[bytes]:
        pieces = output(pgdump, child, errors)
        yield next(pieces)
        child.kill()
        yield from pieces

    monkeypatch.setattr(PgDump, "_output", killed)
    with pytest.raises(RefnetError, match="pg_dump failed"):
        parallel_dump.dump(make_database(_TABLES), io.BytesIO(), Workers(wheel, 2))


def test_progress_counts_the_tables_on_the_servers_disk_up_to_their_total(
    make_database: Callable[..., Target], wheel: Binaries
) -> None:
    target, seen = make_database(_TABLES + "SELECT lo_from_bytea(0, repeat('x', 3000000)::bytea);"), []
    parallel_dump.dump(target, io.BytesIO(), Workers(wheel, 2, lambda *step: seen.append(step)))
    with target.connect() as session:
        total = session.execute(
            "SELECT (SELECT sum(pg_relation_size(oid) + coalesce(pg_relation_size(reltoastrelid), 0)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace) + pg_table_size('pg_largeobject')"
        ).fetchone()
    assert {(step, of) for step, _, of in seen} == {("copying rows", int(total[0]) if total else None)}
    done = [count for _, count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[0][2]
    assert len(set(done)) > 3
