"""Definitions of a forged artifact create the table that is asked for, and change no other live one unseen."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from tests.hostile import forge

from refnet.core.errors import RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.plan.restore_facts import Permission
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.restore.tables_in_place import Staged, staged


@pytest.fixture
def live(server: Cluster, small_database: Target) -> Iterator[Target]:
    """The small database without its notes."""
    name = sql.Identifier("without_notes")
    with server.target().connect() as admin:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(copy.format(name, sql.Identifier(small_database.name)))
    target = server.target("without_notes")
    with target.connect() as session:
        session.execute("DROP TABLE notes")
    yield target
    with server.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _forged(genuine: bytes, old: bytes, new: bytes) -> Reader:
    """The artifact with `old` replaced by `new` in the definitions that come before the rows."""
    text = forge.content_of(genuine, 0)
    assert old in text
    artifact = forge.with_member(genuine, 0, text.replace(old, new, 1))
    return Reader("small.sql.gz", lambda: io.BytesIO(artifact))


def _restore(live: Target, reader: Reader, database: str) -> Staged:
    with staged(live, reader, TableSelection(("notes",), None), Permission(database)) as work:
        work.apply()
        return work


def _dumped(cluster: Cluster, live: Target, *tables: str) -> bytes:
    tool = cluster.binaries.tool("pg_dump")
    command = [tool, "--restrict-key=key", *(f"--table={one}" for one in tables)]
    return subprocess.run(command, env=live.environment(), capture_output=True, check=True).stdout


_CREATE = b"CREATE TABLE public.notes ("


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_CREATE, b"CREATE TABLE IF NOT EXISTS public.notes ("),
        (_CREATE, b"CREATE TABLE public.notes (other bigint REFERENCES public.papers ON DELETE CASCADE,"),
        (_CREATE, b"CREATE TABLE public.notes (other bigint references public.papers,"),
        (_CREATE, b"ALTER TABLE public.notes ADD COLUMN x int, INHERIT public.papers;\n" + _CREATE),
        (_CREATE, b"ALTER TABLE public.notes ADD CONSTRAINT c CHECK (true) /* ( */, INHERIT public.papers;\n" + _CREATE),
        (_CREATE, b"ALTER TABLE public.notes INHERIT public.papers;\n" + _CREATE),
        (_CREATE, b"ALTER TABLE public.notes RENAME TO other;\n" + _CREATE),
        (_CREATE, b"CREATE SEQUENCE public.papers_id_seq START 1;\nALTER SEQUENCE public.papers_id_seq OWNED BY public.notes.id;\n" + _CREATE),
    ],
)  # fmt: skip
def test_a_statement_that_could_change_other_tables_stops_the_restore(
    server: Cluster, genuine: bytes, small_database: Target, live: Target, old: bytes, new: bytes
) -> None:
    before = _dumped(server, live)
    with pytest.raises(
        RefnetError, match=r"may change more than its table|contains no definition|exists already"
    ):
        _restore(live, _forged(genuine, old, new), small_database.name)
    assert _dumped(server, live) == before


#: Statements that pg_dump may write, of objects that do not belong to the table, and others.
_OTHERS = [
    b"DROP TABLE public.papers;\n",
    b"ALTER TABLE public.papers DISABLE TRIGGER ALL;\n",
    b"ALTER SEQUENCE public.papers_id_seq OWNED BY public.notes.id;\n",
    b"COMMENT ON INDEX public.papers_pkey IS 'forged';\n",
    b"COMMENT ON TABLE public.papers IS 'forged';\n",
    b"GRANT ALL ON TABLE public.notes, public.papers TO PUBLIC;\n",
    b"ALTER INDEX public.papers_pkey RENAME TO other;\n",
    b"CREATE TABLE public.papers (id int);\n",
    b"SET SESSION AUTHORIZATION nobody;\n",
    b"SELECT pg_catalog.lo_unlink(1);\n",
    b"DO $$BEGIN DROP TABLE public.papers; END$$;\n",
]


def test_statements_of_other_objects_are_not_run(
    server: Cluster, genuine: bytes, small_database: Target, live: Target
) -> None:
    before = _dumped(server, live, "papers")
    _restore(live, _forged(genuine, _CREATE, b"".join(_OTHERS) + _CREATE), small_database.name)
    assert _dumped(server, live, "papers") == before
    assert b"note 20" in _dumped(server, live, "notes")


@pytest.mark.parametrize(
    ("tail", "touches"),
    [
        (b"\nINHERITS (public.papers)", ("public.notes inherits from public.papers",)),
        (b"\nINHERITS(public.papers)", ()),
        (b"\ninherits (public.papers)", ()),
    ],
)
def test_an_inheritance_is_in_the_plan_or_stops_the_restore(
    genuine: bytes, small_database: Target, live: Target, tail: bytes, touches: tuple[str, ...]
) -> None:
    created = b"CREATE TABLE public.notes (id integer, paper bigint, note text DEFAULT ')\nINHERITS (x)')"
    reader = _forged(genuine, _CREATE, created + tail + b";\nCREATE TABLE public.other (")
    with staged(live, reader, TableSelection(("notes",), None), Permission(small_database.name)) as work:
        (plan,) = work.plans
    assert plan.creation
    assert tuple(one for one in plan.creation.touches if "inherits" in one) == touches
    assert bool(touches) is not any("may change more" in one.message for one in work.problems)


def test_what_touches_another_table_is_in_the_plan_word_for_word(
    genuine: bytes, small_database: Target, live: Target
) -> None:
    key = b"ALTER TABLE ONLY public.papers\n    ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES public.notes(id) ON DELETE CASCADE;\n"
    reader = _forged(genuine, _CREATE, key + _CREATE)
    with staged(live, reader, TableSelection(("notes",), None), Permission(small_database.name)) as work:
        (plan,) = work.plans
    assert plan.creation
    assert plan.creation.touches == (
        "its foreign key notes_paper_fkey refers to public.papers",
        "public.papers gets its foreign key k back: FOREIGN KEY (id) REFERENCES public.notes(id) ON DELETE CASCADE",
    )


def test_the_server_takes_one_statement_of_a_definition(live: Target) -> None:
    with live.connect() as session, pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
        session.execute("CREATE TABLE one (); DROP TABLE papers", binary=True)
