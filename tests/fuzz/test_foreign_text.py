"""A dump by pg_dumpall of which one database is taken, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.core.errors import RefnetError
from refnet.sources.database.artifact.foreign_text import one_database

_PART = (
    "\\connect {}\n\\restrict x\nCREATE TABLE t ();\nCOPY t FROM stdin;\n1\n\\.\n"
    "-- PostgreSQL database dump complete\n\\unrestrict x\n"
)
DUMP = "-- PostgreSQL database cluster dump\n" + "".join(
    _PART.format(name)
    for name in ("shop", '"my ""db"""', "-reuse-previous=on \"dbname='it\\'s'\"", "template1")
)


def taken(data: bytes, size: int, name: str) -> bytes | None:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return outcome(lambda: b"".join(one_database(pieces, name, "all.sql")), RefnetError)


@fuzzed
@given(damaged(DUMP.encode()), st.integers(1, 200), st.sampled_from(["shop", 'my "db"', "it's", "other"]))
def test_what_is_taken_does_not_depend_on_the_pieces(data: bytes, size: int, name: str) -> None:
    assert taken(data, size, name) == taken(data, len(data) or 1, name)


def test_each_database_is_found_by_name_and_psql_settings_are_left_out() -> None:
    for name in ("shop", 'my "db"', "it's"):
        found = taken(DUMP.encode(), 7, name)
        assert found is not None
        assert found.count(b"CREATE TABLE t ();") == 1
        assert b"restrict" not in found
    assert taken(DUMP.encode(), 7, "other") is None


@pytest.mark.parametrize("key", ["k3y", ""])
def test_lines_in_a_functions_text_neither_end_nor_begin_a_database(key: str) -> None:
    lines = ["\\connect victim", "\\restrict other", "\\unrestrict other"]
    lines += ["-- PostgreSQL database dump complete", "\\connect victim"] if key else []
    body = "".join(f"{line}\n" for line in ("CREATE FUNCTION f() RETURNS text AS $$", *lines, "$$;"))
    begin, end = (f"\\restrict {key}\n", f"\\unrestrict {key}\n") if key else ("", "")
    both = "".join(
        f"\\connect {name}\n{begin}{text}-- PostgreSQL database dump complete\n{end}"
        for name, text in (("evil", body), ("victim", "SELECT 1;\n"))
    ).encode()
    evil, victim = taken(both, 9, "evil"), taken(both, 9, "victim")
    assert evil is not None
    assert victim is not None
    assert body.encode() in evil
    assert b"$$" not in victim
    assert b"SELECT 1;\n" in victim
