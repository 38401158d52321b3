"""A table's owner whose code waits for a superuser: a proof runs it, and never as one."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql

from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.own_artifact import open_database
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.workers import Workers

#: Fails the proof where it runs as a superuser, or with a superuser's login.
_TRAP = """
CREATE FUNCTION mallory.trap(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_database() IN ('proof', 'stock') AND EXISTS (
        SELECT FROM pg_catalog.pg_roles WHERE rolsuper AND rolname IN (current_user, session_user))
    THEN
        RAISE EXCEPTION 'sprung as superuser: %', what;
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION mallory.trap_of_rows(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_database() = 'proof' AND session_user <> 'mallory' THEN
        RAISE EXCEPTION 'sprung as %: %', session_user, what;
    END IF;
    RETURN mallory.trap(what);
END $$;
"""
_KINDS = {
    "a check": "CREATE TABLE mallory.t (a int CHECK (mallory.trap_of_rows('check' || a)))",
    "a check of a large table": """
        CREATE TABLE mallory.t (a int, b text CHECK (mallory.trap_of_rows('check')));
        INSERT INTO mallory.t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 3000) i""",
    "a domain": """
        CREATE DOMAIN mallory.d AS int CHECK (mallory.trap_of_rows('domain' || VALUE));
        CREATE TABLE mallory.t (a mallory.d)""",
    "a generated column": """
        CREATE FUNCTION mallory.gen(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN PERFORM mallory.trap('generated'); RETURN a; END $$;
        CREATE TABLE mallory.t (a int, b int GENERATED ALWAYS AS (a + mallory.gen(1)) STORED)""",
    "a generated column of a foreign table": """
        CREATE FUNCTION mallory.gen(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN PERFORM mallory.trap('generated'); RETURN a; END $$;
        CREATE FOREIGN DATA WRAPPER w;
        CREATE SERVER s FOREIGN DATA WRAPPER w;
        CREATE FOREIGN TABLE mallory.f (a int, b int GENERATED ALWAYS AS (a + mallory.gen(1)) STORED) SERVER s;
        CREATE TABLE mallory.t (a int)""",
    "a column's default": "CREATE TABLE mallory.t (a int, b boolean DEFAULT mallory.trap_of_rows('default'))",
    "the key of partitions": """
        CREATE FUNCTION mallory.key(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN PERFORM mallory.trap('key'); RETURN a; END $$;
        CREATE TABLE mallory.t (a int) PARTITION BY RANGE ((a + mallory.key(1)));
        CREATE TABLE mallory.t1 PARTITION OF mallory.t FOR VALUES FROM (0) TO (100)""",
    "the bound of a partition": """
        CREATE DOMAIN mallory.d AS int CHECK (mallory.trap('bound'));
        CREATE TABLE mallory.t (a mallory.d) PARTITION BY RANGE (a);
        CREATE TABLE mallory.t1 PARTITION OF mallory.t FOR VALUES FROM (0) TO (100)""",
    "a check of a partition": """
        CREATE TABLE mallory.t (a int) PARTITION BY RANGE (a);
        CREATE TABLE mallory.t1 (a int, CHECK (a > 0 OR mallory.trap('partition')));
        ALTER TABLE mallory.t ATTACH PARTITION mallory.t1 FOR VALUES FROM (0) TO (100)""",
    "the first value of an aggregate": """
        CREATE DOMAIN mallory.d AS int CHECK (mallory.trap('aggregate'));
        CREATE FUNCTION mallory.sum(mallory.d, int) RETURNS mallory.d LANGUAGE sql AS 'SELECT 1::mallory.d';
        CREATE AGGREGATE mallory.total (int) (SFUNC = mallory.sum, STYPE = mallory.d, INITCOND = '1');
        CREATE TABLE mallory.t (a int)""",
    "an index": """
        CREATE TABLE mallory.t (a int);
        CREATE INDEX ON mallory.t (mallory.trap('index' || a)) WHERE mallory.trap('predicate')""",
    "a foreign key": """
        CREATE TYPE mallory.e AS ENUM ('a', 'b');
        CREATE FUNCTION mallory.cast(mallory.e) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN PERFORM mallory.trap('cast'); RETURN 1; END $$;
        CREATE CAST (mallory.e AS int) WITH FUNCTION mallory.cast(mallory.e) AS IMPLICIT;
        CREATE TABLE mallory.other (a int PRIMARY KEY);
        INSERT INTO mallory.other VALUES (1);
        CREATE TABLE mallory.refers (a mallory.e REFERENCES mallory.other);
        INSERT INTO mallory.refers VALUES ('a'), ('b');
        CREATE TABLE mallory.t (a int)""",
    "a constraint that came later": """
        CREATE TABLE mallory.t (a int);
        CREATE FUNCTION mallory.of_row(mallory.t) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN RETURN mallory.trap('row'); END $$;
        ALTER TABLE mallory.t ADD CHECK (mallory.of_row(t))""",
    "a materialized view": """
        CREATE TABLE mallory.t (a int);
        CREATE MATERIALIZED VIEW mallory.m AS SELECT mallory.trap('view')""",
    "row security": """
        CREATE TABLE mallory.t (a int);
        CREATE POLICY p ON mallory.t USING (mallory.trap('policy'));
        ALTER TABLE mallory.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY""",
    "an owner without rights": """
        CREATE SCHEMA elsewhere;
        CREATE FUNCTION elsewhere.f(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
        REVOKE ALL ON FUNCTION elsewhere.f FROM PUBLIC;
        CREATE TABLE mallory.t (a int CHECK (elsewhere.f(a)));
        REVOKE ALL ON mallory.t FROM mallory;
        GRANT SELECT ON mallory.t TO mallory""",
}


@pytest.fixture(scope="module")
def victim(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server with a role `mallory`, who is nobody."""
    with throwaway(wheel, base=short_folder / "victim") as cluster:
        with cluster.target().connect() as admin:
            admin.execute("CREATE ROLE mallory LOGIN")
        yield cluster


@pytest.fixture
def mallorys(victim: Cluster) -> Iterator[Target]:
    """A database with the schema and the functions of mallory."""
    name = f"m_{uuid.uuid4().hex[:8]}"
    with victim.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    target = victim.target(name)
    with target.connect() as session:
        session.execute(
            "CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT CREATE ON SCHEMA public TO mallory"
        )
        session.execute(_TRAP)
    yield target
    with victim.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def proven(victim: Cluster, short_home: Path) -> Callable[[Target], Proof]:
    """Backs up a database and proves the backup."""

    def prove(target: Target) -> Proof:
        out = io.BytesIO()
        dump(target, out, Workers(victim.binaries, 2))
        held = OpenArtifact(SourceName.DATABASE, "attack.sql.gz", lambda: io.BytesIO(out.getvalue()), None)
        options = ProofOptions(short_home, lambda *_, **__: victim.binaries, jobs=2)
        return open_database(held).prove(Level.PROVEN, options)

    return prove


_GIVE_TO_MALLORY = """
    DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT c.oid::regclass AS t, relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                 WHERE nspname ~ '^mallory' AND relkind IN ('r', 'p', 'm')
        LOOP EXECUTE format('ALTER %s %s OWNER TO mallory',
                            CASE r.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, r.t); END LOOP;
        FOR r IN SELECT p.oid::regprocedure AS f FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                 WHERE nspname ~ '^mallory' AND prokind = 'f'
        LOOP EXECUTE format('ALTER FUNCTION %s OWNER TO mallory', r.f); END LOOP;
        FOR r IN SELECT t.oid::regtype AS t FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
                 WHERE nspname ~ '^mallory' AND typtype IN ('d', 'e')
        LOOP EXECUTE format('ALTER TYPE %s OWNER TO mallory', r.t); END LOOP;
    END $$"""


def test_an_owners_code_never_runs_as_superuser_in_a_proof(
    mallorys: Target, proven: Callable[[Target], Proof]
) -> None:
    with mallorys.connect() as session:
        for number, (kind, objects) in enumerate(_KINDS.items()):
            own = f"mallory{number}"  # each kind has a schema and traps of its own
            text = f"CREATE SCHEMA mallory AUTHORIZATION mallory; {_TRAP}; {objects};"
            if "large" not in kind:
                text += "INSERT INTO mallory.t VALUES (1), (2);"
            for old, new in (
                ("mallory.", f"{own}."),
                ("SCHEMA mallory ", f"SCHEMA {own} "),
                ("sprung", f"{kind}: sprung".replace("'", "''")),
            ):
                text = text.replace(old, new)
            session.execute(text.encode())
        session.execute(_GIVE_TO_MALLORY)
    proof = proven(mallorys)
    assert [f for f in proof.findings if f.outcome is not Outcome.PASSED] == []
    assert proof.level is Level.PROVEN


def test_event_triggers_come_back_and_never_fire(mallorys: Target, proven: Callable[[Target], Proof]) -> None:
    with mallorys.connect() as session:
        session.execute("CREATE TABLE mallory.t (a int PRIMARY KEY); INSERT INTO mallory.t VALUES (1)")
        session.execute("""
            CREATE FUNCTION mallory.fired() RETURNS event_trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM mallory.trap('event'); END $$""")
        events = ["ddl_command_start", "ddl_command_end"]
        events += ["login"] if session.info.server_version >= 170000 else []
        for event in events:
            session.execute(
                f"CREATE EVENT TRIGGER on_{event} ON {event} EXECUTE FUNCTION mallory.fired()".encode()
            )
        session.execute("COMMENT ON EVENT TRIGGER on_ddl_command_end IS 'fires'")
    proof = proven(mallorys)
    assert [f for f in proof.findings if f.outcome is not Outcome.PASSED] == []
    assert proof.level is Level.PROVEN
