"""A database with objects that no server accepts as they are: its artifacts are complete, and restores choose them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live

from refnet.postgres.cluster import Cluster

VIEW = """
CREATE TABLE rates (id int PRIMARY KEY, parts int);
INSERT INTO rates SELECT i, 1 FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW ratio AS SELECT id, 1 / parts AS v FROM rates;
CREATE MATERIALIZED VIEW above AS SELECT sum(v) FROM ratio;
CREATE UNIQUE INDEX ON ratio (id);
UPDATE rates SET parts = 0 WHERE id = 7;
"""
CHECK = """
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE TABLE checked (v int, CONSTRAINT fitting CHECK (public.fits(v)), CHECK (v < 100));
INSERT INTO checked SELECT i FROM generate_series(1, 50) i;
COMMENT ON CONSTRAINT fitting ON checked IS 'it''s strict';
CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 10';
"""
RAISED = CHECK.replace(
    "LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 10'",
    """LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN IF $1 > 10 THEN RETURN true; END IF; RAISE EXCEPTION '% is too small', $1; END $$""",
)
KEY = """
SET session_replication_role = replica;
INSERT INTO citations VALUES (1, 999999);
RESET session_replication_role;
COMMENT ON CONSTRAINT citations_cited_fkey ON citations IS 'broken';
"""
OBJECTS = {
    VIEW: (["materialized view public.ratio", "materialized view public.above"], "division by zero"),
    CHECK: (["check fitting of public.checked"], "violated by some row"),
    RAISED: (["check fitting of public.checked"], "1 is too small"),
    KEY: (["foreign key citations_cited_fkey of public.citations"], "violates foreign key constraint"),
}
_CHECKS = """SELECT conname || convalidated || coalesce(obj_description(oid), '') FROM pg_constraint
    WHERE conrelid = 'public.checked'::regclass AND contype = 'c' ORDER BY 1"""
STATES = {
    VIEW: "SELECT relname || ispopulated FROM pg_class JOIN pg_matviews ON matviewname = relname ORDER BY 1",
    CHECK: _CHECKS,
    RAISED: _CHECKS,
    KEY: """SELECT conname || convalidated || coalesce(obj_description(oid), '') FROM pg_constraint
        WHERE conrelid = 'public.citations'::regclass AND contype = 'f' ORDER BY 1""",
}
RESTORED = {
    VIEW: ["abovefalse", "countedtrue", "ratiofalse"],
    **{each: ["checked_v_checktrue", "fittingfalseit's strict"] for each in (CHECK, RAISED)},
    KEY: ["citations_cited_fkeyfalsebroken", "citations_citing_fkeytrue"],
}


def rows(live: Live) -> dict[str, str]:
    """A digest of the rows of each table."""
    with live.target.connect() as session:
        tables = session.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return {
            name: str(
                session.execute(
                    f"SELECT md5(array_agg(t ORDER BY t)::text) FROM public.{name} t".encode()
                ).fetchall()
            )
            for (name,) in tables.fetchall()
        }


@pytest.mark.parametrize(
    "objects", [[VIEW, CHECK], [RAISED, KEY]], ids=["view and check", "raised and foreign key"]
)
def test_an_artifact_of_such_a_source_is_complete_and_is_restored_without_these_objects(
    refnet: Command, live: Live, objects: list[str]
) -> None:
    for sql in objects:
        live.run(sql)
    names = [name for sql in objects for name in OBJECTS[sql][0]]
    before = rows(live)
    made = refnet("backup", "database")
    assert made.code == 1, made.out + made.err
    assert all(name in made.out for name in names), made.out
    assert all(OBJECTS[sql][1] in made.out for sql in objects), made.out
    assert "DAMAGED" not in made.out
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["state"] == "proven"
    watched = refnet("monitor", "database")
    said = " ".join(watched.out.split())
    assert (watched.code, all(name in said for name in names)) == (1, True), watched.out
    assert refnet("verify", "database").code == 1

    assert all(name in refnet("restore", "database", "--plan").out for name in names)
    refnet("query", "database", "SELECT count(*) FROM checked").succeeds()
    live.run("DELETE FROM summaries")
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.err
    assert all(f"left out: {name}" in done.out for name in names), done.out
    assert "by hand: " in done.out
    with live.target.connect() as session:
        for sql in objects:
            assert [one for (one,) in session.execute(STATES[sql].encode()).fetchall()] == RESTORED[sql]
    assert rows(live) == before


def test_accepted_objects_are_accepted_of_later_artifacts_too(refnet: Command, live: Live) -> None:
    live.run(VIEW)
    assert refnet("backup", "database").code == 1
    (first,) = refnet.names()
    assert "materialized view public.ratio" in refnet("accept", first, "--plan").out
    refnet("accept", first).succeeds()
    refnet("accept", first).fails(2, "is accepted already")
    refnet("verify", "database").succeeds()
    assert refnet("monitor", "database").code == 0
    refnet("backup", "database").succeeds()
    refnet("forget", first, "--force").succeeds()
    refnet("backup", "database").succeeds()

    recovered = refnet("recover", "--force")
    assert recovered.code == 0, recovered.out + recovered.err
    assert "left out: materialized view public.ratio is empty" in recovered.out

    live.run(KEY)
    again = refnet("backup", "database")
    assert again.code == 1
    assert "citations_cited_fkey" in again.out.splitlines()[-1]
    assert "ratio" not in again.out.splitlines()[-1]


def test_a_key_that_the_rows_break_is_never_left_out(refnet: Command, live: Live) -> None:
    live.run(
        "CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE TABLE keyed (id int); CREATE UNIQUE INDEX keyed_same ON keyed (same(id));"
        "INSERT INTO keyed SELECT generate_series(1, 9);"
        "CREATE OR REPLACE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'"
    )
    made = refnet("backup", "database")
    assert made.code == 3
    assert "DAMAGED" not in made.out
    before = rows(live)
    refnet("restore", "database", "--force").fails(1, "keyed_same", "remove them there")
    assert rows(live) == before


@pytest.mark.parametrize("body", ["BEGIN RAISE 'no more'; END", "BEGIN RETURN 1 / (i - i); END"])
def test_a_generated_column_whose_code_fails_now_is_no_damage(refnet: Command, live: Live, body: str) -> None:
    head = "FUNCTION made(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    live.run(
        f"CREATE {head} 'BEGIN RETURN i; END';"
        "CREATE TABLE computed (i int, j int GENERATED ALWAYS AS (made(i)) STORED);"
        "INSERT INTO computed SELECT generate_series(1, 9);"
        f"CREATE OR REPLACE {head} $${body}$$"
    )
    made = refnet("backup", "database")
    assert made.code == 3, made.out + made.err
    assert "DAMAGED" not in made.out
    assert "public.computed" in made.out


def test_a_foreign_key_that_cannot_be_not_valid_is_missing_and_printed(
    system_server: Cluster, tmp_path: Path, short_home: Path
) -> None:
    if system_server.binaries.major > 17:
        pytest.skip("foreign keys of partitioned tables can be NOT VALID from 18 on")
    with system_server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS parted WITH (FORCE)")
        admin.execute("CREATE DATABASE parted TEMPLATE template0")
    live = Live(system_server, system_server.target("parted"))
    live.run(
        "CREATE TABLE papers (id int PRIMARY KEY);"
        "CREATE TABLE cites (a int, b int CONSTRAINT cites_b REFERENCES papers, kind int) PARTITION BY LIST (kind);"
        "CREATE TABLE cites_1 PARTITION OF cites FOR VALUES IN (1);"
        "CREATE TABLE plain (a int CONSTRAINT plain_a REFERENCES papers);"
        "COMMENT ON CONSTRAINT cites_b ON cites IS 'gone with it';"
        "INSERT INTO papers SELECT generate_series(1, 9); SET session_replication_role = replica;"
        "INSERT INTO cites VALUES (1, 77, 1); INSERT INTO plain VALUES (3)"
    )
    refnet = Command(short_home, tmp_path / "backups", url_of(live.target))
    made = refnet("backup", "database")
    assert made.code == 1, made.out + made.err
    assert "no server accepts foreign key cites_b of public.cites: " in made.out
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.err
    by_hand = "ALTER TABLE public.cites ADD CONSTRAINT cites_b FOREIGN KEY (b) REFERENCES public.papers(id);"
    assert "foreign key cites_b of public.cites is missing (" in done.out
    assert f"by hand: {by_hand}" in " ".join(done.out.split())
    with live.target.connect() as session:
        keys = session.execute("SELECT conname FROM pg_constraint WHERE contype = 'f'").fetchall()
    assert keys == [("plain_a",)]


def test_a_scratch_server_without_memory_damages_nothing(refnet: Command, live: Live) -> None:
    live.run(CHECK)
    live.run(
        "CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN RAISE out_of_memory USING MESSAGE = 'out of memory'; END $$"
    )
    made = refnet("backup", "database")
    assert made.code == 3, made.out + made.err
    assert "out of memory" in made.out
    assert "DAMAGED" not in made.out


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_names_of_these_objects_in_any_encoding_are_no_damage(
    system_server: Cluster, tmp_path: Path, short_home: Path, encoding: str
) -> None:
    name = f"odd_{encoding}".lower()
    with system_server.target().connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode())
    live = Live(system_server, system_server.target(name))
    with live.target.connect(encoding=encoding) as session:
        session.execute(
            """
            CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
            CREATE TABLE "té" (id int PRIMARY KEY, CONSTRAINT "cé" CHECK (public.fits(id)));
            COMMENT ON CONSTRAINT "cé" ON "té" IS 'é';
            CREATE TABLE cites (a int, kind int, CONSTRAINT "ké" FOREIGN KEY (a) REFERENCES "té") PARTITION BY LIST (kind);
            COMMENT ON CONSTRAINT "ké" ON cites IS 'gone with it';
            CREATE TABLE "é" PARTITION OF cites FOR VALUES IN (1);
            CREATE TABLE plain (a int CONSTRAINT "pé" REFERENCES "té");
            INSERT INTO "té" SELECT generate_series(1, 9);
            SET session_replication_role = replica;
            INSERT INTO cites VALUES (77, 1);
            INSERT INTO plain VALUES (77);
            CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 3';
            """.encode("latin-1")
        )
    refnet = Command(short_home, tmp_path / "backups", url_of(live.target))
    made = refnet("backup", "database")
    assert made.code == 1, made.out + made.err
    assert "DAMAGED" not in made.out
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.err
    assert done.out.count("left out: ") == 3
    with live.target.connect(encoding=encoding) as session:
        found = session.execute(
            "SELECT convert_to(conname, getdatabaseencoding()), convalidated FROM pg_constraint WHERE contype IN ('c', 'f')"
            " AND conparentid = 0 AND oid >= 16384 ORDER BY 1"
        ).fetchall()
    partitioned = [(b"k\xe9", False)] if system_server.binaries.major > 17 else []
    assert found == [(b"c\xe9", False), *partitioned, (b"p\xe9", False)]


def test_a_policy_and_row_level_security_are_never_left_out(refnet: Command, live: Live) -> None:
    live.run(VIEW)
    live.run("ALTER TABLE rates ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON rates USING (id > 0)")
    assert refnet("backup", "database").code == 1
    refnet("restore", "database", "--force").succeeds()
    with live.target.connect() as session:
        assert session.execute("SELECT relrowsecurity FROM pg_class WHERE relname = 'rates'").fetchone() == (
            True,
        )
        assert session.execute("SELECT polname FROM pg_policy").fetchall() == [("own",)]
