"""A database with objects that no server accepts as they are: its artifacts are complete, and restores choose them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.command import Command, Result, url_of
from tests.faults.conftest import Live

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

#: As the small database of the faults, with few rows: a scratch server meets the objects below several times.
FEW = """
CREATE TABLE papers (id int PRIMARY KEY, title text NOT NULL);
INSERT INTO papers SELECT i, md5(i::text) FROM generate_series(1, 200) i;
CREATE TABLE citations (citing int REFERENCES papers, cited int REFERENCES papers, PRIMARY KEY (citing, cited));
INSERT INTO citations SELECT i, i / 2 FROM generate_series(2, 200) i;
CREATE TABLE summaries (id serial PRIMARY KEY, paper int REFERENCES papers, v text);
INSERT INTO summaries (paper, v) SELECT i, 'summary ' || i FROM generate_series(1, 100) i;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM papers;
SELECT lo_from_bytea(4000000001, 'large');
"""
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
RAISED = """
CREATE FUNCTION suits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE TABLE raised (v int, CONSTRAINT suiting CHECK (public.suits(v)), CHECK (v < 100));
INSERT INTO raised SELECT i FROM generate_series(1, 50) i;
COMMENT ON CONSTRAINT suiting ON raised IS 'it''s strict';
CREATE OR REPLACE FUNCTION suits(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN IF $1 > 10 THEN RETURN true; END IF; RAISE EXCEPTION '% is too small', $1; END $$
"""
UNFOUND = """
CREATE FUNCTION helps(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE FUNCTION lends(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helps($1); END';
CREATE TABLE lent (v int CONSTRAINT lending CHECK (lends(v)), t text CONSTRAINT relating CHECK (t::regclass > 0));
INSERT INTO lent SELECT i, 'papers' FROM generate_series(1, 50) i;
"""
KEY = """
SET session_replication_role = replica;
INSERT INTO citations VALUES (1, 999999);
RESET session_replication_role;
COMMENT ON CONSTRAINT citations_cited_fkey ON citations IS 'broken';
"""
OBJECTS = {
    VIEW: (["materialized view public.ratio", "materialized view public.above"], "division by zero"),
    CHECK: (["check fitting of public.checked"], "violated by some row"),
    RAISED: (["check suiting of public.raised"], "1 is too small"),
    UNFOUND: (
        ["check lending of public.lent", "check relating of public.lent"],
        "helps(integer) does not exist",
    ),
    KEY: (["foreign key citations_cited_fkey of public.citations"], "violates foreign key constraint"),
}
_CONSTRAINTS = """SELECT conname || convalidated || coalesce(obj_description(oid), '') FROM pg_constraint
    WHERE conrelid = 'public.{}'::regclass AND contype = '{}' ORDER BY 1"""
STATES = {
    VIEW: "SELECT relname || ispopulated FROM pg_class JOIN pg_matviews ON matviewname = relname ORDER BY 1",
    CHECK: _CONSTRAINTS.format("checked", "c"),
    RAISED: _CONSTRAINTS.format("raised", "c"),
    UNFOUND: _CONSTRAINTS.format("lent", "c"),
    KEY: _CONSTRAINTS.format("citations", "f"),
}
RESTORED = {
    VIEW: ["abovefalse", "countedtrue", "ratiofalse"],
    CHECK: ["checked_v_checktrue", "fittingfalseit's strict"],
    RAISED: ["raised_v_checktrue", "suitingfalseit's strict"],
    UNFOUND: ["lendingfalse", "relatingfalse"],
    KEY: ["citations_cited_fkeyfalsebroken", "citations_citing_fkeytrue"],
}


@pytest.fixture(scope="module")
def _template(server: Cluster) -> str:
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE few_template TEMPLATE template0")
    with server.target("few_template").connect() as session:
        session.execute(FEW)
    return "few_template"


#: The processes of a parallel pg_restore write the beginnings of their lines into each other's.
GARBLING = """\
#!/bin/sh
case "$*" in
*--jobs*) "{program}" "$@" 2> "{folder}/said.$$"; code=$?
    sed 's/^pg_restore: [fe]/pg_restore: &/' "{folder}/said.$$" >&2; exit $code ;;
*) exec "{program}" "$@" ;;
esac
"""
WATCHING = """
CREATE FUNCTION fired() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it fired''; END';
CREATE EVENT TRIGGER watching ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'REFRESH MATERIALIZED VIEW', 'COMMENT') EXECUTE FUNCTION fired();
"""


def garbling(binaries: Binaries, folder: Path) -> Path:
    """A folder of programs whose pg_restore garbles its errors where it runs in parallel."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for program in binaries.folder.iterdir():
        (folder / program.name).symlink_to(program)
    (wrapper := folder / "pg_restore").unlink()
    wrapper.write_text(GARBLING.format(program=binaries.folder / "pg_restore", folder=folder))
    wrapper.chmod(0o755)
    return folder


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


