"""Which statement of a schema belongs to which table, and which could change more than that."""

from __future__ import annotations

import pytest

from refnet.sources.database import sql_text
from refnet.sources.database.artifact.definitions import What, of_text
from refnet.sources.database.artifact.table_definitions import TableDefinitions
from refnet.sources.database.plan.table_plan import Missing, TableNeeds
from refnet.sources.database.rows.table_layout import Column, recorded_columns
from refnet.sources.database.sql_text import Codec

_T, _U = ("s", "t"), ("s", "u")


def test_statements_end_where_postgresql_ends_them() -> None:
    text = b"""-- Name: "x; y"; Type: TABLE
SELECT ';', E'\\';', "a;b" FROM t; CREATE RULE r AS ON DELETE TO s.t DO (NOTIFY x; NOTIFY y);

CREATE FUNCTION s.f() RETURNS int AS $_$ SELECT 1; $x$ ; $_$ LANGUAGE sql;"""
    assert list(sql_text.statements(text)) == [
        b"SELECT ';', E'\\';', \"a;b\" FROM t",
        b"CREATE RULE r AS ON DELETE TO s.t DO (NOTIFY x; NOTIFY y)",
        b"CREATE FUNCTION s.f() RETURNS int AS $_$ SELECT 1; $x$ ; $_$ LANGUAGE sql",
    ]


@pytest.mark.parametrize(
    ("statement", "what", "table"),
    [
        ("CREATE TABLE s.t (a int) PARTITION BY RANGE (a)", What.TABLE, _T),
        ('CREATE UNLOGGED TABLE "s"."t" (a int)\nINHERITS (s.u)\nWITH (x=1)', What.TABLE, _T),
        ("CREATE TABLE s.t OF s.kind", What.TABLE, _T),
        ("CREATE TABLE s.t PARTITION OF s.u DEFAULT", What.UNKNOWN, _T),
        ("CREATE TABLE s.t (a int REFERENCES s.u)", What.UNKNOWN, _T),
        ("CREATE TABLE s.t AS SELECT 1", What.UNKNOWN, _T),
        ("ALTER TABLE ONLY s.t ALTER COLUMN a SET DEFAULT concat('a, b', 1)", What.OF_TABLE, _T),
        ("ALTER TABLE s.t ALTER COLUMN a SET DEFAULT 1, INHERIT s.u", What.UNKNOWN, _T),
        ("ALTER TABLE s.t ADD CONSTRAINT c CHECK ((a > 0)) /* , */", What.UNKNOWN, _T),
        ("ALTER TABLE s.t ADD CONSTRAINT k UNIQUE (a, b)", What.KEY, _T),
        ("ALTER TABLE s.t OWNER TO x", What.OF_TABLE, _T),
        ("ALTER TABLE s.t OWNER TO x, INHERIT s.u", What.UNKNOWN, _T),
        ("ALTER TABLE ONLY s.u ATTACH PARTITION s.t FOR VALUES IN ('a', 'b')", What.ATTACH, _T),
        ("ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(b) ON DELETE SET NULL (a) DEFERRABLE NOT VALID", What.FOREIGN_KEY, _T),
        ("ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(b), DROP COLUMN c", What.UNKNOWN, _T),
        ('CREATE TRIGGER "a ON s.u" AFTER UPDATE OF a, "b ON s.u" OR DELETE ON s.t FOR EACH ROW EXECUTE FUNCTION s.f()', What.TRIGGER, _T),
        ("CREATE RULE r AS\n    ON INSERT TO s.t DO INSTEAD NOTHING", What.RULE, _T),
        ("CREATE POLICY p ON s.t TO a, b USING (true)", What.POLICY, _T),
        ("GRANT SELECT(a),INSERT ON TABLE s.t TO x WITH GRANT OPTION", What.GRANT, _T),
        ("COMMENT ON COLUMN s.t.a IS 'x'", What.OF_TABLE, _T),
        ("COMMENT ON CONSTRAINT k ON s.t IS 'x'", What.OF_TABLE, _T),
    ],
)  # fmt: skip
def test_a_statement_is_known_by_its_complete_beginning(
    statement: str, what: What, table: tuple[str, str]
) -> None:
    (one,) = of_text([statement.encode() + b";"], Codec())
    assert (one.what, one.table) == (what, table)


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE s.t", "CREATE OR REPLACE VIEW s.t AS SELECT 1", "GRANT ALL ON TABLE s.t, s.u TO x", "DO $$x$$", "CREATE TABLE IF NOT EXISTS s.t ()"],
)  # fmt: skip
def test_other_statements_are_not_known(statement: str) -> None:
    assert of_text([statement.encode() + b";"], Codec()) == ()


