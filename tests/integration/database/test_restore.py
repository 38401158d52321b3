"""A restore replaces the live database by a proven copy in one moment, and keeps the old one."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests import oracle
from tests.integration.database.library import (
    LIBRARY,
    PREVIOUS,
    SMALL_LIBRARY,
    artifact_of,
    everything,
    held,
    marked,
    of_database,
    papers,
    restore,
    role,
)

from refnet.catalog.manifest import Level
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database import undo_database
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.database_restore import row
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.restore import copy_and_swap, previous_databases
from refnet.sources.database.restore.server_facts import live_state
from refnet.store.previous_records import MarkState


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


def test_a_restore_brings_back_the_rows_and_keeps_the_old_database(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("DELETE FROM jobs; DELETE FROM citations; DELETE FROM papers WHERE id > 10")
    done = restore(library, dump, wheel)
    assert papers(library) == 50
    assert done.previous is not None
    assert papers(library.database(done.previous)) == 10
    assert list(done.seconds) == ["check", "create", "load", "compare", "swap"]
    assert of_database(library, MarkState.RESTORED) == [done.previous]
    assert of_database(library, MarkState.COPY) == []


def test_an_undo_brings_the_old_database_back_and_can_be_undone(library: Target, wheel: Binaries) -> None:
    with library.connect() as session:
        session.execute(f"COMMENT ON DATABASE {library.name} IS 'the library of the lab'")
    dump = held(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('after the backup')")
        session.execute(f"COMMENT ON DATABASE {library.name} IS 'changed since'")
    restore(library, dump, wheel)
    with library.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('one'), ('two'), ('three')")
    plan = undo_database.plan(library, PREVIOUS)
    assert {name: rows.newer for name, rows in plan.written.items()} == {"public.papers": 3}
    undone = undo_database.undo(library, PREVIOUS)
    assert papers(library) == 51
    assert live_state(library)["comment"] == "changed since"
    assert undone.previous is not None
    assert papers(library.database(undone.previous)) == 53
    undo_database.undo(library, PREVIOUS)
    assert papers(library) == 53
    assert live_state(library)["comment"] == "the library of the lab"


#: A dump turns the trigger of a leaf on or off, and does not say that it needs that of the table at the top.
TRIGGERED = """
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE parted (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1) PARTITION BY LIST (b);
CREATE TRIGGER fire AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION fires();
DO $$ BEGIN
    FOR i IN 10..29 LOOP
        EXECUTE format('CREATE TABLE parted_%1$s PARTITION OF parted_1 FOR VALUES IN (%1$s)', i);
        EXECUTE format('ALTER TABLE parted_%s DISABLE TRIGGER fire', i);
    END LOOP;
