"""What of a schema only a superuser restores is read from what pg_restore writes before each entry."""

from __future__ import annotations

import time

import pytest

from refnet.sources.database.restore.own_schema import schema_needs


def entry(kind: str, name: str, statement: str, owner: str = "app") -> str:
    return f"--\n-- Name: {name}; Type: {kind}; Schema: public; Owner: {owner}\n--\n\n{statement}\n\n\n"


@pytest.mark.parametrize(
    ("kind", "statement", "needed"),
    [
        ("EVENT TRIGGER", "CREATE EVENT TRIGGER x", "event trigger x"),
        ("PUBLICATION", "CREATE PUBLICATION x FOR ALL TABLES WITH (a);", "publication of everything x"),
        ("PUBLICATION", "CREATE PUBLICATION x WITH (publish = 'insert');", ""),
        (
            "FUNCTION",
            "CREATE FUNCTION x() RETURNS int\n    LANGUAGE c STRICT\n    AS 'a', 'b';",
            "function in c x",
        ),
        ("FUNCTION", "CREATE FUNCTION x() RETURNS int\n    LANGUAGE sql\n    AS $$\n    LANGUAGE c\n$$;", ""),
        (
            "FUNCTION",
            "CREATE FUNCTION x()\n    LANGUAGE sql IMMUTABLE LEAKPROOF\n    AS '1'",
            "leakproof function x",
        ),
        ("CAST", "CREATE CAST (a AS b) WITHOUT FUNCTION;", "cast without a function x"),
        ("TABLE", "CREATE TABLE x (a int);", ""),
    ],
)
def test_only_what_needs_a_superuser_is_named(kind: str, statement: str, needed: str) -> None:
    assert schema_needs(entry(kind, "x", statement)).superuser == ((needed,) if needed else ())


def test_owners_are_those_of_all_sections_without_what_stands_behind_them() -> None:
    pre = entry("TABLE", "x", "CREATE", "app; Tablespace: fast") + entry("COMMENT", "x", "COMMENT", "")
    assert schema_needs(
        pre, entry("INDEX", "y", "CREATE", "a b"), entry("EXTENSION", "z", "", "-")
    ).owners == (
        "app",
        "a b",
    )


def test_a_schema_that_is_made_to_be_slow_is_read_in_a_moment() -> None:
    began = time.process_time()
    schema_needs(
        "-- Name: " * 200_000, "-- Name: ; Type: A; Schema: " * 100_000, "-- Name: x; Type: " + "A " * 500_000
    )
    schema_needs("".join(entry("FUNCTION", "x", "    LANGUAGE " * 50) for _ in range(5_000)))
    assert time.process_time() - began < 10
