"""A forged SQLite database is refused within limits: no code of it runs, and nothing beyond what its header says is written."""

from __future__ import annotations

import gzip
import io
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.proof_run import ProofOptions
from refnet.sources.contents import AnswerLimits
from refnet.sources.sqlite.artifact import SqliteArtifact
from refnet.sources.sqlite.box import QueryRows, box

APP = SourceName("app", Kind.SQLITE)


def database(folder: Path, *statements: str) -> bytes:
    """A database of `statements`, with 200 rows."""
    path = folder / "made.db"
    path.unlink(missing_ok=True)
    made = sqlite3.connect(path)
    made.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    made.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 400) for n in range(200)])
    made.execute("CREATE INDEX by_b ON t (b)")
    for one in statements:
        made.execute(one)
    made.commit()
    made.close()
    return path.read_bytes()


def artifact(data: bytes) -> SqliteArtifact:
    return SqliteArtifact(OpenArtifact(APP, "app_20261129_120000.sqlite.gz", lambda: io.BytesIO(data), None))


def proof(data: bytes, base: Path) -> Proof:
    began = time.monotonic()
    found = artifact(data).prove(Level.PROVEN, ProofOptions(base, lambda *_, **__: None, 1))
    assert time.monotonic() - began < 60
    return found


@pytest.fixture
def base(short_folder: Path) -> Path:
    return short_folder / "boxes"


def test_a_sound_artifact_is_restored_but_unverified_without_its_list(tmp_path: Path, base: Path) -> None:
    found = proof(gzip.compress(database(tmp_path)), base)
    assert (found.level, found.outcome) == (Level.RESTORED, Outcome.UNVERIFIED)
    assert not found.missing_walls


def test_bytes_that_are_no_database_are_damage(tmp_path: Path, base: Path) -> None:
    sound = database(tmp_path)
    for data in (
        b"",
        b"not gzip",
        gzip.compress(b""),
        gzip.compress(b"SQLite format 3\0"),
        gzip.compress(b"x" * 5000),
        gzip.compress(sound)[:-9],
        gzip.compress(sound)[:200],
        gzip.compress(sound[:-4096]),
        gzip.compress(sound + b"\0"),
    ):
        found = proof(data, base)
        assert (found.outcome, found.level) == (Outcome.FAILED, None), data[:20]


def test_a_bomb_is_inflated_no_further_than_its_header_says(tmp_path: Path, base: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    head = database(tmp_path)
    data = (
        packer.compress(head)
        + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 7))
        + packer.flush()
    )
    assert len(data) < 1 << 19
    assert "longer than its header" in proof(data, base).reasons[0]


def test_a_header_claiming_more_than_the_disk_holds_stops_before_writing(tmp_path: Path, base: Path) -> None:
    data = bytearray(database(tmp_path))
    data[16:18], data[28:32] = struct.pack(">H", 1), struct.pack(">I", 0xFFFFFFFE)  # 256 TiB
    found = proof(gzip.compress(bytes(data)), base)
    assert (found.outcome, found.level) == (Outcome.UNVERIFIED, None)
    assert "needs 256" in found.reasons[0]


@pytest.mark.parametrize("at", [100, 105, 4096, 4100, 3 * 4096, 5 * 4096 + 7, 9 * 4096])
def test_flipped_bytes_in_pages_are_damage(tmp_path: Path, base: Path, at: int) -> None:
    data = bytearray(database(tmp_path))
    data[at : at + 8] = bytes(one ^ 0xFF for one in data[at : at + 8])
    assert proof(gzip.compress(bytes(data)), base).outcome is Outcome.FAILED


