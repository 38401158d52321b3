"""A backup by a role that may not read everything names each object, and the SQL that it prints is enough."""

from __future__ import annotations

import io
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg.conninfo import make_conninfo
from tests.integration.database.library import artifact_of, held
from tests.servers import OLDEST_AND_NEWEST

from refnet.core.errors import RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.dump.snapshot import open_snapshot
from refnet.sources.database.workers import Workers

THINGS = """
CREATE SCHEMA app; CREATE SCHEMA "Odd Name";
CREATE TABLE app.numbered (id int GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO app.numbered (v) VALUES ('a');
CREATE TABLE "Odd Name"."My Table" (x int);
CREATE SEQUENCE public.seq;
CREATE TABLE public.few (id int); INSERT INTO public.few VALUES (1); ALTER TABLE public.few ENABLE ROW LEVEL SECURITY;
SELECT lo_from_bytea(5000, 'abc'), lo_from_bytea(5001, 'abc');
"""


@dataclass(frozen=True)
class Shop:
    cluster: Cluster
    admin: Target
    reader: Target

    def run(self, statements: str) -> None:
        """Run `statements` with psql, as a user does."""
        psql = self.cluster.binaries.tool("psql")
        command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        subprocess.run(
            command, env=self.admin.environment(), input=statements.encode(), check=True, capture_output=True
        )

    def refusal(self) -> RefnetError:
        with pytest.raises(RefnetError) as raised:
            open_snapshot(self.reader).__enter__()
        return raised.value

    def follow(self, error: RefnetError) -> None:
        """Run what the hint says."""
        head, statements = error.hint.split(": ", 1)
        assert head == f"Run with psql in {self.admin.name} as a superuser"
        self.run(statements)


@pytest.fixture(scope="module", params=sorted(OLDEST_AND_NEWEST))
def cluster(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(OLDEST_AND_NEWEST[request.param], base=short_folder / f"rights{request.param}") as cluster:
        yield cluster


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Shop]:
    name, reader = f"shop_{uuid.uuid4().hex[:8]}", f"Reader's 100% {uuid.uuid4().hex[:8]}"
    with cluster.target().connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        admin.execute(f'CREATE ROLE "{reader}" LOGIN'.encode())
    target = cluster.target(name)
    shop = Shop(cluster, target, Target(make_conninfo(target.conninfo, user=reader), own=True))
    shop.run(THINGS)
    yield shop
    with cluster.target().connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        admin.execute(f'DROP ROLE "{reader}"'.encode())


def test_all_unreadable_objects_are_named_at_once_and_one_statement_helps(shop: Shop) -> None:
    error = shop.refusal()
    quoted = f'"{shop.reader.user}"'
    assert error.message == (
        f'the role {quoted} may not read all of {shop.reader.display}: schemas "Odd Name", app;'
        ' tables "Odd Name"."My Table", app.numbered, public.few; sequences app.numbered_id_seq, public.seq;'
        " rows that row-level security hides in public.few; 2 large objects (5000, 5001),"
        f" which pg_read_all_data does not cover in PostgreSQL {shop.cluster.binaries.major}"
    )
    shop.follow(error)
    artifact_of(shop.reader, shop.cluster.binaries)


@pytest.mark.parametrize("grants", ["", "GRANT pg_read_all_data TO {}"])
def test_a_role_that_does_not_inherit_is_told_what_works(shop: Shop, grants: str) -> None:
    quoted = f'"{shop.reader.user}"'
    shop.run(f"ALTER ROLE {quoted} NOINHERIT;" + grants.format(quoted))
    shop.follow(shop.refusal())
    with open_snapshot(shop.reader):
        pass


def test_many_large_objects(shop: Shop) -> None:
    shop.run(
        f'GRANT pg_read_all_data TO "{shop.reader.user}"; ALTER TABLE few DISABLE ROW LEVEL SECURITY;'
        "SELECT lo_from_bytea(n, '') FROM generate_series(6000, 6099) n"
    )
    error = shop.refusal()
    assert (
        "102 large objects (5000, 5001, 6000, 6001, 6002, 6003, 6004, 6005, 6006, 6007, …)" in error.message
    )
    shop.follow(error)
    artifact_of(shop.reader, shop.cluster.binaries)


def test_some_tables_alone_need_no_right_to_the_rest(shop: Shop) -> None:
    quoted = f'"{shop.reader.user}"'
    shop.run(
        f'GRANT USAGE ON SCHEMA app, "Odd Name" TO {quoted}; GRANT SELECT ON few, app.numbered TO {quoted};'
        f'GRANT SELECT ON "Odd Name"."My Table" TO {quoted}'
    )
    with open_snapshot(shop.reader, entire=False):
        pass
    assert "table" not in shop.refusal().message.split(": ", 1)[1]


def test_an_owner_needs_no_grant(shop: Shop) -> None:
    quoted = f'"{shop.reader.user}"'
    shop.run(
        f"ALTER TABLE few OWNER TO {quoted}; ALTER LARGE OBJECT 5000 OWNER TO {quoted};"
        f"ALTER LARGE OBJECT 5001 OWNER TO {quoted}; GRANT pg_read_all_data TO {quoted}"
    )
    artifact_of(shop.reader, shop.cluster.binaries)
    shop.run(f"ALTER TABLE few FORCE ROW LEVEL SECURITY; REVOKE ALL ON LARGE OBJECT 5001 FROM {quoted}")
    found = shop.refusal().message
    assert "1 large object (5001)" in found
    assert "public.few" in found


@pytest.mark.parametrize("rows", [1, 50_000])
def test_the_servers_reason_is_shown_where_some_tables_alone_are_dumped(shop: Shop, rows: int) -> None:
    shop.run(
        f'INSERT INTO few SELECT generate_series(1, {rows});GRANT pg_read_all_data TO "{shop.reader.user}"'
    )
    with pytest.raises(RefnetError) as raised:
        dump(shop.reader, io.BytesIO(), Workers(shop.cluster.binaries, 2), ("few",))
    assert 'query would be affected by row-level security policy for table "few"' in raised.value.message
    assert "BYPASSRLS" in raised.value.hint


def test_subscriptions_that_only_a_superuser_may_read_are_named(shop: Shop) -> None:
    shop.run(
        "CREATE SUBSCRIPTION news CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    )
    shop.follow(shop.refusal())
    try:
        read = held(artifact_of(shop.reader, shop.cluster.binaries)).index.unchecked
        by_superuser = held(artifact_of(shop.admin, shop.cluster.binaries)).index.unchecked
    finally:
        shop.run("DROP SUBSCRIPTION news")
    assert read == ("subscriptions are not in the backup, as only a superuser may read them: news",)
    assert by_superuser == ()


def test_options_of_user_mappings_that_only_a_superuser_may_read_are_named(shop: Shop) -> None:
    shop.run("""
        CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;
        CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (password 'secret');
        CREATE USER MAPPING FOR CURRENT_USER SERVER far;
    """)
    shop.follow(shop.refusal())
    read = held(artifact_of(shop.reader, shop.cluster.binaries)).index.unchecked
    by_superuser = held(artifact_of(shop.admin, shop.cluster.binaries)).index.unchecked
    assert read == (
        "the options of user mappings are not in the backup, as only a superuser may read them: public on far",
    )
    assert by_superuser == ()
