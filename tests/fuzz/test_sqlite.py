"""SQLite: a list of tables, a compressed file and the pages of a database, each damaged anywhere, are read or refused."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import Kind, SourceName
from refnet.sources.sqlite import child
from refnet.sources.sqlite.artifact import SqliteArtifact
from refnet.sources.sqlite.box import SqliteContents

SCHEMA = """
PRAGMA page_size = 512;
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c REFERENCES t, d AS (a + 1));
CREATE TABLE w (k PRIMARY KEY, v BLOB) WITHOUT ROWID;
CREATE INDEX i ON t (lower(b)) WHERE c IS NOT NULL;
CREATE VIEW v AS SELECT * FROM t JOIN w ON a = k;
CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM w; END;
"""
LISTED = {"format": 1, "tables": [{"name": "t", "rows": 3, "sha256": "0" * 64}], "schema": "1" * 64}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda one: st.lists(one, max_size=3)
)
edits = st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=12)), max_size=6)


def made() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCHEMA)
        rows = [(n, f"text {n}", n - 1 or None) for n in range(1, 60)]
        database.executemany("INSERT INTO t (a, b, c) VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO w VALUES (1, zeroblob(2000)), (2, 'x')")
        database.commit()
        return database.serialize()


DATABASE = made()


def damaged(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for where, piece in changes:
        at = where % (len(data) + 1)
        data = data[:at] + piece + data[at + len(piece) :]
    return data


CONNECT = sqlite3.connect


@fuzzed
@given(st.sampled_from([*LISTED, "name", "rows", "sha256", "more"]), values)
def test_a_list_of_tables_is_read_or_refused(key: str, value: Any) -> None:
    table = LISTED["tables"][0] | ({key: value} if key not in LISTED else {})  # type: ignore[index]
    listed = {**LISTED, "tables": [table]} | ({key: value} if key in LISTED else {})
    found = outcome(lambda: SqliteContents.from_json(json.dumps(listed)), ValueError, longest=1 << 21)
    if found:
        assert not list(found.differences(SqliteContents.from_json(found.to_json())))


@fuzzed
@given(edits, st.integers(0, 200))
def test_a_damaged_artifact_is_inflated_or_refused(changes: list[tuple[int, bytes]], cut: int) -> None:
    data = damaged(gzip.compress(DATABASE), changes)
    data = data[: len(data) - cut]
    stored = OpenArtifact(SourceName("app", Kind.SQLITE), "app_1.sqlite.gz", lambda: io.BytesIO(data), None)
    outcome(lambda: sum(map(len, SqliteArtifact(stored).blocks())))


@fuzzed
@given(edits)
def test_damaged_pages_are_read_or_refused(folder: Path, changes: list[tuple[int, bytes]]) -> None:
    path = folder / "database"
    path.write_bytes(damaged(DATABASE, changes))
    job = {"path": str(path), "inode": 0, "seconds": 1.0}

    opened = list[sqlite3.Connection]()

    def connect(*given: Any, **options: Any) -> sqlite3.Connection:
        opened.append(CONNECT(*given, **options))
        return opened[-1]

    def check() -> dict[str, Any]:
        try:
            with patch("sqlite3.connect", connect):
                return child.check(job)
        except (sqlite3.Error, OSError, MemoryError, ValueError) as error:
            return {"error": str(error)}
        finally:
            for one in opened:  # the end of the child would close them
                one.close()

    found = outcome(check)
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    if not changes:
        assert [one["rows"] for one in found["tables"]] == [59, 2]