def test_a_tree_whose_pages_lead_to_themselves_ends(tmp_path: Path, base: Path) -> None:
    data = bytearray(database(tmp_path))
    page = 4096  # the root of t: each of its cells leads to the root
    for cell in range(int.from_bytes(data[page + 3 : page + 5], "big")):
        (at,) = struct.unpack(">H", data[page + 12 + 2 * cell : page + 14 + 2 * cell])
        data[page + at : page + at + 4] = struct.pack(">I", 2)
    assert proof(gzip.compress(bytes(data)), base).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "forge",
    [
        "UPDATE sqlite_master SET rootpage = 1 WHERE name = 't'",
        "UPDATE sqlite_master SET rootpage = 999999 WHERE name = 't'",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE t (a, b, c DEFAULT (load_extension(''x'')))' WHERE name = 't'",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE t (' || hex(zeroblob(3000000)) || ')' WHERE name = 't'",
        "UPDATE sqlite_master SET sql = 'nonsense' WHERE name = 't'",
        (
            "UPDATE sqlite_master SET name = CAST(x'74ff' AS TEXT), tbl_name = CAST(x'74ff' AS TEXT),"
            " sql = replace(sql, 'TABLE t', 'TABLE \"' || CAST(x'74ff' AS TEXT) || '\"') WHERE name = 't'"
        ),
        "UPDATE sqlite_master SET type = 'table', sql = 'CREATE VIRTUAL TABLE t USING none' WHERE name = 't'",
    ],
)
def test_a_forged_schema_is_refused_or_read_without_its_code(tmp_path: Path, base: Path, forge: str) -> None:
    data = database(tmp_path, "PRAGMA writable_schema = ON", forge)
    found = proof(gzip.compress(data), base)
    assert found.outcome in {Outcome.FAILED, Outcome.UNVERIFIED}
    assert found.level is not Level.PROVEN


def test_what_is_said_of_a_forged_key_is_short_and_valid_text(tmp_path: Path, base: Path) -> None:
    long = "parent" * 100_000
    data = database(tmp_path, f"CREATE TABLE c (a REFERENCES {long})", "INSERT INTO c VALUES (1)")
    found = proof(gzip.compress(data), base)
    assert max(len(one) for one in found.reasons) < 1000


def test_triggers_views_and_virtual_tables_run_nothing(tmp_path: Path, base: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    data = database(
        tmp_path,
        f"CREATE VIEW v AS {endless}",
        f"CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT ({endless}); END",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES ('word')",
        "CREATE TABLE c (a, b AS (a + 1), d AS (a * 2) STORED)",
        "INSERT INTO c VALUES (1)",
    )
    found = proof(gzip.compress(data), base)
    assert found.level is Level.RESTORED
    assert {one["name"] for one in found.rows} >= {"t", "c", "f_content"}
    assert "f" not in {one["name"] for one in found.rows}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[Callable[..., QueryRows]]:
    """Asks a database, which no query changes."""
    content = artifact(gzip.compress(database(tmp_path_factory.mktemp("asked"))))
    with box(short_folder / "boxes", "app") as own:
        size = content.unpack(own.database)
        before = own.database.read_bytes()

        def ask(query: str, rows: int = 1000, seconds: float = 2.0) -> QueryRows:
            try:
                return own.query(size, query, AnswerLimits(seconds, rows, 1 << 20))
            finally:
                assert own.database.read_bytes() == before
                own.database.with_name("answer").unlink(missing_ok=True)  # a box is for one question

        yield ask


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH '/tmp/other.db' AS other",
        "INSERT INTO t VALUES (1000, 'x')",
        "DELETE FROM t",
        "CREATE TABLE n (a)",
        "CREATE TEMP TABLE n (a)",
        "PRAGMA writable_schema = ON",
        "VACUUM INTO '/tmp/other.db'",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT 1; SELECT 2",
        "SELECT nonsense",
        "",
    ],
)
def test_a_query_that_does_more_than_read_is_refused(asked: Callable[..., QueryRows], query: str) -> None:
    if not query:
        assert asked(query).rows == []
        return
    with pytest.raises(RefnetError):
        asked(query)


def test_a_query_ends_in_time_and_its_answer_is_bounded(asked: Callable[..., QueryRows]) -> None:
    assert asked("SELECT count(*) FROM t").rows == [[200]]
    cut = asked("SELECT a FROM t", rows=10)
    assert (len(cut.rows), cut.cut) == (10, True)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    for query, seconds in ((endless, 0.3), ("SELECT zeroblob(1000000000) || zeroblob(1000000000)", 2.0)):
        with pytest.raises(RefnetError, match=r"interrupted|ended|large|memory|too big"):
            asked(query, seconds=seconds)
