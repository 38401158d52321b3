"""pg_dump's data section is split into what psql runs and the contents of large objects."""

from __future__ import annotations

from typing import Any, cast

import pytest

from refnet.sources.database.admin_session import Session
from refnet.sources.database.restore.large_objects import DataText

HEAD = b"""\
SET statement_timeout = 0;

SELECT pg_catalog.lo_create('17');
COPY public.notes (body) FROM stdin;
BEGIN;

SELECT pg_catalog.lo_open('17', 131072);
\\.

"""
CONTENTS = b"""\
BEGIN;

SELECT pg_catalog.lo_open('17', 131072);
SELECT pg_catalog.lowrite(0, '\\x00ff');
SELECT pg_catalog.lowrite(0, '\\x41');
SELECT pg_catalog.lo_close(0);

SELECT pg_catalog.lo_open('18', 131072);
SELECT pg_catalog.lo_close(0);

COMMIT;

--
-- Data for Name: 19; Type: BLOBS; Schema: -; Owner: refnet
--

BEGIN;

SELECT pg_catalog.lo_open('19', 131072);
SELECT pg_catalog.lowrite(0, '\\x42');
SELECT pg_catalog.lo_close(0);

COMMIT;

"""
OPEN_17, OPEN_18, OPEN_19 = (b"SELECT pg_catalog.lo_open('%d', 131072);\n" % oid for oid in (17, 18, 19))
BEGIN, COMMIT, CLOSE = b"BEGIN;\n", b"COMMIT;\n", b"SELECT pg_catalog.lo_close(0);\n"
WRITTEN = [BEGIN, OPEN_17, b"\x00\xffA", CLOSE, OPEN_18, CLOSE, COMMIT, BEGIN, OPEN_19, b"B", CLOSE, COMMIT]


class Executed(list[bytes]):
    """Stands for a session: has the statements, or the value that one has."""

    def execute(self, statement: Any, values: Any = ()) -> None:
        self.append(values[0] if values else statement)


def split(data: bytes, size: int) -> list[Any]:
    """Return what psql gets and what the session executes, in turn."""
    text, found = DataText(data[at : at + size] for at in range(0, len(data), size)), list[Any]()
    while not text.ended:
        found.append(b"".join(text.for_psql()))
        if not text.ended:
            found.append(Executed())
            text.write_contents(cast("Session", found[-1]))
    return found


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_the_contents_are_written_apart_and_psql_runs_the_rest(size: int) -> None:
    assert split(HEAD + CONTENTS + b"--\n-- complete\n--\n", size) == [HEAD, WRITTEN]


def test_what_follows_the_contents_is_psqls_again() -> None:
    more = b"SELECT pg_catalog.setval('public.papers_id_seq', 6000, true);\nBEGIN;\n\nCOMMIT;\n"
    assert split(HEAD + CONTENTS + more + CONTENTS, 100) == [HEAD, WRITTEN, more, WRITTEN]


@pytest.mark.parametrize("value", [b"\\x4", b"\\x4g", b"4142"])
def test_contents_in_another_form_are_psqls(value: bytes) -> None:
    other = b"SELECT pg_catalog.lowrite(0, '%b');\n" % value
    assert split(b"BEGIN;\n" + OPEN_17 + other + CLOSE, 100) == [b"", [BEGIN, OPEN_17], other + CLOSE]


def test_a_long_object_is_written_in_pieces() -> None:
    one = b"SELECT pg_catalog.lowrite(0, '\\x" + b"00" * 16384 + b"');\n"
    _, executed = split(b"BEGIN;\n" + OPEN_17 + one * 70 + CLOSE + COMMIT, 1 << 20)
    assert [len(value) for value in executed[2:4]] == [1 << 20, 6 * 16384]
