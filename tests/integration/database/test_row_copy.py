"""Long rows are copied by a session: the same bytes as by psql, and the same errors."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump import parallel_dump, row_copy
from refnet.sources.database.dump.psql_copy import LOCK_NOT_AVAILABLE, Access, PsqlCopy, PsqlError
from refnet.sources.database.dump.row_copy import RowCopy
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.proof.row_digests import digested
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.workers import Stopped, Workers

_TABLE = """
CREATE TABLE blobs (id int, content bytea);
ALTER TABLE blobs ALTER content SET STORAGE EXTERNAL;
INSERT INTO blobs SELECT n, decode(repeat(md5(n::text), n * 1000), 'hex') FROM generate_series(1, 40) n;
INSERT INTO blobs VALUES (41, NULL), (42, ''), (43, E'\\\\x5c0a');
"""
_ALL = b"COPY (SELECT * FROM ONLY public.blobs) TO STDOUT"


@pytest.fixture
def blobs(make_database: Callable[..., Target]) -> Target:
    return make_database(_TABLE, often=True)


@pytest.fixture
def rows(blobs: Target, wheel: Binaries) -> Iterator[RowCopy]:
    with RowCopy(Access(wheel, blobs, READER_SETTINGS, "UTF8")) as opened:
        yield opened


def test_a_session_gives_the_bytes_of_psql(rows: RowCopy) -> None:
    by_psql, by_session = (b"".join(rows.copy(_ALL, long=long)) for long in (False, True))
    assert by_session == by_psql
    assert by_psql.count(b"\n") == 43


def test_a_table_that_cannot_be_locked_is_reported_like_psql_does(rows: RowCopy, blobs: Target) -> None:
    with blobs.connect(autocommit=False) as other:
        other.execute("LOCK TABLE blobs")
        with pytest.raises(PsqlError, match="could not obtain lock") as raised:
            list(
                rows.copy(
                    _ALL, lock=b"LOCK TABLE ONLY public.blobs IN ACCESS SHARE MODE NOWAIT;\n", long=True
                )
            )
    assert raised.value.sqlstate == LOCK_NOT_AVAILABLE


def test_a_session_only_reads(rows: RowCopy) -> None:
    with pytest.raises(PsqlError, match="read-only"):
        list(rows.copy(_ALL, lock=b"DELETE FROM public.blobs", long=True))


def test_a_copy_is_ended_from_another_thread(rows: RowCopy) -> None:
    threading.Timer(0.5, rows.kill).start()
    begun = time.monotonic()
    with pytest.raises(PsqlError, match="cancel"):
        list(rows.copy(b"COPY (SELECT pg_catalog.pg_sleep(60)) TO STDOUT", long=True))
    assert time.monotonic() - begun < 30
    with pytest.raises(Stopped):
        list(rows.copy(_ALL))


def test_a_dump_and_a_comparison_copy_ranges_of_one_page_of_long_rows_without_psql(
    blobs: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_copy, "RANGE", 1 << 20)
    monkeypatch.setattr(live_catalog, "SHARE", 1 << 20)

    def refused(psql: PsqlCopy, statement: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        raise AssertionError(statement)

    monkeypatch.setattr(PsqlCopy, "copy", refused)
    out = io.BytesIO()
    index = parallel_dump.dump(blobs, out, Workers(wheel, 2))
    assert 15 in [block.rows for block in index.blocks_of(0)]  # up to the first cut in the page
    reader = Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(out.getvalue()))
    findings = compare(blobs, digested(reader, "", 2), Workers(wheel, 2))
    assert [(one.what, one.outcome.value) for one in findings] == [("table public.blobs", "passed")]
