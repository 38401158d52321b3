"""An artifact loads into an empty database: same rows, same objects; what fails says why in one line."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from tests.conftest import fresh
from xxhash import xxh3_128_hexdigest

from refnet.catalog.manifest import Level
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump import parallel_dump as dumping
from refnet.sources.database.proof.compare import comparing
from refnet.sources.database.proof.own_proof import Prover
from refnet.sources.database.restore.load import Loader, load
from refnet.sources.database.restore.schema_archive import Archive, Step
from refnet.sources.database.workers import Task, Workers, _Board

SCHEMA = """
CREATE TABLE papers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, year int,
                     decade int GENERATED ALWAYS AS (year / 10) STORED);
CREATE TABLE citations (citing bigint REFERENCES papers, cited bigint REFERENCES papers,
                        "odd ""name""
here" text, PRIMARY KEY (citing, cited));
CREATE INDEX ON citations (cited);
CREATE TABLE notes (id int PRIMARY KEY, paper bigint REFERENCES papers, body text);
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
CREATE TRIGGER guard BEFORE INSERT ON papers FOR EACH ROW EXECUTE FUNCTION no();
ALTER TABLE papers DISABLE TRIGGER guard;
INSERT INTO papers (title, year) SELECT repeat(md5(i::text), 10) || i, 1950 + i % 70 FROM generate_series(1, 6000) i;
ALTER TABLE papers ENABLE TRIGGER guard;
INSERT INTO citations SELECT i, 1 + i * 7 % 6000, E'\\\\.\\n\\t' || repeat('x', i % 400) FROM generate_series(1, 6000) i;
INSERT INTO notes SELECT i, i, E'a\\nb\\\\' FROM generate_series(1, 50) i;
SELECT lo_from_bytea(4711, decode(repeat('00ff', 3000), 'hex')), lo_from_bytea(4712, ''),
    lo_from_bytea(4713, decode(repeat(md5('long'), 400000), 'hex')),
    lo_from_bytea(4714, decode(repeat(md5('first'), 8192), 'hex'));
CREATE MATERIALIZED VIEW years AS SELECT year, count(*) FROM papers GROUP BY year;
"""

#: What must be equal: rows, keys, indexes, triggers, sequences, large objects.
QUESTIONS = (
    "SELECT sum(hashtextextended(t::text, 0)::numeric), count(*) FROM papers t",
    "SELECT sum(hashtextextended(t::text, 0)::numeric), count(*) FROM citations t",
    "SELECT sum(hashtextextended(t::text, 0)::numeric), count(*) FROM notes t",
    "SELECT * FROM years ORDER BY year",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2, 3",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "SELECT last_value, is_called FROM papers_id_seq",
    "SELECT oid, lomowner::regrole::text, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid",
)


def answers(target: Target) -> list[list[tuple[Any, ...]]]:
    with target.connect() as session:
        return [session.execute(question).fetchall() for question in QUESTIONS]


def artifact(target: Target, binaries: Binaries) -> Reader:
    out = io.BytesIO()
    dumping.dump(target, out, Workers(binaries, 2))
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(out.getvalue()))


@pytest.fixture(scope="module")
def source(server: Cluster) -> Iterator[Target]:
    with fresh(server) as database:
        with database.connect() as session:
            session.execute(SCHEMA)
        yield database


@pytest.fixture(scope="module")
def whole(source: Target, wheel: Binaries) -> Reader:
    """The artifact of `source`."""
    return artifact(source, wheel)


@pytest.fixture
def empty(server: Cluster) -> Iterator[Callable[[str], Target]]:
    """Makes an empty database of the given settings on `server`."""
    made: list[sql.Identifier] = []

    def make(name: str) -> Target:
        with server.target().connect() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made.append(sql.Identifier(name))
        return server.target(name)

    yield make
    with server.target().connect() as admin:
        for name in made:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_loaded_artifact_equals_its_source(
    source: Target, whole: Reader, empty: Callable[[str], Target], wheel: Binaries, jobs: int
) -> None:
    target = empty(f"copy {jobs}")
    seen: list[tuple[str, int, int | None]] = []
    load(whole, target, Workers(wheel, jobs, lambda *progress: seen.append(progress)))
    assert answers(target) == answers(source)
    assert [done == total for step, done, total in seen if step == "data"][-1]
    assert seen[-1] == ("the rest of the schema", 0, None)


def test_the_index_has_the_digests_of_large_objects(whole: Reader) -> None:
    long, first = (md5(text, usedforsecurity=False).digest() for text in (b"long", b"first"))
    contents = {4711: b"\x00\xff" * 3000, 4712: b"", 4713: long * 400_000, 4714: first * 8192}
    assert {oid: (size, digest) for oid, size, digest in whole.index.large_objects} == {
        oid: (len(content), xxh3_128_hexdigest(content)) for oid, content in contents.items()
    }


def test_settings_of_the_new_database_that_would_stop_a_load_do_not(
    source: Target, whole: Reader, empty: Callable[[str], Target], wheel: Binaries, server: Cluster
) -> None:
    target = empty("hostile")
    with server.target().connect() as admin:
        for setting in (
            "default_transaction_read_only = on",
            "statement_timeout = '1ms'",
            "search_path = nowhere",
            "datestyle = 'SQL, DMY'",
        ):
            admin.execute(f"ALTER DATABASE hostile SET {setting}")
    load(whole, target, Workers(wheel, 2))
    with server.target().connect() as admin:
        admin.execute("ALTER DATABASE hostile RESET ALL")
    assert answers(target) == answers(source)


def test_a_missing_role_is_named_and_what_to_do(
    source: Target, empty: Callable[[str], Target], wheel: Binaries, server: Cluster
) -> None:
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE lost")
        with source.connect() as session:
            session.execute("ALTER TABLE notes OWNER TO lost")
        with_role = artifact(source, wheel)
        with source.connect() as session:
            session.execute("ALTER TABLE notes OWNER TO refnet")
        admin.execute("DROP ROLE lost")
    with pytest.raises(RefnetError) as caught:
        load(with_role, empty("without role"), Workers(wheel, 2))
    assert 'role "lost" does not exist' in caught.value.message
    assert "lost" in caught.value.hint


def test_rows_that_the_server_refuses_end_the_load_with_its_words(
    whole: Reader, empty: Callable[[str], Target], wheel: Binaries
) -> None:
    target = empty("occupied")
    with target.connect() as session:
        session.execute("CREATE TABLE notes (id int)")
    with pytest.raises(RefnetError, match='relation "notes" already exists'):
        load(whole, target, Workers(wheel, 2))


def test_a_member_that_does_not_inflate_is_damage_not_a_server_error(
    whole: Reader, empty: Callable[[str], Target], wheel: Binaries
) -> None:
    member = next(m for m in whole.index.members if m.table is not None and m.rows > 1000)
    with whole.open() as file:
        flipped = bytearray(file.read())
    flipped[member.offset + member.length // 2] ^= 4
    broken = Reader("broken.sql.gz", lambda: io.BytesIO(flipped))
    with pytest.raises(RefnetError) as caught:
        load(broken, empty("broken"), Workers(wheel, 2))
    assert caught.value.code is Exit.DAMAGED


def test_nothing_private_stays_behind(
    whole: Reader, empty: Callable[[str], Target], wheel: Binaries, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    load(whole, empty("tidy"), Workers(wheel, 2))
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_built_alone_has_a_parallel_worker(
    server: Cluster, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.sources.database.dump.row_copy.RANGE", 100_000)
    """The rows wait for psql, which loads what else there is, and may take longer on a busy machine: it is no idle worker."""
    options: dict[str, str] = {}
    restore, done, load_block, psql_ended = (
        Archive.restore,
        _Board._done,
        Loader._load_block,
        threading.Event(),
    )

    def recorded(self: Archive, step: Step, items: Any) -> None:
        options[step.doing] = step.programs._environment["PGOPTIONS"]
        restore(self, step, items)

    def ended(self: _Board, task: Task) -> None:
        done(self, task)
        if getattr(task.run, "__name__", "") == "_load_data":
            psql_ended.set()

    def loaded(self: Loader, *args: Any) -> None:
        assert psql_ended.wait(60)
        load_block(self, *args)

    with fresh(server) as database, fresh(server) as copy:
        with database.connect() as session:
            session.execute("CREATE TABLE papers (id int PRIMARY KEY, title text)")
            session.execute(
                "INSERT INTO papers SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 6000) i"
            )
        whole = artifact(database, wheel)
        monkeypatch.setattr(Archive, "restore", recorded)
        monkeypatch.setattr(_Board, "_done", ended)
        monkeypatch.setattr(Loader, "_load_block", loaded)
        load(whole, copy, Workers(wheel, 2))
    assert "max_parallel_maintenance_workers=0" in options["creating the schema"]
    assert "max_parallel_maintenance_workers=1" in options["building an index of public.papers"]


def test_the_server_of_a_proof_has_the_memory_that_is_free(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def recorded(target: Target, *rest: Any) -> Any:
        with target.connect() as session:
            found.extend(session.execute("SHOW shared_buffers").fetchall())
            found.extend(session.execute("SHOW maintenance_work_mem").fetchall())
        return comparing(target, *rest)

    monkeypatch.setattr("refnet.proof_run.free_memory", lambda: 600 << 20)
    monkeypatch.setattr("refnet.sources.database.proof.compare.comparing", recorded)
    options = ProofOptions(short_folder / "scratch", lambda *_, **__: wheel, jobs=2)
    assert Prover(whole, wheel, options).prove(Level.PROVEN).level is Level.PROVEN
    assert found == [("200MB",), ("50MB",)]