def test_an_object_is_changed_only_if_it_is_created_with_the_table() -> None:
    text = b"""CREATE TABLE s.t (a int); CREATE SEQUENCE s.own
    START WITH 1; ALTER SEQUENCE s.own OWNED BY s.t.a; ALTER SEQUENCE s.live OWNED BY s.t.a;
    COMMENT ON SEQUENCE s.live IS 'x'; COMMENT ON INDEX s.i IS 'x'; CREATE INDEX j ON s.t USING btree (a);
    COMMENT ON INDEX s.j IS 'x'; COMMENT ON STATISTICS s.j IS 'x';"""
    chosen = TableDefinitions(of_text([text], Codec()), frozenset({_T})).chosen
    assert [one.text.split(b"\n")[0] for one in chosen] == [
        b"CREATE TABLE s.t (a int)",
        b"CREATE SEQUENCE s.own",
        b"ALTER SEQUENCE s.own OWNED BY s.t.a",
        b"CREATE INDEX j ON s.t USING btree (a)",
        b"COMMENT ON INDEX s.j IS 'x'",
    ]


def test_columns_are_read_with_type_default_and_nullability() -> None:
    text = b"""CREATE TABLE s.t (
    a numeric(8,2) DEFAULT ((1 + 2))::numeric NOT NULL,
    "b, c" text COLLATE pg_catalog."C" DEFAULT 'x, NOT NULL'::text,
    d s.kind[],
    e integer GENERATED ALWAYS AS ((a * 2)) STORED,
    CONSTRAINT k CHECK ((a > 0))
); ALTER TABLE ONLY s.t ALTER COLUMN d SET DEFAULT '{}'::s.kind[];"""
    assert recorded_columns(of_text([text], Codec()), _T, Codec()) == {
        "a": Column("numeric(8,2)", True, "((1 + 2))::numeric"),
        "b, c": Column("text", False, "'x, NOT NULL'::text"),
        "d": Column("s.kind[]", False, "'{}'::s.kind[]"),
    }


def test_inherited_columns_belong_to_the_table_and_a_forged_cycle_ends() -> None:
    text = b"""CREATE TABLE s.t (
    a integer
)
INHERITS (s.u, "s"."v w"); CREATE TABLE s.u (
    b text
)
INHERITS (s.t); CREATE TABLE s."v w" (
    c date
); ALTER TABLE ONLY s.u ALTER COLUMN b SET DEFAULT 'x'::text;"""
    assert recorded_columns(of_text([text], Codec()), _T, Codec()) == {
        "a": Column("integer", False, ""),
        "b": Column("text", False, "'x'::text"),
        "c": Column("date", False, ""),
    }


def test_each_need_says_what_to_do() -> None:
    needs = TableNeeds(
        ("s.e",), (("s.v", "view"),), ("old",), (Missing("table", "s.u", "CREATE TABLE …"),), (("citext", "public"),),
        ("app",), ("boss",), "me", ("fast",), ("ALTER TABLE s.t INHERIT s.u",),
    )  # fmt: skip
    hints = [one.hint for one in needs.problems()]
    assert hints[2:] == [
        "CREATE SCHEMA old; or restore it with --schema old",
        "CREATE EXTENSION citext SCHEMA public",
        "Restore it as well: --table s.u",
        "CREATE ROLE app",
        "GRANT boss TO me",
        "CREATE TABLESPACE fast …",
        "Restore the complete database instead.",
    ]