def test_an_artifact_with_objects_no_server_accepts_restores_the_rest(
    refnet: Command, live: Live, tmp_path: Path
) -> None:
    for sql in OBJECTS:
        live.run(sql)
    live.run("ALTER TABLE rates ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON rates USING (id > 0)")
    live.run(WATCHING)
    names = [name for sql in OBJECTS for name in OBJECTS[sql][0]]
    before = rows(live)
    made = refnet("backup", "database")
    assert made.code == 1, made.out + made.err
    assert all(name in made.out for name in names), made.out
    assert all(reason in made.out for _, reason in OBJECTS.values()), made.out
    assert "DAMAGED" not in made.out
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["state"] == "proven"
    watched = refnet("monitor", "database")
    said = " ".join(watched.out.split())
    assert (watched.code, sum(name in said for name in names)) == (1, 3), watched.out
    assert "and 4 more; `refnet accept " in said
    assert refnet("verify", "database").code == 1

    planned = refnet("restore", "database", "--plan")
    assert all(name in planned.out for name in names), planned.out
    refnet("query", "database", "SELECT count(*) FROM checked").succeeds()
    live.run("DELETE FROM summaries")
    programs = garbling(live.cluster.binaries, tmp_path / "garbling")
    done = refnet("restore", "database", "--force", REFNET_POSTGRES_BIN_DIR=str(programs))
    assert done.code == 0, done.err
    assert list(programs.glob("said.*"))
    assert all(f"left out: {name}" in done.out for name in names), done.out
    assert "by hand: " in done.out
    with live.target.connect() as session:
        for sql in OBJECTS:
            assert [one for (one,) in session.execute(STATES[sql].encode()).fetchall()] == RESTORED[sql]
        # A policy and row level security are never left out.
        assert session.execute("SELECT relrowsecurity FROM pg_class WHERE relname = 'rates'").fetchone() == (
            True,
        )
        assert session.execute("SELECT polname FROM pg_policy").fetchall() == [("own",)]
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
    recovered = refnet("recover", "--force")
    assert recovered.code == 0, recovered.out + recovered.err
    assert "left out: materialized view public.ratio is empty" in recovered.out

    live.run(KEY)  # the one object that is not accepted, though the artifact that was accepted is gone
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


#: A restore sets no search_path, with which the source finds what a function names.
LOST = """
CREATE FUNCTION found(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i';
CREATE FUNCTION finds(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';
CREATE TABLE few (v int); CREATE TABLE many WITH (fillfactor = 10) AS SELECT i AS v, repeat('x', 500) FROM generate_series(1, 3000) i;
INSERT INTO few SELECT generate_series(1, 9);
"""
LOSES = {  # the server looks into a function in SQL for each query of its table
    "plpgsql": "CREATE OR REPLACE FUNCTION finds(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN found(i); END'",
    "sql": "CREATE OR REPLACE FUNCTION finds(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT found(i)'",
}


@pytest.mark.parametrize("loses", LOSES.values(), ids=LOSES)
def test_an_index_whose_function_fails_is_left_out_and_printed(
    refnet: Command, live: Live, loses: str
) -> None:
    live.run(f"{LOST} CREATE INDEX odd_few ON few (finds(v)); CREATE INDEX odd_many ON many (finds(v) DESC);")
    live.run(
        "COMMENT ON INDEX odd_few IS 'odd'; CREATE INDEX even ON few (v); CREATE UNIQUE INDEX key ON many (v)"
    )
    live.run(loses)
    before = rows(live)
    made = refnet("backup", "database")
    assert made.code == 1, made.out + made.err
    assert all(f"index {one} of public.{one[4:]}" in made.out for one in ("odd_few", "odd_many")), made.out
    assert "found(integer) does not exist" in made.out
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "left out: index odd_many of public.many is missing" in said
    assert "by hand: CREATE INDEX odd_many ON public.many USING btree (public.finds(v) DESC);" in said
    assert rows(live) == before
    with live.target.connect() as session:
        there = session.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename IN ('few', 'many') ORDER BY 1"
        )
        assert there.fetchall() == [("even",), ("key",)]


def test_a_generated_column_whose_function_does_not_find_its_names_is_no_damage(
    refnet: Command, live: Live
) -> None:
    live.run(f"{LOST} ALTER TABLE few ADD w int GENERATED ALWAYS AS (finds(v)) STORED; {LOSES['plpgsql']}")
    made = refnet("backup", "database")
    assert made.code == 3, made.out + made.err
    assert "DAMAGED" not in made.out
    assert "names in it need their schemas" in " ".join(made.out.split())
    refnet("restore", "database", "--force").fails(1, "found(integer) does not exist", "need their schemas")


