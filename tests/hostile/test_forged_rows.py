"""Rows of a forged artifact go into the table that they are said to be of, or nowhere."""

from __future__ import annotations

import gzip
import io
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command import Command, url_of
from tests.hostile import forge

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.contents import AnswerLimits, Query
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.query.sample import sample
from refnet.sources.database.restore.load import load
from refnet.sources.database.rows import staged_rows
from refnet.sources.database.sql_text import Codec
from refnet.sources.database.workers import Workers

_NAME = "refnet_20261125_020000.sql.gz"


def _reader(artifact: bytes) -> Reader:
    return Reader(_NAME, lambda: io.BytesIO(artifact))


def _block(artifact: bytes) -> tuple[int, bytes]:
    """The place of the first block and what it holds."""
    members = forge.index_of(artifact)["members"]
    number = next(place for place, one in enumerate(members) if one["kind"] == "block")
    at, length = members[number]["offset"], members[number]["length"]
    return number, gzip.decompress(artifact[at : at + length])


@pytest.fixture
def empty(server: Cluster) -> Iterator[Target]:
    target = server.target("forged_rows")
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE forged_rows TEMPLATE template0")
    yield target
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE forged_rows WITH (FORCE)")


@pytest.mark.parametrize(
    "statement",
    [
        b"COPY pg_catalog.pg_authid (oid, rolname, rolsuper, rolcanlogin) FROM stdin;\n",
        b"COPY public.notes (id, note) FROM stdin;\n",
        b"COPY public.papers FROM PROGRAM 'id';\n",
        b"SELECT 1; COPY public.papers (id, title) FROM stdin;\n",
        b'COPY "' + b"a" * (4 << 20),
    ],
)
def test_a_block_fills_no_table_but_its_own(
    genuine: bytes, wheel: Binaries, empty: Target, statement: bytes
) -> None:
    number, content = _block(genuine)
    forged = forge.with_member(genuine, number, statement + content.partition(b"\n")[2])
    with pytest.raises(RefnetError) as caught:
        load(_reader(forged), empty, Workers(wheel, 1))
    assert caught.value.code is Exit.DAMAGED


def test_tables_that_are_attached_to_themselves_are_gone_through_once(genuine: bytes) -> None:
    ring = "".join(
        f"ALTER TABLE ONLY public.t{i} ATTACH PARTITION public.t{(i + 1) % 3000} DEFAULT;\n"
        for i in range(3000)
    )
    own = "ALTER TABLE ONLY public.papers ATTACH PARTITION public.papers DEFAULT;\n"
    reader = _reader(forge.with_member(genuine, 0, (ring + own).encode()))
    began = time.monotonic()
    with pytest.raises(RefnetError, match="contains no table"):
        staged_rows.find(reader, Codec(), "nothing")
    assert staged_rows.find(reader, Codec(), "t1").parts == ()
    assert time.monotonic() - began < 30


def test_a_table_with_partitions_of_other_columns_is_not_restored_by_rows(
    small_database: Target, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(small_database))
    refnet("backup", "database", "--no-prove").succeeds()

    def lie(index: dict[str, Any]) -> None:
        for table in index["tables"]:
            table["columns"] = ["id", "title) FROM PROGRAM 'id'; --"]

    forge.forge(refnet.artifact(), lie)
    name = refnet.artifact().name
    ended = refnet("restore", "database", name, "--table", "papers", "--mode", "missing", "--force")
    ended.fails(1, "has other columns than the artifact")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"COPY ", b"COPX ", "contains no COPY of"),
        (b"\t", b" ", "values of 2"),
        (b"\n\\.\n", b"\n", "ends within a row"),
        (b"\n", b"x" * (17 << 20), "contains no COPY of"),
        (b"1\t", b"1\t" + b"x" * (17 << 20), "larger than 16"),
    ],
)
def test_a_sample_of_forged_rows_is_refused(genuine: bytes, old: bytes, new: bytes, words: str) -> None:
    number, text = _block(genuine)
    forged = forge.with_member(
        genuine, number, text.replace(old, new, 1) if old != b"\t" else text.replace(old, new)
    )
    stored = OpenArtifact(SourceName.DATABASE, _NAME, lambda: io.BytesIO(forged), None)
    table = forge.index_of(genuine)["tables"][forge.index_of(genuine)["members"][number]["table"]]
    with pytest.raises(RefnetError, match=words):
        deque(
            sample(stored, Query("", AnswerLimits(rows=10**9, bytes=1 << 40), sample=table["name"])).rows, 0
        )
