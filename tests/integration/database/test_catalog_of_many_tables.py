"""The catalog of a database with thousands of tables is read in one pass."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from tests.conftest import fresh

from refnet.catalog.artifact import Finding, silent
from refnet.catalog.manifest import Outcome
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.proof import row_digests
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.workers import Workers, run_checks


def read_rows(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows of pg_depend each node reads, also those that a filter then removes."""
    if plan.get("Relation Name") == "pg_depend":
        removed = (plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        yield plan["Actual Loops"] * (plan["Actual Rows"] + sum(removed))
    for inner in plan.get("Plans", ()):
        yield from read_rows(inner)


def test_the_dependencies_are_not_read_again_for_each_table(server: Cluster) -> None:
    with fresh(server) as database, database.connect() as session:
        for number in range(60):
            session.execute(f"CREATE TABLE t{number} (id serial)".encode())
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {live_catalog._RELATIONS}"
        ((found,),) = session.execute(explained.encode()).fetchall()
        ((rows,),) = session.execute("SELECT count(*) FROM pg_depend").fetchall()
    assert sum(read_rows(found[0]["Plan"])) <= 4 * rows


def test_the_tables_of_an_extension_and_their_sequences_belong_to_it(server: Cluster) -> None:
    with fresh(server) as database, live_catalog.reading(database) as (session, _, codec):
        session.execute("SET default_transaction_read_only = off")
        session.execute("CREATE TABLE public.own (id serial)")
        session.execute("CREATE TABLE public.theirs (id serial, other int GENERATED ALWAYS AS IDENTITY)")
        session.execute("CREATE SEQUENCE public.theirs_too")
        session.execute("CREATE EXTENSION amcheck SCHEMA public")
        for what in ("TABLE public.theirs", "SEQUENCE public.theirs_too"):
            session.execute(f"ALTER EXTENSION amcheck ADD {what}".encode())
        found = live_catalog.read(session, codec)
    owned = {one.name for one in (*found.tables.values(), *found.sequences.values()) if one.owned}
    assert owned == {"theirs", "theirs_id_seq", "theirs_other_seq", "theirs_too"}
    assert {"own"} == {one.name for one in found.tables.values()} - owned


def test_digests_of_rows_use_no_index_and_what_reads_the_catalog_for_them_does(
    server: Cluster, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scans = io.BytesIO(), list[tuple[str, Any]]()
    read, asked = live_catalog.read, row_digests._Scratch._asked

    def seen(session: Any, what: str) -> None:
        scans.append((what, session.execute("SHOW enable_indexscan").fetchone()[0]))

    def reading(session: Any, codec: Any) -> Any:
        seen(session, "catalog")
        return read(session, codec)

    def asking(self: Any, query: bytes) -> int | str:
        seen(self._session(), "rows")
        return asked(self, query)

    with fresh(server) as database:
        with database.connect() as session:
            session.execute("CREATE TABLE papers (id int PRIMARY KEY)")
        dump(database, out, Workers(wheel, 1))
        index = Reader("papers.sql.gz", lambda: io.BytesIO(out.getvalue())).index
        digested = tuple(replace(table, source="md5:0") for table in index.tables)
        monkeypatch.setattr(live_catalog, "read", reading)
        monkeypatch.setattr(row_digests._Scratch, "_asked", asking)
        index = replace(index, tables=digested)
        found = list[Finding]()
        with row_digests.comparing(database, index, wheel.major, silent) as checks:
            run_checks([checks], 1, found)
        assert [one.outcome for one in found] == [Outcome.PASSED]
    assert scans == [("catalog", "on"), ("rows", "off")]


def test_sequences_are_read_together_and_each_other_value_is_found(
    server: Cluster, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = io.BytesIO(), list[str]()
    execute = psycopg.Connection.execute

    def recorded(self: Any, query: Any, *rest: Any, **options: Any) -> Any:
        asked.append(str(query))
        return execute(self, query, *rest, **options)

    with fresh(server) as database:
        with database.connect() as session:
            for number in range(230):
                session.execute(f'CREATE SEQUENCE "s%{number}"'.encode())
        dump(database, out, Workers(wheel, 1))
        index = Reader("papers.sql.gz", lambda: io.BytesIO(out.getvalue())).index
        monkeypatch.setattr(psycopg.Connection, "execute", recorded)
        assert [one.outcome for one in compare(database, index, Workers(wheel, 1))] == [Outcome.PASSED]
        assert len([one for one in asked if "last_value" in one]) == 2
        with database.connect() as session:
            session.execute(b"""SELECT setval('"s%7"', 7), nextval('"s%229"')""")
        (found,) = compare(database, index, Workers(wheel, 1))
    assert (found.outcome, found.what) == (Outcome.FAILED, "230 sequences")
    assert found.reason == "2 differ, the first is public.s%229"


def test_a_count_of_many_tables_tells_the_server_its_time_limit_only_now_and_then(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = list[int]()
    execute = psycopg.Connection.execute

    def recorded(self: Any, query: Any, *rest: Any, **options: Any) -> Any:
        if str(query).startswith("SET statement_timeout"):
            limits.append(int(query.split()[-1]))
        return execute(self, query, *rest, **options)

    with fresh(server) as database:
        with database.connect() as session:
            for number in range(100):
                session.execute(f"CREATE TABLE t{number} (id int)".encode())
        monkeypatch.setattr(psycopg.Connection, "execute", recorded)
        found = live_catalog.row_counts(database, None, budget=60)
        assert len(found) == 100
        assert all(one.exact for one in found.values())
        assert len(limits) < 50
        assert limits == sorted(limits, reverse=True)
        limits.clear()
        with database.connect() as other, other.transaction():
            other.execute("LOCK TABLE t0")
            begin = time.monotonic()
            found = live_catalog.row_counts(database, None, budget=0.5)
    assert time.monotonic() - begin < 5
    assert not any(one.exact for one in found.values())
    assert len(limits) == 1
