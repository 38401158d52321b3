"""The command that brings a dropped table back: its plan, its JSON, its end in the middle."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_SQL = """
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers);
INSERT INTO customers VALUES (1); INSERT INTO orders SELECT i, 1 FROM generate_series(1, 500) i;
"""
_LOADED = """
SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'customers'::regclass
"""


@dataclass(frozen=True)
class Dropped:
    """A database whose table `orders` is dropped, and its backup."""

    target: Target
    refnet: Command

    def tables(self) -> list[str]:
        query = (
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        with self.target.connect() as session:
            return sorted(name for (name,) in session.execute(query).fetchall())


@pytest.fixture(scope="module")
def dropped(
    server: Cluster, tmp_path_factory: pytest.TempPathFactory, short_folder: Path
) -> Iterator[Dropped]:
    name = sql.Identifier("dropped")
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    target = server.target("dropped")
    home = short_folder / "home-dropped"
    home.mkdir()
    refnet = Command(home, tmp_path_factory.mktemp("backups") / "store", url_of(target))
    with target.connect() as session:
        session.execute(_SQL)
        refnet("backup", "database", "--no-prove").succeeds()
        session.execute("DROP TABLE orders")
    yield Dropped(target, refnet)
    with server.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


_RESTORE = ("restore", "database", "--table", "ord*")


def test_the_plan_creates_nothing_and_names_what_it_would(dropped: Dropped) -> None:
    text = dropped.refnet(*_RESTORE, "--plan")
    text.succeeds()
    assert ", which does not exist: create it:\n  500 rows, 1 key, 1 foreign key" in text.out
    assert "  its foreign key orders_customer_fkey refers to public.customers\n" in text.out
    assert "is a superuser, so code in the definitions" in text.out
    (table,) = dropped.refnet(*_RESTORE, "--plan", "--json").json["tables"]
    assert table["creates"]["objects"] == [{"kind": "key", "count": 1}, {"kind": "foreign key", "count": 1}]
    assert dropped.tables() == ["customers"]


def test_a_plan_with_a_problem_fails_and_so_does_the_restore(dropped: Dropped) -> None:
    with dropped.target.connect() as session:
        session.execute("ALTER TABLE customers RENAME TO clients")
        try:
            planned = dropped.refnet(*_RESTORE, "--plan")
            assert (planned.code, planned.err) == (1, "")
            assert "problem: table public.customers is missing, and the tables need it" in planned.out
            dropped.refnet(*_RESTORE, "-q").fails(
                1, "public.customers is missing", "--table public.customers"
            )
        finally:
            session.execute("ALTER TABLE clients RENAME TO customers")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_changes_nothing(dropped: Dropped, number: signal.Signals) -> None:
    with dropped.target.connect() as session, dropped.target.connect() as watch, session.transaction():
        session.execute("LOCK TABLE customers IN ROW EXCLUSIVE MODE")
        run = dropped.refnet.start(*_RESTORE)
        run.until(lambda: watch.execute(_LOADED).fetchone() == (1,), "the foreign key after the load")
        run.send(number)
        assert run.end().code != 0
    assert dropped.tables() == ["customers"]


def test_the_table_comes_back(dropped: Dropped) -> None:
    done = dropped.refnet(*_RESTORE, "--json")
    done.succeeds()
    assert (done.json["done"], done.json["add"], done.json["notes"]) == (True, 500, [])
    assert dropped.tables() == ["customers", "orders"]
    dropped.refnet(*_RESTORE).fails(2, "public.orders exists already, so --mode is required", "replace")
    dropped.refnet(*_RESTORE, "--mode", "merge", "--plan").succeeds()
