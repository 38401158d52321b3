"""A dropped table comes back with everything that belongs to it, or nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg.conninfo import make_conninfo
from tests.integration.database import orders
from tests.integration.database.orders import VIEWS, Shop
from tests.servers import OLDEST_AND_NEWEST

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import installed
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.restore.tables_in_place import staged
from refnet.sources.restore_options import Mode

#: The rest is the same on each server.
on_wheel = pytest.mark.parametrize("built", [18], indirect=True)


@pytest.fixture(scope="module", params=sorted({*OLDEST_AND_NEWEST, 18}))
def built(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Shop]:
    found = next((one for one in installed(None) if one.major == request.param and one.has_server), None)
    if not found:
        pytest.skip(f"no server of PostgreSQL {request.param} is installed")
    with throwaway(found, base=short_folder / f"shop{request.param}") as cluster:
        yield orders.build(cluster)


@pytest.fixture
def shop(built: Shop) -> Shop:
    orders.fresh(built)
    return built


@pytest.mark.parametrize(
    ("drop", "names", "schemas"),
    [
        ("TABLE orders", ("orders",), ()),
        ("TABLE items, orders, customers", ("items", "public.cust*", "orders"), ()),
        ("TABLE log, loose", ("l*",), ()),
        ("TABLE log_1", ("log_1",), ()),
        ("TABLE child", ("child",), ()),
        ("TABLE base", ("base", "child"), ()),
        ("SCHEMA old", (), ("old",)),
    ],
)
def test_a_dropped_table_comes_back_as_pg_dump_sees_it(
    shop: Shop, drop: str, names: tuple[str, ...], schemas: tuple[str, ...]
) -> None:
    before = shop.untouched
    shop.run(f"DROP {drop} CASCADE")
    shop.restore(*names, schemas=schemas)
    if "orders" in drop:
        shop.run(VIEWS)
    assert shop.dumped() == before


@on_wheel
def test_the_plan_names_what_is_touched_and_what_does_not_come_back(shop: Shop) -> None:
    shop.run("DROP TABLE orders CASCADE; INSERT INTO items VALUES (3, 7)")
    (plan,), notes = shop.restore("orders")
    assert plan.creation
    assert (plan.add, plan.replaces) == (300, False)
    assert {kind: count for count, kind in plan.creation.objects} == {
        "sequence": 2, "key": 2, "index": 3, "foreign key": 2, "trigger": 2, "rule": 1, "policy": 1,
        "statistics object": 1, "privilege": 5,
    }  # fmt: skip
    assert plan.creation.touches == (
        "its foreign key orders_customer_fkey refers to public.customers",
        "public.items gets its foreign key items_o_fkey back: FOREIGN KEY (o) REFERENCES public.orders(id) ON DELETE CASCADE",
    )
    assert notes == (
        "function public.all_orders depended on them, and is missing: create it again",
        "view public.seen depended on them, and is missing: create it again",
        'foreign key items_o_fkey of public.items is not restored: Key (o)=(7) is not present in table "orders".',
    )


@on_wheel
@pytest.mark.parametrize(
    ("before", "names", "problem", "hint"),
    [
        ("DROP TYPE mood CASCADE", ("orders",), "type public.mood is missing", "CREATE TYPE public.mood AS ENUM"),
        ("DROP FUNCTION stamp CASCADE", ("orders",), "function public.stamp is missing", "CREATE FUNCTION"),
        ("DROP TABLE customers CASCADE", ("orders",), "table public.customers is missing", "--table public.customers"),
        ("CREATE VIEW orders AS SELECT 1", ("orders",), "public.orders exists already, as a view", "Rename or drop"),
        ("CREATE SEQUENCE orders_number_seq", ("orders",), "orders_number_seq exists already", "Rename or drop"),
        ("DROP SCHEMA old CASCADE", ("old.plain",), "schema old is missing", "--schema old"),
    ],
)  # fmt: skip
def test_what_is_missing_or_in_the_way_is_named_and_nothing_is_loaded(
    shop: Shop, before: str, names: tuple[str, ...], problem: str, hint: str
) -> None:
    shop.run(f"DROP TABLE orders CASCADE; {before}")
    state = shop.dumped()
    with staged(shop.target, shop.reader, TableSelection(names, None)) as work:
        assert any(problem in one.message and hint in one.hint for one in work.problems)
        with pytest.raises(RefnetError):
            work.apply()
    assert shop.dumped() == state


@on_wheel
def test_privileges_that_new_tables_get_by_default_are_not_added(shop: Shop) -> None:
    grant = "ALTER DEFAULT PRIVILEGES GRANT {} TO other, PUBLIC"
    shop.run(f"{grant.format('ALL ON TABLES')}; {grant.format('USAGE ON SEQUENCES')}")
    before = shop.dumped()
    shop.run("DROP TABLE orders, customers CASCADE")
    shop.restore("orders", "customers")
    shop.run(VIEWS + "REVOKE ALL ON seen FROM other, PUBLIC")
    assert sorted(shop.dumped().splitlines()) == sorted(before.splitlines())


@on_wheel
def test_a_missing_partition_is_created_where_its_table_exists(shop: Shop) -> None:
    before = shop.dumped()
    shop.run("DROP TABLE log_1; DELETE FROM log WHERE at > '2026-08-01'")
    plans, _ = shop.restore("log", mode=Mode.REPLACE)
    assert [(plan.table, plan.add, plan.creation is None) for plan in plans] == [
        ("public.log_1", 181, False),
        ("public.log", 87, True),
    ]
    assert sorted(shop.dumped().splitlines()) == sorted(before.splitlines())


@on_wheel
def test_an_owner_without_other_rights_restores_its_own_table(shop: Shop) -> None:
    shop.run("""ALTER ROLE app LOGIN; REVOKE reader FROM app; GRANT CREATE ON SCHEMA public TO app;
                GRANT SELECT, REFERENCES ON customers TO app""")
    before = shop.dumped()
    shop.run("DROP TABLE orders CASCADE")
    target = replace(shop.target, conninfo=make_conninfo(shop.target.conninfo, user="app"))
    app = Shop(shop.cluster, target, shop.artifact)
    with pytest.raises(RefnetError, match="the role app may not act as reader") as caught:
        app.restore("orders")
    shop.run(caught.value.hint)
    _, notes = app.restore("orders")
    assert (
        notes[-1] == "foreign key items_o_fkey of public.items is not restored: must be owner of table items"
    )
    shop.run(VIEWS + "ALTER TABLE ONLY items ADD FOREIGN KEY (o) REFERENCES orders ON DELETE CASCADE")
    assert sorted(shop.dumped().splitlines()) == sorted(before.splitlines())


@on_wheel
def test_a_failure_after_the_load_changes_nothing(shop: Shop) -> None:
    shop.run("DROP TABLE orders CASCADE; DELETE FROM customers WHERE id = 2; DELETE FROM log")
    state = shop.dumped()
    with pytest.raises(RefnetError, match="orders_customer_fkey"):
        shop.restore("orders", "log", mode=Mode.MISSING)
    assert shop.dumped() == state


@on_wheel
def test_rows_that_differ_from_the_proof_are_damage_and_nothing_changes(shop: Shop) -> None:
    shop.run("DROP TABLE orders CASCADE")
    state, reader = shop.dumped(), shop.reader
    reader.index = reader.index.with_digests("0" * 32 * len(reader.index.tables))
    with (
        staged(shop.target, reader, TableSelection(("orders",), None)) as work,
        pytest.raises(RefnetError, match=r"the rows of public\.orders differ") as caught,
    ):
        work.apply()
    assert caught.value.code is Exit.DAMAGED
    assert shop.dumped() == state


@on_wheel
def test_a_lock_is_waited_for_and_the_session_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refnet.sources.database.rows.merge.LOCK_TIMEOUT", "100ms")
    shop.run("DROP TABLE orders CASCADE")
    with shop.target.connect() as session, session.transaction():
        session.execute("SET application_name = 'till'; LOCK TABLE customers IN ROW EXCLUSIVE MODE")
        with pytest.raises(
            RefnetError, match=r"could not be locked within 100ms: locked by process \d+ .*till"
        ):
            shop.restore("orders")


@on_wheel
def test_missing_merge_and_replace_differ_in_what_they_touch(shop: Shop) -> None:
    def change() -> None:
        shop.run("""UPDATE customers SET name = 'me' WHERE id = 1; DELETE FROM customers WHERE id IN (2, 9);
                    INSERT INTO customers VALUES (9, 'new')""")

    def names() -> list[str]:
        with shop.target.connect() as session:
            return [name for (name,) in session.execute("SELECT name FROM customers ORDER BY id").fetchall()]

    for mode, expected in (
        (Mode.MISSING, ["me", "Bob", "new"]),
        (Mode.MERGE, ["Ann", "Bob", "new"]),
        (Mode.REPLACE, ["Ann", "Bob"]),
    ):
        change()
        (plan,), _ = shop.restore("customers", mode=mode)
        assert (plan.add, plan.change) == (1, 0 if mode is Mode.MISSING else 1)
        assert names() == expected


@on_wheel
def test_a_table_without_a_key_is_replaced_and_not_merged(shop: Shop) -> None:
    before = shop.dumped()
    shop.run("DELETE FROM loose WHERE n = 1; INSERT INTO loose VALUES (3, 'three')")
    with pytest.raises(RefnetError, match="no primary key") as caught:
        shop.restore("loose", mode=Mode.MERGE)
    assert "--mode replace" in caught.value.hint
    (plan,), _ = shop.restore("loose", mode=Mode.REPLACE)
    assert (plan.add, plan.delete, plan.difference.same) == (2, 1, 1)
    assert sorted(shop.dumped().splitlines()) == sorted(before.splitlines())
    (again,), _ = shop.restore("loose", mode=Mode.REPLACE)
    assert again.nothing


@on_wheel
def test_a_table_that_exists_needs_a_mode_and_other_columns_are_named(shop: Shop) -> None:
    with pytest.raises(
        RefnetError, match=r"public\.customers exists already, so --mode is required"
    ) as caught:
        shop.restore("customers")
    assert caught.value.code is Exit.USAGE
    shop.run("""ALTER TABLE customers ADD COLUMN vip bool DEFAULT true; ALTER TABLE customers ALTER name TYPE varchar(9),
                ALTER name SET NOT NULL, ALTER name SET DEFAULT 'x'; DELETE FROM customers""")
    (plan,), _ = shop.restore("customers", mode=Mode.MISSING)
    assert plan.columns == (
        "column name is character varying(9), it was text: each value must fit unchanged",
        "column name does not accept NULL, it did",
        "column name has the default 'x'::character varying, it had NULL",
        "column vip is new; rows that are added get its default",
    )
    with shop.target.connect() as session:
        assert session.execute("SELECT name, vip FROM customers ORDER BY id").fetchall() == [
            ("Ann", True),
            ("Bob", True),
        ]


@on_wheel
def test_columns_that_stop_a_restore_are_named_with_every_difference(shop: Shop) -> None:
    shop.run("ALTER TABLE customers ADD COLUMN vip bool, ALTER name SET NOT NULL")
    with pytest.raises(
        RefnetError, match="other columns than the artifact: vip; column name does not accept"
    ) as caught:
        shop.restore("customers", mode=Mode.REPLACE)
    assert "--mode merge" in caught.value.hint
    shop.run("ALTER TABLE customers DROP COLUMN name")
    with pytest.raises(RefnetError, match="artifact: name; column name no longer exists; column vip is new"):
        shop.restore("customers", mode=Mode.MERGE)


@on_wheel
def test_missing_and_existing_tables_come_back_in_one_transaction(shop: Shop) -> None:
    before = shop.dumped()
    shop.run("DROP TABLE orders CASCADE; DELETE FROM items WHERE id = 2; DELETE FROM customers WHERE id = 1")
    plans, _ = shop.restore("items", "orders", "customers", mode=Mode.MISSING)
    assert [(plan.table, plan.mode, plan.add) for plan in plans] == [
        ("public.orders", None, 300),
        ("public.items", Mode.MISSING, 1),
        ("public.customers", Mode.MISSING, 1),
    ]
    shop.run(VIEWS)
    assert sorted(shop.dumped().splitlines()) == sorted(before.splitlines())


@on_wheel
def test_a_pattern_takes_partitioned_tables_once_and_unknown_ones_exit_2(shop: Shop) -> None:
    plans, _ = shop.restore("log*", mode=Mode.MISSING)
    assert [plan.table for plan in plans] == ["public.log"]
    for names, schemas in ((("nothing*",), ()), ((), ("nowhere",))):
        with pytest.raises(RefnetError, match="contains no table") as caught:
            shop.restore(*names, schemas=schemas)
        assert caught.value.code is Exit.USAGE
