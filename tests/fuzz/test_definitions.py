"""Definitions as an attacker writes them: each statement is known or not, in bounded time."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed

from refnet.sources.database import sql_text
from refnet.sources.database.artifact.definitions import of_text
from refnet.sources.database.artifact.table_definitions import TableDefinitions
from refnet.sources.database.rows.table_layout import recorded_columns
from refnet.sources.database.sql_text import Codec

_WORDS = [
    *("CREATE TABLE s.t (", "ALTER TABLE ONLY s.t ", "ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(a)", "OWNER TO x"),
    *("CREATE TRIGGER t AFTER UPDATE OF ", " ON s.t ", "GRANT ", "SELECT(a)", "COMMENT ON TABLE s.t IS ", "INHERITS (s.u)"),
    *("ALTER COLUMN a SET DEFAULT ", "ATTACH PARTITION s.t", "s.t", '"', "'", "''", "E'", "\\", "$$", "$x$", "(", ")", "[", "]"),
    *(";", ",", " ", "\n", "--", "/*", "a int", "NOT NULL", " DEFAULT ", "\x80", ".", "::regclass"),
]  # fmt: skip
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=40).map("".join)


@fuzzed
@given(_TEXTS)
@example("E'\\" * 20_000)
@example("'" * 100_001)
@example("CREATE TABLE s.t (" + "--\n" * 50_000)
@example("CREATE STATISTICS s.x ON a" + " FROM s.t" * 20_000)
@example('ALTER TABLE s.t ADD CONSTRAINT "' + " CHECK " * 20_000)
@example('CREATE TABLE s."' + '""' * 50_000)
@example("CREATE TABLE s.t (" * 5_000)
@example("CREATE TRIGGER t AFTER UPDATE OF " + "a, " * 20_000)
@example("GRANT " + "SELECT(a)," * 20_000 + " ON TABLE s.t TO x;")
@example("".join(f"ALTER TABLE ONLY s.t{i} ATTACH PARTITION s.t{i + 1} DEFAULT;" for i in range(3000)))
def test_any_text_is_read_in_bounded_time(text: str) -> None:
    codec, table = Codec(), ("s", "t")
    with bounded():
        found = of_text([text.encode("utf-8", "surrogateescape")], codec)
        tables = TableDefinitions(found, frozenset({table}))
        assert all(one in found for one in (*tables.before, *tables.after))
        assert len(tables.before) + len(tables.after) == len(tables.chosen)
        recorded_columns(found, table, codec)
        tables.needed(codec)
        tables.partitions(("s", "t0"))


@fuzzed
@given(_TEXTS)
def test_an_outline_has_the_length_of_its_text(text: str) -> None:
    raw = text.encode("utf-8", "surrogateescape")
    assert len(sql_text.outline(raw)) == len(raw)
