"""Several tables come back in one transaction, in the order of their keys, or none of them changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.integration.database.shelf import answer, ordinary, reader, restore_all

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader


def test_several_tables_come_back_together_referenced_ones_first(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations; DELETE FROM papers WHERE id <= 10")
    plans = restore_all(shelf, backup, ["citations", "papers", "public.papers"], "missing")
    assert [(plan.table, plan.add) for plan in plans] == [("public.papers", 10), ("public.citations", 100)]
    assert answer(shelf, "SELECT count(*) FROM papers JOIN citations ON citing = id") == [(100,)]


def test_a_role_that_cannot_disable_foreign_keys_restores_several_tables(
    shelf: Target, backup: Reader, busy_server: Cluster
) -> None:
    with shelf.connect() as session:
        session.execute("ALTER TABLE citations DROP CONSTRAINT citations_citing_fkey")
        session.execute("ALTER TABLE citations ADD FOREIGN KEY (citing) REFERENCES papers")
        session.execute("INSERT INTO papers (title) VALUES ('new'); INSERT INTO citations VALUES (101, 101)")
        session.execute(
            "DELETE FROM citations WHERE citing = 7 OR cited = 7; DELETE FROM papers WHERE id = 7"
        )
    with ordinary(shelf, busy_server) as plain:
        plans = restore_all(plain, backup, ["citations", "papers"], "replace")
    assert [(plan.table, plan.add, plan.delete) for plan in plans] == [
        ("public.papers", 1, 1),
        ("public.citations", 2, 1),
    ]
    assert answer(shelf, "SELECT count(*) FROM papers JOIN citations ON citing = id") == [(100,)]


CYCLE = """
CREATE TABLE teams (id int PRIMARY KEY, head int);
CREATE TABLE people (id int PRIMARY KEY, team int REFERENCES teams, boss int REFERENCES people);
INSERT INTO teams VALUES (1, 1), (2, 2); INSERT INTO people VALUES (1, 1, 2), (2, 2, 1);
ALTER TABLE teams ADD CONSTRAINT headed FOREIGN KEY (head) REFERENCES people {};
"""


@pytest.mark.parametrize("deferrable", ["", "DEFERRABLE"])
def test_tables_that_refer_to_each_other_come_back_together(
    make_database: Callable[..., Target], busy_server: Cluster, wheel: Binaries, deferrable: str
) -> None:
    target = make_database(CYCLE.format(deferrable))
    source = reader(target, wheel)

    def lose() -> None:
        with target.connect() as session:
            session.execute("UPDATE teams SET head = NULL; DELETE FROM people; DELETE FROM teams")

    lose()
    assert {plan.add for plan in restore_all(target, source, ["teams", "people"], "missing")} == {2}
    assert answer(target, "SELECT count(*) FROM teams t JOIN people p ON p.id = t.head") == [(2,)]
    lose()
    with ordinary(target, busy_server, ("teams", "people")) as plain:
        if deferrable:
            restore_all(plain, source, ["people", "teams"], "missing")
        else:
            with pytest.raises(RefnetError, match=r"public\.\w+, public\.\w+ refer to each other"):
                restore_all(plain, source, ["people", "teams"], "missing")
    assert answer(target, "SELECT count(*) FROM people") == [(2 if deferrable else 0,)]


ZONED = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Tokyo''', current_database()); END $$;
SET timezone = 'Asia/Tokyo';
CREATE DOMAIN early AS timestamptz CHECK (extract(hour FROM VALUE) < 9);
CREATE TABLE events (at early PRIMARY KEY, day date, CHECK (day = at::date));
INSERT INTO events SELECT at, at::date FROM generate_series('2026-01-01 00:30'::timestamptz, '2026-01-03', '24 hours') at;
"""


@pytest.mark.parametrize("lost", ["DELETE FROM events", "DROP TABLE events"])
def test_checks_see_the_time_zone_of_the_source(
    make_database: Callable[..., Target], wheel: Binaries, lost: str
) -> None:
    target, events = make_database(ZONED), "SELECT * FROM events ORDER BY at"
    source, before = reader(target, wheel), answer(target, events)
    with target.connect() as session:
        session.execute(lost)
    restore_all(target, source, ["events"], "missing")
    assert answer(target, events) == before


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (["papers", "nowhere"], "contains no table 'nowhere'"),
        (["papers", 'odd "one\n'], "has rules"),
        (["papers", "citations"], "refer to rows that would not exist"),
    ],
)
def test_one_table_that_cannot_be_restored_leaves_all_of_them_as_they_are(
    shelf: Target, backup: Reader, tables: list[str], message: str
) -> None:
    with shelf.connect() as session:
        session.execute('CREATE RULE keep AS ON DELETE TO "odd ""one\n" DO INSTEAD NOTHING')
        session.execute("CREATE TABLE readers (paper bigint REFERENCES papers)")
        session.execute("DELETE FROM citations; DELETE FROM papers WHERE id <= 10")
        session.execute("INSERT INTO papers (title) VALUES ('new'); INSERT INTO readers VALUES (101)")
    with pytest.raises(RefnetError, match=message):
        restore_all(shelf, backup, tables, "replace")
    assert answer(shelf, "SELECT count(*) FROM papers") == [(91,)]
    assert answer(shelf, "SELECT count(*) FROM citations") == [(0,)]


def test_a_partition_beside_its_table_is_a_matter_of_usage(
    make_database: Callable[..., Target], wheel: Binaries
) -> None:
    target = make_database("""
        CREATE TABLE log (at int PRIMARY KEY) PARTITION BY RANGE (at);
        CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO (9);""")
    with pytest.raises(RefnetError, match=r"public\.log and public\.log_1 share rows") as caught:
        restore_all(target, reader(target, wheel), ["log", "log_1"], "missing")
    assert caught.value.code is Exit.USAGE