END $$;
"""


def test_triggers_that_are_off_in_some_partitions_come_back(library: Target, wheel: Binaries) -> None:
    states = "SELECT tgenabled::text, count(*) FROM pg_trigger WHERE tgname = 'fire' GROUP BY 1 ORDER BY 1"
    with library.connect() as session:
        session.execute(TRIGGERED)
    restore(library, held(artifact_of(library, wheel)), wheel)
    with library.connect() as session:
        assert session.execute(states).fetchall() == [("D", 20), ("O", 2)]


def test_an_extension_that_gets_another_version_is_named(library: Target, wheel: Binaries) -> None:
    with library.connect() as session:
        session.execute("CREATE EXTENSION hstore VERSION '1.4'")
        default = session.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'hstore'"
        ).fetchall()
    done = restore(library, held(artifact_of(library, wheel)), wheel)
    assert done.notes == (f"the extension hstore is created in version {default[0][0]}; it was 1.4",)


def test_a_template_is_one_again_after_a_restore_and_an_undo(library: Target, wheel: Binaries) -> None:
    templates = f"SELECT datname::text FROM pg_database WHERE datistemplate AND starts_with(datname, '{library.name}')"
    with admin_session(library) as admin:
        admin.execute(previous_databases.template(library.name, is_template=True))
        done = restore(library, held(artifact_of(library, wheel)), wheel)
        assert admin.execute(templates).fetchall() == [(library.name,)]
        assert of_database(library, MarkState.RESTORED) == [done.previous]
        undo_database.undo(library, PREVIOUS)
        assert admin.execute(templates).fetchall() == [(library.name,)]
        admin.execute(previous_databases.template(library.name, is_template=False))


ZONED = """
CREATE TABLE events (at timestamptz, day date, CHECK (day = at::date));
INSERT INTO events SELECT at, at::date FROM generate_series('2026-01-01 00:30'::timestamptz, '2026-01-03', '7 hours') at;
CREATE MATERIALIZED VIEW days AS SELECT at::date AS day, count(*) AS n FROM events GROUP BY 1;
"""


def test_checks_and_materialized_views_see_the_time_zone_of_the_source(
    library: Target, wheel: Binaries, short_home: Path
) -> None:
    days = "SELECT day::text, n, convalidated FROM days, pg_constraint WHERE conrelid = 'events'::regclass ORDER BY day"
    with admin_session(library) as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'").format(sql.Identifier(library.name))
        )
    with library.connect() as session:
        session.execute(ZONED)
        before = session.execute(days).fetchall()
    dump = held(artifact_of(library, wheel))
    proof = dump.prove(Level.PROVEN, ProofOptions(short_home / "scratch", lambda *_, **__: wheel, 2))
    assert (proof.level, proof.reasons) == (Level.PROVEN, ())
    assert restore(library, dump, wheel).notes == ()
    with library.connect() as session:
        assert session.execute(days).fetchall() == before


def test_a_schema_public_that_was_dropped_stays_away(library: Target, wheel: Binaries) -> None:
    with library.connect() as session:
        session.execute("ALTER SCHEMA public RENAME TO own")
    content = artifact_of(library, wheel)
    restore(library, held(content), wheel)
    stock = library.database(f"{library.name}_stock")
    with admin_session(library) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(stock.name)))
    oracle.run(
        wheel.tool("psql"),
        "-Xq",
        "-v",
        "ON_ERROR_STOP=1",
        conninfo=stock.conninfo,
        stdin=gzip.decompress(content),
    )
    for restored in (library, stock):
        with restored.connect() as session:
            assert session.execute(
                "SELECT to_regnamespace('public'), count(*) FROM own.papers"
            ).fetchall() == [(None, 50)]


def test_an_undo_without_anything_kept_says_so(library: Target) -> None:
    with pytest.raises(RefnetError, match="nothing to undo"):
        undo_database.undo(library, PREVIOUS)


def test_a_missing_database_is_created(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with admin_session(library) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(library.name)))
    plan = copy_and_swap.read_and_decide(library, dump, PlanOptions(2), count=True)
    assert not plan.replaces
    assert restore(library, dump, wheel).previous is None
    assert papers(library) == 50


def test_the_plan_says_what_was_written_since_the_backup(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("UPDATE papers SET year = 2000 WHERE id <= 7")
        session.execute("CREATE TABLE later (a int)")
        plan = copy_and_swap.read_and_decide(library, dump, PlanOptions(2), count=True)
        uncounted = copy_and_swap.read_and_decide(library, dump, PlanOptions(2), count=False).tables()
    later = next(one for one in uncounted if one["name"] == "public.later")  # never analyzed
    assert row(later) == ("public.later", "-", "unknown", "-")
    table = next(one for one in plan.tables() if one["name"] == "public.papers")
    assert (table["rows"], table["live_rows"], table["written_since"]) == (50, 50, 7)
    assert any("public.later" in note for note in plan.notes)
    assert plan.facts.live is not None
    assert [(one.application, one.count) for one in plan.facts.live.sessions] == [("refnet", 1)]


def test_a_pool_that_reconnects_does_not_keep_the_restore_out(
    library: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_and_swap, "_TRIES", 1)
    dump = held(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("DELETE FROM jobs")
    over = threading.Event()
    connected = [0]

    def stubborn() -> None:
        while not over.is_set():
            with suppress(psycopg.Error, RefnetError), library.connect() as session:
                while not over.is_set():
                    session.execute("SELECT count(*) FROM jobs").fetchall()
                    connected[0] += 1
                    over.wait(0.003)

    pool = [threading.Thread(target=stubborn) for _ in range(8)]
    for thread in pool:
        thread.start()
    try:
        restore(library, dump, wheel)
        seen = connected[0]
        until = time.monotonic() + 20
        while connected[0] < seen + 8 and time.monotonic() < until:
            over.wait(0.01)
    finally:
        over.set()
        for thread in pool:
            thread.join()
    assert connected[0] >= seen + 8
    with library.connect() as session:
        assert session.execute("SELECT count(*) FROM jobs").fetchall() == [(20,)]


def test_what_stands_around_the_database_is_restored(
    make_database: Callable[..., Target], busy_server: Cluster, wheel: Binaries
) -> None:
    target = make_database(SMALL_LIBRARY)
    name = sql.Identifier(target.name)
    with busy_server.target().connect() as admin:
        for role in ("reader", "owner of it", "zed", "amy"):
            with suppress(psycopg.errors.DuplicateObject):
                admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        for statement in (
            'ALTER DATABASE {} OWNER TO "owner of it"',
            'ALTER DATABASE {} SET search_path = "$user", public, "odd, name"',
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            "ALTER DATABASE {} SET \"app.greeting\" = 'it''s \\ here'",
            "ALTER ROLE reader IN DATABASE {} SET statement_timeout = '3s'",
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {} TO reader WITH GRANT OPTION",
            "GRANT CONNECT ON DATABASE {} TO zed WITH GRANT OPTION",
            "SET ROLE zed",
            "GRANT CONNECT ON DATABASE {} TO amy WITH GRANT OPTION",
            "SET ROLE amy",
            "GRANT CONNECT ON DATABASE {} TO reader",
            "RESET ROLE",
            "ALTER DATABASE {} CONNECTION LIMIT 17",
            "COMMENT ON DATABASE {} IS 'it''s ours'",
        ):
            admin.execute(sql.SQL(statement).format(name))
    dump = held(artifact_of(target, wheel))
    before = live_state(target)
    with busy_server.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(name))
    done = restore(target, dump, wheel)
    assert done.notes == ()
    assert live_state(target) == before == dump.index.database


def test_missing_roles_are_named_and_created_only_when_asked(
    make_database: Callable[..., Target], busy_server: Cluster, wheel: Binaries
) -> None:
    target = make_database(SMALL_LIBRARY)
    with (
        role(busy_server, "curator", "LOGIN CREATEDB PASSWORD 'never'") as curator,
        role(busy_server, "staff", "NOLOGIN"),
        busy_server.target().connect() as admin,
    ):
        admin.execute("GRANT staff TO curator; ALTER ROLE curator SET work_mem = '7MB'")
        with target.connect() as session:
            session.execute("ALTER TABLE jobs OWNER TO curator; GRANT SELECT ON papers TO staff")
        dump = held(artifact_of(target, wheel))
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(target.name)))
        admin.execute("DROP ROLE curator, staff")
        with pytest.raises(RefnetError, match="roles missing on the server: curator, staff") as caught:
            restore(target, dump, wheel)
        assert "--create-roles" in caught.value.hint
        restore(target, dump, wheel, create_roles=True)
        made = admin.execute(
            "SELECT rolcanlogin, rolcreatedb, rolsuper, rolconfig, pg_has_role('curator', 'staff', 'MEMBER')"
            " FROM pg_roles WHERE rolname = 'curator'"
        ).fetchall()
        assert made == [(True, True, False, ["work_mem=7MB"], True)]
        assert admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'curator'").fetchall() == [
            (None,)
        ]
        with target.connect() as session:
            session.execute(sql.SQL("DROP OWNED BY {}, staff").format(curator))
        admin.execute("DROP OWNED BY curator; DROP ROLE staff")


def test_a_session_of_replication_is_ended_by_the_swap(library: Target, wheel: Binaries) -> None:
    replicating = psycopg.conninfo.make_conninfo(library.conninfo, replication="database")
    with psycopg.connect(replicating, autocommit=True, cursor_factory=psycopg.ClientCursor) as session:
        assert session.execute("IDENTIFY_SYSTEM").fetchone()
        assert restore(library, held(artifact_of(library, wheel)), wheel).previous
        with pytest.raises(psycopg.OperationalError):
            session.execute("IDENTIFY_SYSTEM")


def test_an_owner_without_superpowers_can_restore_its_own_database(
    make_database: Callable[..., Target], busy_server: Cluster, wheel: Binaries
) -> None:
    target = make_database("SELECT 1")
    with role(busy_server, "keeper", "LOGIN CREATEDB"), busy_server.target().connect() as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO keeper").format(sql.Identifier(target.name)))
        keeper = Target(psycopg.conninfo.make_conninfo(target.conninfo, user="keeper"), own=True)
        with keeper.connect() as session:
            session.execute("CREATE SCHEMA shelf; CREATE TABLE shelf.papers (id int)")
        dump = held(artifact_of(keeper, wheel))
        with keeper.connect():
            done = restore(keeper, dump, wheel)
        assert done.previous is not None
        for name in everything(target):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_dropping_a_kept_database_spares_the_slot_of_its_subscription(
    make_database: Callable[..., Target], busy_server: Cluster, wheel: Binaries
) -> None:
    publisher, library = (
        make_database(SMALL_LIBRARY),
        make_database("CREATE TABLE papers (id bigint, title text, year int)"),
    )
    with publisher.connect() as session:
        session.execute("CREATE PUBLICATION news FOR TABLE papers")
        session.execute("SELECT pg_create_logical_replication_slot('news_slot', 'pgoutput')")
    source = publisher.conninfo.replace("'", "''")
    with library.connect() as session:
        session.execute(
            f"CREATE SUBSCRIPTION news CONNECTION '{source}' PUBLICATION news"
            " WITH (create_slot = false, slot_name = news_slot, enabled = false, copy_data = false)"
        )
        dump = held(artifact_of(library, wheel))
        session.execute("ALTER SUBSCRIPTION news ENABLE")
        with pytest.raises(RefnetError, match="subscription news writes into"):
            restore(library, dump, wheel)
        session.execute("ALTER SUBSCRIPTION news DISABLE")
    done = restore(library, dump, wheel)
    assert done.previous is not None
    with admin_session(library) as admin:
        read_only = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
        admin.execute(read_only.format(sql.Identifier(done.previous)))
        previous_databases.drop(admin, library, marked(library, done.previous))
        assert done.previous not in everything(library)
        slots = admin.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        assert slots == [("news_slot",)]
        previous_databases._drop_subscriptions(admin, library, library.name)
        admin.execute("SELECT pg_drop_replication_slot('news_slot')")


def test_a_database_without_a_mark_is_never_dropped(library: Target) -> None:
    forged = previous_databases.PreviousDatabase(
        library.name, 1, "refnet", previous_databases.DatabaseMark(library.name, MarkState.COPY, utc_now())
    )
    with admin_session(library) as admin, pytest.raises(RefnetError, match="no mark of RefNet"):
        previous_databases.drop(admin, library, forged)
    assert papers(library) == 50


def test_an_older_majors_artifact_is_restored_and_a_newer_majors_refused(
    system_database: Target, system_server: Cluster, library: Target, wheel: Binaries
) -> None:
    with system_database.connect() as session:
        session.execute(LIBRARY)
        old = session.info.server_version // 10_000
    from_old = held(artifact_of(system_database, system_server.binaries))
    restore(library, from_old, wheel)
    assert papers(library) == 5000
    if old < wheel.major:
        with pytest.raises(RefnetError, match=f"comes from PostgreSQL {wheel.major} and the server is {old}"):
            restore(system_database, held(artifact_of(library, wheel)), wheel)
    assert papers(system_database) == 5000


def test_the_systems_own_postgresql_restores_and_undoes(
    system_database: Target, system_server: Cluster
) -> None:
    with system_database.connect() as session:
        session.execute(LIBRARY)
    dump = held(artifact_of(system_database, system_server.binaries))
    with system_database.connect() as session:
        session.execute("DELETE FROM jobs")
    done = restore(system_database, dump, system_server.binaries)
    with system_database.connect() as session:
        assert session.execute("SELECT count(*) FROM jobs").fetchall() == [(20,)]
    undone = undo_database.undo(system_database, PREVIOUS)
    with system_database.connect() as session:
        assert session.execute("SELECT count(*) FROM jobs").fetchall() == [(0,)]
    for name in (done.previous, undone.previous):
        with admin_session(system_database) as admin:
            if name in everything(system_database):
                previous_databases.drop(admin, system_database, marked(system_database, name or ""))


def test_a_copy_that_was_never_marked_is_recognised_by_letting_nobody_in(
    library: Target, wheel: Binaries
) -> None:
    dump = held(artifact_of(library, wheel))
    unborn, taken = f"{library.name}_copy_20261125_020000", f"{library.name}_copy_20261125_020001"
    with admin_session(library) as admin:
        for name, options in ((unborn, "ALLOW_CONNECTIONS false"), (taken, "")):
            admin.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(options)))
    restore(library, dump, wheel)
    assert unborn not in everything(library)
    assert taken in everything(library)


def test_a_restore_of_a_kept_database_makes_none_that_looks_kept(
    library: Target, busy_server: Cluster, wheel: Binaries
) -> None:
    """Or a prune would drop the live one when its days are over."""
    done = restore(library, held(artifact_of(library, wheel)), wheel)
    old = library.database(done.previous or "")
    restore(library, held(artifact_of(old, wheel)), wheel)
    assert live_state(library)["comment"] is None
    with admin_session(library) as admin:
        assert library.name not in {one.name for one in previous_databases.marked(admin)}
        mark = previous_databases.DatabaseMark(library.name, MarkState.RESTORED, utc_now())
        admin.execute(previous_databases.comment_on(library.name, previous_databases.comment_of(mark)))
        assert library.name not in {one.name for one in previous_databases.marked(admin)}
        with pytest.raises(RefnetError, match="no mark of RefNet"):
            previous_databases.drop(
                admin, library, previous_databases.PreviousDatabase(library.name, 1, "refnet", mark)
            )


def test_a_live_database_that_lets_nobody_in_can_still_be_replaced(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with admin_session(library) as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(library.name))
        )
    assert copy_and_swap.read_and_decide(library, dump, PlanOptions(2), count=True).problems == ()
    restore(library, dump, wheel)
    assert papers(library) == 50