def test_a_table_that_no_query_can_read_fails_the_backup_in_two_lines(refnet: Command, live: Live) -> None:
    live.run(f"{LOST} CREATE INDEX odd ON few ((v + finds(1)))")
    live.run(
        "CREATE OR REPLACE FUNCTION finds(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i / 0; END'"
    )
    refnet("backup", "database", "--no-prove").fails(1, "counting the rows", "division by zero")


def test_roles_that_only_values_name_are_no_damage(refnet: Command, live: Live) -> None:
    live.run(
        "CREATE ROLE one; CREATE ROLE other; CREATE TABLE acls (a aclitem[], r regrole);"
        "INSERT INTO acls VALUES ('{one=r/other}', 'one')"
    )
    try:
        refnet("backup", "database").succeeds()
        refnet("restore", "database", "--force").succeeds()
    finally:
        live.run("DROP ROLE one; DROP ROLE other")


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


#: For SQL_ASCII too: names in Latin-1.
ODD = """
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
"""
#: A foreign key that no server before 18 has as NOT VALID.
PARTED = """
RESET session_replication_role;
CREATE TABLE papers (id int PRIMARY KEY);
CREATE TABLE parted (a int, b int CONSTRAINT parted_b REFERENCES papers, kind int) PARTITION BY LIST (kind);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE single (a int CONSTRAINT single_a REFERENCES papers);
COMMENT ON CONSTRAINT parted_b ON parted IS 'gone with it';
INSERT INTO papers SELECT generate_series(1, 9);
SET session_replication_role = replica;
INSERT INTO parted VALUES (1, 77, 1);
INSERT INTO single VALUES (3);
"""


@dataclass(frozen=True)
class Odd:
    """A database with these objects after a restore, and what its backup and its restore printed."""

    live: Live
    encoding: str
    backed_up: Result
    restored: Result

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.live.target.connect(encoding=self.encoding) as session:
            return session.execute(query.encode()).fetchall()


@pytest.fixture(scope="module", params=["LATIN1", "SQL_ASCII"])
def odd(
    request: pytest.FixtureRequest,
    system_server: Cluster,
    short_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Odd:
    name = f"odd_{request.param}".lower()
    with system_server.target().connect() as admin:
        admin.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'".encode()
        )
    live = Live(system_server, system_server.target(name))
    with live.target.connect(encoding=request.param) as session:
        session.execute((ODD + PARTED).encode("latin-1"))
    (home := short_folder / name).mkdir(mode=0o755)
    refnet = Command(home, tmp_path_factory.mktemp(name) / "backups", url_of(live.target))
    return Odd(live, request.param, refnet("backup", "database"), refnet("restore", "database", "--force"))


def test_a_foreign_key_that_cannot_be_not_valid_is_missing_and_printed(odd: Odd) -> None:
    if odd.live.cluster.binaries.major > 17:
        pytest.skip("foreign keys of partitioned tables can be NOT VALID from 18 on")
    made, done = odd.backed_up, odd.restored
    assert made.code == 1, made.out + made.err
    last = made.out.splitlines()[-1]
    assert "no server accepts " in last
    assert "; foreign key parted_b of public.parted; " in last
    assert done.code == 0, done.err
    by_hand = (
        "ALTER TABLE public.parted ADD CONSTRAINT parted_b FOREIGN KEY (b) REFERENCES public.papers(id);"
    )
    assert "foreign key parted_b of public.parted is missing (" in done.out
    assert f"by hand: {by_hand}" in " ".join(done.out.split())
    keys = odd.rows(
        "SELECT convert_to(conname, 'SQL_ASCII') FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('parted'::regclass, 'single'::regclass)"
    )
    assert keys == [(b"single_a",)]


def test_names_of_these_objects_in_any_encoding_are_no_damage(odd: Odd) -> None:
    made, done = odd.backed_up, odd.restored
    assert made.code == 1, made.out + made.err
    assert "DAMAGED" not in made.out
    assert done.code == 0, done.err
    assert done.out.count("left out: ") == 4
    found = odd.rows(
        "SELECT convert_to(conname, getdatabaseencoding()), convalidated FROM pg_constraint WHERE contype IN ('c', 'f')"
        " AND conparentid = 0 AND oid >= 16384 ORDER BY 1"
    )
    newer = odd.live.cluster.binaries.major > 17
    partitioned = [(b"k\xe9", False), (b"parted_b", False)] if newer else []
    ascii_names = [(b"single_a", True)]
    assert found == sorted([(b"c\xe9", False), *partitioned, (b"p\xe9", False), *ascii_names])
