"""The catalog of a database with thousands of tables is read in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.conftest import fresh

from refnet.postgres.cluster import Cluster
from refnet.sources.database.rows import live_catalog


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
