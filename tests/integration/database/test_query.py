"""Queries on an artifact, in a scratch server: the right rows of the tables that they need, within limits and walls."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.command import Command, url_of

from refnet.actions.look import query as run
from refnet.catalog.source_name import SourceName
from refnet.cli.query import _print_csv, _print_table
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.proof_run import ProofOptions
from refnet.settings import Settings
from refnet.sources.contents import AnswerLimits, QueryAnswer
from refnet.sources.contents import Query as Asking
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact, open_database
from refnet.sources.database.query import answer, copies
from refnet.sources.database.query.answer import Asker
from refnet.sources.database.query.copies import Part, ScratchCopy
from refnet.store.open_artifacts import artifact_at

USUAL = AnswerLimits()
_SCRIPT = r"""
CREATE SCHEMA shop;
CREATE TABLE shop.item (id int PRIMARY KEY, name text, price numeric);
INSERT INTO shop.item VALUES (1, E'\x1b[31mred', 1.10), (2, '', NULL), (3, E'a "b",\nc', 3);
CREATE TABLE shop.other (id int);
INSERT INTO shop.other SELECT generate_series(1, 100);
CREATE TABLE shop.large AS SELECT i, md5(i::text) AS text FROM generate_series(1, 20000) i;
CREATE VIEW shop.by_item AS SELECT i.id, i.name, count(*) AS n FROM shop.item i GROUP BY i.id;
CREATE MATERIALIZED VIEW shop.counted AS SELECT count(*) AS n FROM shop.other;
CREATE MATERIALIZED VIEW shop.counted_more AS SELECT n + 1 AS n FROM shop.counted;
CREATE FUNCTION shop.of_text() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM shop.other';
CREATE FUNCTION shop.of_body() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM shop.other; END;
CREATE TABLE shop.parted (k int) PARTITION BY LIST (k);
CREATE TABLE shop.one PARTITION OF shop.parted FOR VALUES IN (1);
CREATE TABLE shop.two PARTITION OF shop.parted FOR VALUES IN (2);
INSERT INTO shop.parted VALUES (1), (2), (2);
CREATE TABLE shop.above (a int);
CREATE TABLE shop.below () INHERITS (shop.above);
INSERT INTO shop.below VALUES (7);
CREATE TABLE shop.secret (a int);
INSERT INTO shop.secret VALUES (42);
ALTER TABLE shop.secret ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON shop.secret FROM PUBLIC;
CREATE SEQUENCE shop.numbers START 41;
SELECT nextval('shop.numbers');
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER far FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE shop.far (a int) SERVER far;
CREATE FUNCTION shop.endless() RETURNS int LANGUAGE plpgsql AS $$
BEGIN LOOP BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
CREATE FUNCTION shop.fire() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
CREATE EVENT TRIGGER fires ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION shop.fire();
CREATE FUNCTION shop.always(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR shop.<= (FUNCTION = shop.always, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION shop.never(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR shop.= (FUNCTION = shop.never, LEFTARG = oid, RIGHTARG = oid);
CREATE TABLE shop."a""b ;\x" ("\""; DROP" int);
"""


@pytest.fixture(scope="module")
def refnet(server: Cluster, short_folder: Path) -> Command:
    """The command, on a database that was backed up once and is gone."""
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE asked TEMPLATE template0")
    target = server.target("asked")
    with target.connect() as session:
        session.execute(_SCRIPT.encode())
        session.execute("ALTER DATABASE asked SET search_path TO shop, public, pg_catalog")
    folder = short_folder / "asked"
    (folder / "home").mkdir(parents=True)
    (folder / "home").chmod(0o755)
    command = Command(folder / "home", folder / "backups", url_of(target))
    command("backup", "database", "--no-prove").succeeds()
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE asked WITH (FORCE)")
    return command


@pytest.fixture(scope="module")
def options(wheel: Binaries, refnet: Command) -> ProofOptions:
    return ProofOptions(refnet.home / "scratch", lambda *_, **__: wheel, 2)


@pytest.fixture(scope="module")
def artifact(refnet: Command) -> DatabaseArtifact:
    found = open_database(artifact_at(refnet.artifact(), SourceName.DATABASE))
    assert isinstance(found, DatabaseArtifact)
    return found


class Asked:
    """One scratch server for all queries; each has its own session, and loads what is not loaded yet."""

    def __init__(self, copy: ScratchCopy, part: Part, path: str | None) -> None:
        self.copy, self.part, self.path = copy, part, path

    @contextmanager
    def session(self, limits: AnswerLimits = USUAL) -> Iterator[Asker]:
        asker = Asker(self.copy.reader, self.path, limits)
        try:
            yield asker
        finally:
            asker.close()

    def __call__(
        self, query: str, limits: AnswerLimits = USUAL, *, as_json: bool = False
    ) -> list[tuple[str | None, ...]]:
        with self.session(limits) as asker:
            copies.load_needed(self.part, asker, query.encode(), limits, everything=False)
            assert asker.columns(query.encode()) is not None
            return [*asker.rows(query.encode(), as_json=as_json)]


@pytest.fixture(scope="module")
def ask(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[Asked]:
    with copies.partial_copy(artifact, options) as (copy, part):
        yield Asked(copy, part, copies.search_path(artifact.index))


def test_only_the_tables_that_a_query_reads_are_loaded(ask: Asked) -> None:
    assert ask("SELECT count(*) FROM item") == [("3",)]
    assert ask.part.loaded == {("shop", "item")}
    assert ask("WITH x AS (SELECT * FROM item WHERE EXISTS (TABLE secret)) SELECT count(*) FROM x") == [
        ("3",)
    ]
    assert ask.part.loaded == {("shop", "item"), ("shop", "secret")}
    assert ask("VALUES (1, NULL), (2, '')") == [("1", None), ("2", "")]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT * FROM item ORDER BY id DESC", [("3", 'a "b",\nc', "3"), ("2", "", None), ("1", "\x1b[31mred", "1.10")]),
        ("SELECT id, id FROM item LIMIT 1", [("1", "1")]),
        ("TABLE by_item LIMIT 1", [("1", "\x1b[31mred", "1")]),
        ("SELECT i.id, i.name FROM item i GROUP BY i.id HAVING id = 2", [("2", "")]),
        ("TABLE counted_more", [("101",)]),
        ("SELECT of_body()", [("100",)]),
        ("SELECT of_text()", [("100",)]),
        ("SELECT count(*) FROM parted", [("3",)]),
        ("SELECT count(*) FROM two", [("2",)]),
        ("TABLE above", [("7",)]),
        ("TABLE secret", [("42",)]),
        ("SELECT last_value FROM numbers", [("41",)]),
        ("SELECT count(text), max(i) FROM large", [("20000", "20000")]),
        ("SELECT 1 -- a comment", [("1",)]),
        ("SELECT", [()]),
        ('TABLE "a""b ;\\x"', []),
    ],
)  # fmt: skip
def test_the_answer_is_that_of_the_database(
    ask: Asked, query: str, rows: list[tuple[str | None, ...]]
) -> None:
    assert ask(query) == rows


@pytest.mark.parametrize(
    ("query", "words", "hint"),
    [
        ("SELEKT 1", "syntax error", "SELECT, VALUES"),
        ("SELECT 1; DROP TABLE item", "syntax error", "semicolon"),
        ("SELECT 1) AS x; DROP TABLE item; SELECT * FROM (SELECT 1", "multiple commands", ""),
        ("DELETE FROM item RETURNING 1", "syntax error", "SELECT"),
        ("WITH x AS (DELETE FROM item RETURNING 1) TABLE x", "modif", ""),
        ("SELECT nextval('numbers')", "permission denied", ""),
        ("SELECT lo_create(0)", "read-only", ""),
        ("TABLE nothing", "does not exist", "--tables"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied", ""),
        ("TABLE far", "foreign table", ""),
        ("SELECT 1 / 0", "division by zero", ""),
        ("SELECT repeat('x', 17 << 20)", "larger than 16.0 MiB", "Select"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_two_lines(
    ask: Asked, query: str, words: str, hint: str
) -> None:
    with pytest.raises(RefnetError, match=words) as refused:
        ask(query)
    assert hint in refused.value.hint
    assert refused.value.code in {Exit.FAILED, Exit.UNVERIFIED}
    assert ask("SELECT count(*) FROM item") == [("3",)]


def test_a_table_that_was_read_behind_the_server_s_back_is_noticed(ask: Asked) -> None:
    ask("TABLE item")
    ask.part.loaded.discard(("shop", "item"))  # as if it had not been loaded
    with ask.session() as asker:
        asker.session.execute("BEGIN READ ONLY")
        [*asker.rows(b"SELECT ts_stat('SELECT to_tsvector(name) FROM item')")]
        assert copies.unloaded(ask.part, asker) == {("shop", "item")}
    ask.part.loaded.add(("shop", "item"))


def test_the_rows_and_the_bytes_of_an_answer_are_bounded(ask: Asked) -> None:
    with ask.session(AnswerLimits(rows=2)) as asker:
        assert len([*asker.rows(b"SELECT generate_series(1, 1000000)")]) == 2
        assert asker.cut
        assert "--rows" in asker.cut.hint
    with ask.session(AnswerLimits(rows=2)) as asker:
        assert len([*asker.rows(b"SELECT generate_series(1, 2)")]) == 2
        assert asker.cut is None
    with ask.session(AnswerLimits(bytes=2500)) as asker:
        assert len([*asker.rows(b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")]) == 2
        assert asker.cut
        assert "--megabytes" in asker.cut.hint


def test_a_reader_that_stops_early_leaves_nothing_running(ask: Asked) -> None:
    with ask.session() as asker:
        rows = asker.rows(b"SELECT generate_series(1, 100000)")
        next(rows)
        rows.close()
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        assert all(timer.finished.is_set() for timer in timers)


@pytest.mark.parametrize("query", ["SELECT pg_sleep(60)", "SELECT shop.endless()"])
def test_a_query_ends_on_time_even_if_its_code_refuses(
    ask: Asked, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "_GRACE", 0.3)
    with pytest.raises(RefnetError, match="did not end within"):
        ask(query, AnswerLimits(seconds=0.3))


def test_json_has_the_types_of_the_values(ask: Asked) -> None:
    rows = ask("SELECT id, name, price, NULL AS nothing FROM item ORDER BY id", as_json=True)
    assert json.loads(rows[0][0] or "") == {"id": 1, "name": "\x1b[31mred", "price": 1.1, "nothing": None}


def test_tables_and_csv_are_printed_and_nothing_harmful(
    ask: Asked, artifact: DatabaseArtifact, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    query = b"SELECT id, name, price FROM item ORDER BY id"
    ask(query.decode())
    printed = []
    for printer in (_print_table, _print_csv):
        with ask.session() as asker:
            printer(QueryAnswer(artifact.stored, asker.columns(query), asker.rows(query), (), asker))
        printed.append(capsysbinary.readouterr().out.decode())
    assert "\x1b" not in printed[0]
    assert printed[0].splitlines()[1].split() == ["1", "\\x1b[31mred", "1.10"]
    assert [*csv.reader(io.StringIO(printed[1]))] == [
        ["id", "name", "price"], ["1", "\x1b[31mred", "1.10"], ["2", "", ""], ["3", 'a "b",\nc', "3"],
    ]  # fmt: skip
    assert '2,"",\n' in printed[1]


def test_the_command_prints_json_and_ends_with_1_if_it_is_cut_short(refnet: Command) -> None:
    before = {*(refnet.home / "scratch").glob("scratch-*")}  # that of the fixture
    report = refnet("query", "database", "SELECT id, name FROM item\nORDER BY id;", "--json", "--rows", "1")
    assert report.code == 1
    assert "cut short" in report.err
    assert report.json["rows"] == [{"id": 1, "name": "\x1b[31mred"}]
    assert report.json["tables_loaded"] == ["shop.item"]
    assert "\x1b" not in report.out
    assert {*(refnet.home / "scratch").glob("scratch-*")} == before


@pytest.mark.parametrize(
    ("meant", "asked", "words"),
    [
        ("vault_20261125.tar.gz", Asking("SELECT 1"), "has no tables"),
        ("refnet_20261125_020000.sql.gz", Asking(" ; "), "0 characters"),
        ("refnet_20261125_020000.sql.gz", Asking("x" * 200_000), "200,000 characters"),
        ("refnet_20261125_020000.sql.gz", Asking("SELECT '\udcff'"), "not valid UTF-8"),
    ],
)
def test_what_cannot_be_queried_is_refused_before_a_server_starts(
    tmp_path: Path, meant: str, asked: Asking, words: str
) -> None:
    (tmp_path / meant).write_bytes(b"")
    context = Context(Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups"))
    with pytest.raises(RefnetError, match=words), run(context, str(tmp_path / meant), asked):
        pass


def test_browse_is_psql_on_all_tables_and_leaves_nothing(refnet: Command) -> None:
    before = {*(refnet.home / "scratch").glob("scratch-*")}
    done = refnet(
        "browse",
        "database",
        stdin="SELECT count(*) FROM shop.item;\nCREATE TABLE t ();\n\\! echo $REFNET_HOME-\n",
    )
    assert done.code == 0
    assert "     3" in done.out
    assert "read-only" in done.err
    assert "\n-\n" in done.out
    assert {*(refnet.home / "scratch").glob("scratch-*")} == before


def test_a_foreign_dump_can_be_queried(refnet: Command, tmp_path: Path) -> None:
    dump = tmp_path / "old.sql"
    dump.write_text(
        "-- PostgreSQL database dump\n-- Dumped from database version 18.1\nCREATE TABLE t (a int);\n"
        "INSERT INTO t VALUES (1), (2);\nALTER TABLE t OWNER TO nobody;\n-- PostgreSQL database dump complete\n"
    )
    done = refnet("query", dump, "SELECT sum(a) FROM t", "--csv")
    assert (done.code, done.out) == (0, "sum\n3\n")


def test_a_sample_has_the_first_rows_of_a_table_without_a_server(refnet: Command) -> None:
    whole = refnet("query", "database", "--sample", "shop.item", "--json").json
    assert whole["rows"] == [
        {"id": "1", "name": "\x1b[31mred", "price": "1.10"},
        {"id": "2", "name": "", "price": None},
        {"id": "3", "name": 'a "b",\nc', "price": "3"},
    ]
    few = refnet("query", "database", "--sample", "large", "--rows", "3")
    assert few.code == 0
    assert "the first rows as they are stored, of 20,000" in few.err
    assert [line.split()[0] for line in few.out.splitlines()[1:4]] == ["1", "2", "3"]
    refnet("query", "database", "--sample", "shop.nowhere").fails(2, "there is no table", "--tables")
    refnet("query", "database", "TABLE shop.item", "--sample", "shop.item").fails(2, "exclude each other")
    refnet("query", "database").fails(2, "there is no query")
