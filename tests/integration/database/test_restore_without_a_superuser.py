"""A login that is no superuser, a member of the owners, restores a database of several owners as it was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests import oracle
from tests.integration.database.library import (
    PREVIOUS,
    artifact_of,
    everything,
    held,
    restore,
)
from tests.servers import OLDEST_AND_NEWEST

from refnet.core.errors import RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target, server_version
from refnet.sources.database import undo_database
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.restore import copy_and_swap
from refnet.sources.database.restore.server_facts import live_state

SHOP = """
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC;
CREATE EXTENSION pg_trgm;
CREATE SCHEMA stock AUTHORIZATION shop_app;
CREATE SCHEMA audit AUTHORIZATION shop_clerk;
GRANT USAGE, CREATE ON SCHEMA stock TO shop_clerk;
CREATE DOMAIN stock.sku AS text CHECK (VALUE ~ '^[A-Z]+[0-9]+$');
CREATE FUNCTION stock.norm(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
CREATE TABLE stock.items (sku stock.sku PRIMARY KEY, name text CHECK (stock.norm(name) <> ''));
CREATE INDEX ON stock.items (stock.norm(name));
CREATE INDEX ON stock.items USING gin (name gin_trgm_ops);
CREATE TABLE stock.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item stock.sku REFERENCES stock.items);
CREATE STATISTICS stock.both ON sku, name FROM stock.items;
CREATE TABLE public.settings (key text PRIMARY KEY, value text);
CREATE TABLE audit.log (at timestamptz DEFAULT now(), what text);
CREATE MATERIALIZED VIEW stock.counted AS SELECT count(*) FROM stock.items;
INSERT INTO stock.items SELECT 'A' || i, 'item ' || i FROM generate_series(1, 2000) i;
INSERT INTO stock.orders (item) SELECT 'A' || i FROM generate_series(1, 50) i;
INSERT INTO audit.log (what) VALUES ('made'); INSERT INTO public.settings VALUES ('a', 'b');
SELECT lo_from_bytea(4242, 'large');
ALTER LARGE OBJECT 4242 OWNER TO shop_clerk;
ALTER DOMAIN stock.sku OWNER TO shop_app; ALTER FUNCTION stock.norm OWNER TO shop_app;
ALTER TABLE stock.items OWNER TO shop_app; ALTER TABLE stock.orders OWNER TO shop_clerk;
ALTER STATISTICS stock.both OWNER TO shop_app; ALTER MATERIALIZED VIEW stock.counted OWNER TO shop_app;
ALTER TABLE public.settings OWNER TO shop_clerk; ALTER TABLE audit.log OWNER TO shop_clerk;
CREATE TABLE public.own (id int CHECK (id > 0)); INSERT INTO public.own SELECT generate_series(1, 9);
ALTER TABLE public.own OWNER TO pg_database_owner;
CREATE PUBLICATION news FOR TABLE stock.items; ALTER PUBLICATION news OWNER TO shop_app;
REFRESH MATERIALIZED VIEW stock.counted;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_app IN SCHEMA stock GRANT SELECT ON TABLES TO shop_clerk;
GRANT SELECT ON stock.items TO shop_clerk; GRANT ALL ON SCHEMA public TO shop_clerk;
COMMENT ON TABLE stock.items IS 'what is sold'; COMMENT ON SCHEMA stock IS 'the stock';
"""


@dataclass(frozen=True)
class Shop:
    """The shop as its superuser and as the restoring login reach it."""

    cluster: Cluster
    admin: Target
    keeper: Target

    def run(self, statement: str) -> None:
        with self.admin.connect() as session:
            session.execute(statement.encode())


@pytest.fixture(scope="module", params=sorted(OLDEST_AND_NEWEST))
def cluster(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(OLDEST_AND_NEWEST[request.param], base=short_folder / f"member{request.param}") as found:
        with found.target().connect() as admin:
            admin.execute("CREATE ROLE shop_app; CREATE ROLE shop_clerk; CREATE ROLE keeper LOGIN CREATEDB")
            inherit = " WITH INHERIT TRUE, SET TRUE" if server_version(admin) >= 16 else ""
            admin.execute(f"GRANT shop_app, shop_clerk TO keeper{inherit}".encode())
            admin.execute("CREATE DATABASE made TEMPLATE template0")
        with found.target("made").connect({"client_min_messages": "error"}) as session:
            session.execute(SHOP)
        yield found


@contextmanager
def _shop(cluster: Cluster) -> Iterator[Shop]:
    target = cluster.target("shop")
    name = sql.Identifier(target.name)
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE made OWNER shop_app").format(name))
    yield Shop(cluster, target, Target(make_conninfo(target.conninfo, user="keeper"), own=True))
    with cluster.target().connect() as admin:
        for one in everything(target):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


@pytest.fixture(scope="module")
def sound(cluster: Cluster) -> bytes:
    """An artifact of the shop as it is at the beginning of each test."""
    with _shop(cluster) as found:
        return artifact_of(found.admin, cluster.binaries)


@pytest.fixture
def shop(cluster: Cluster, sound: bytes) -> Iterator[Shop]:
    """The shop, made after `sound`, which has its name."""
    with _shop(cluster) as found:
        yield found


def test_a_database_of_several_owners_comes_back_as_it_was(shop: Shop, sound: bytes) -> None:
    binaries, dump = shop.cluster.binaries, held(sound)
    before = oracle.portrait(shop.admin.conninfo, binaries.folder)
    shop.run("DELETE FROM stock.orders; DROP TABLE audit.log")
    plan = copy_and_swap.read_and_decide(shop.keeper, dump, PlanOptions(2), count=True)
    assert (plan.problems, plan.runs_as_superuser) == ((), "")
    done = restore(shop.keeper, dump, binaries)
    assert [note for note in done.notes if "free space on the server" not in note] == []
    after = oracle.portrait(shop.admin.conninfo, binaries.folder)
    assert oracle.differences(before.inside, after.inside) == []
    assert live_state(shop.admin) == dump.index.database
    undo_database.undo(shop.keeper, PREVIOUS)
    with shop.admin.connect() as session:
        assert session.execute("SELECT count(*) FROM stock.orders").fetchone() == (0,)


def test_the_code_of_the_dump_never_has_a_superusers_rights(shop: Shop) -> None:
    shop.run("""
        CREATE FUNCTION audit.spy(text) RETURNS bool LANGUAGE plpgsql AS $$
        DECLARE super bool := (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user);
        BEGIN IF super THEN RAISE 'run by a superuser'; END IF; RETURN true; END $$;
        ALTER FUNCTION audit.spy OWNER TO shop_clerk;
        SET ROLE shop_clerk; ALTER TABLE audit.log ADD CHECK (audit.spy(what))""")
    binaries = shop.cluster.binaries
    dump = held(artifact_of(shop.admin, binaries))
    by_superuser = restore(shop.admin, dump, binaries)
    assert "is NOT VALID (run by a superuser)" in " ".join(by_superuser.notes)
    done = restore(shop.keeper, dump, binaries)
    assert done.previous
    assert "left out" not in " ".join(done.notes)


#: What a superuser must make → how it is named.
_NEEDS = {
    "event trigger guard": "CREATE FUNCTION public.h() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';CREATE EVENT TRIGGER guard ON ddl_command_end EXECUTE FUNCTION public.h()",
    "publication of everything whole": "CREATE PUBLICATION whole FOR ALL TABLES",
    "publication of a schema": "CREATE PUBLICATION part FOR TABLES IN SCHEMA stock",
    "function in internal pid()": "CREATE FUNCTION public.pid() RETURNS int LANGUAGE internal AS 'pg_backend_pid'",
    "leakproof function l()": "CREATE FUNCTION public.l() RETURNS int LEAKPROOF LANGUAGE sql AS 'SELECT 1'",
    "foreign data wrapper far": "CREATE FOREIGN DATA WRAPPER far",
    "privileges that others granted on TABLE items": "GRANT SELECT ON stock.items TO shop_clerk WITH GRANT OPTION; SET ROLE shop_clerk;GRANT SELECT ON stock.items TO keeper; RESET ROLE",
}


def test_what_needs_a_superuser_is_named_before_anything_is_made(shop: Shop) -> None:
    with shop.admin.connect({"client_min_messages": "error"}) as session:
        for statement in _NEEDS.values():
            session.execute(statement.encode())
    dump = held(artifact_of(shop.admin, shop.cluster.binaries))
    with pytest.raises(RefnetError, match="keeper is not a superuser, and these need one: ") as refused:
        restore(shop.keeper, dump, shop.cluster.binaries)
    assert [needed for needed in _NEEDS if needed not in refused.value.message] == []
    assert everything(shop.admin) == [shop.admin.name]
    assert copy_and_swap.read_and_decide(shop.admin, dump, PlanOptions(2), count=False).problems == ()


def test_an_owner_that_the_login_is_no_member_of_is_named_with_the_grant(shop: Shop, sound: bytes) -> None:
    dump = held(sound)
    with shop.cluster.target().connect() as admin:
        member = "GRANT shop_clerk TO keeper" + (
            " WITH INHERIT TRUE, SET TRUE" if server_version(admin) >= 16 else ""
        )
        admin.execute("REVOKE shop_clerk FROM keeper")
        try:
            with pytest.raises(
                RefnetError, match="may not give objects to their owners shop_clerk"
            ) as caught:
                restore(shop.keeper, dump, shop.cluster.binaries)
        finally:
            admin.execute(member.encode())
    assert member in caught.value.hint
    assert everything(shop.admin) == [shop.admin.name]


@pytest.fixture
def other(shop: Shop) -> str:
    """A role that the login is no member of, by its name in SQL."""
    name = f'"The other {uuid.uuid4().hex[:8]}"'
    with shop.cluster.target().connect() as admin:
        admin.execute(f"CREATE ROLE {name}".encode())
    return name


def run_hint(shop: Shop, error: RefnetError) -> None:
    """Run the SQL of a hint, which ends where the other ways begin."""
    with shop.cluster.target().connect() as admin:
        admin.execute(error.hint.partition("; or ")[0].encode())


def test_a_large_objects_owner_and_a_closed_tablespace_get_their_grants(shop: Shop, other: str) -> None:
    with shop.cluster.target().connect() as admin:
        admin.execute("SET allow_in_place_tablespaces = on")
        admin.execute("CREATE TABLESPACE fast LOCATION ''")
        try:
            shop.run(f"ALTER LARGE OBJECT 4242 OWNER TO {other}")
            shop.run("CREATE INDEX there ON stock.items (name) TABLESPACE fast")
            dump = held(artifact_of(shop.admin, shop.cluster.binaries))
            problems = copy_and_swap.read_and_decide(shop.keeper, dump, PlanOptions(2), count=False).problems
            assert {problem.message for problem in problems} == {
                "the role keeper may not give objects to their owners " + other.strip('"'),
                "the role keeper may not create objects in the tablespaces fast",
            }
            for problem in problems:
                run_hint(shop, problem)
            assert restore(shop.keeper, dump, shop.cluster.binaries).previous
        finally:
            for name in everything(shop.admin):
                with shop.admin.database(name).connect() as session:
                    session.execute("DROP INDEX IF EXISTS stock.there")
            admin.execute("DROP TABLESPACE fast")


def test_a_missing_owner_is_named_with_both_statements(shop: Shop, other: str) -> None:
    shop.run(f"ALTER TABLE stock.items OWNER TO {other}")
    dump = held(artifact_of(shop.admin, shop.cluster.binaries))
    shop.run(f"ALTER TABLE stock.items OWNER TO shop_app; DROP ROLE {other}")
    missing, unowned = copy_and_swap.read_and_decide(shop.keeper, dump, PlanOptions(2), count=False).problems
    assert missing.message == "roles missing on the server: " + other.strip('"')
    assert missing.hint == f"CREATE ROLE {other};"
    for problem in (missing, unowned):
        run_hint(shop, problem)
    assert copy_and_swap.read_and_decide(shop.keeper, dump, PlanOptions(2), count=False).problems == ()


def test_a_database_of_a_superuser_is_given_away_and_not_its_role(shop: Shop) -> None:
    name = shop.admin.name
    shop.run(f"ALTER DATABASE {name} OWNER TO refnet; ALTER TABLE public.settings OWNER TO refnet")
    dump = held(artifact_of(shop.admin, shop.cluster.binaries))
    live, inside = copy_and_swap.read_and_decide(shop.keeper, dump, PlanOptions(2), count=False).problems
    assert live.hint.startswith(f"ALTER DATABASE {name} OWNER TO keeper;")
    assert inside.message == "keeper is not a superuser, and objects belong to the superuser refnet"
    assert "GRANT refnet" not in live.hint + inside.hint


def test_the_copy_is_closed_to_the_owner_too_while_it_loads(
    shop: Shop, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = held(sound)
    load, refused = type(dump).load, []

    def looked_at(self: object, target: Target, *others: object) -> tuple[str, ...]:
        with shop.admin.database(target.name).connect() as session:
            session.execute("SET ROLE shop_app")
            refused.append(
                session.execute("SELECT has_database_privilege(current_database(), 'CONNECT')").fetchone()
            )
        return load(self, target, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(type(dump), "load", looked_at)
    restore(shop.keeper, dump, shop.cluster.binaries)
    assert refused == [(False,)]
    with psycopg.connect(shop.keeper.conninfo) as session:
        assert session.execute("SELECT count(*) FROM stock.items").fetchone() == (2000,)
