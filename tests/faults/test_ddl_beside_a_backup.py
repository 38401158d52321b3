"""Views and sequences are not locked while they are dumped: what is dropped meanwhile costs another attempt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from tests.command import Command
from tests.faults.conftest import Live

from refnet.catalog.artifact import TransientError
from refnet.sources.database import server_errors


@contextmanager
def _changed(live: Live) -> Iterator[None]:
    """Drop and create views and sequences meanwhile, a pause after each round so that an attempt can succeed."""
    stop = threading.Event()
    live.run("CREATE SCHEMA moving")

    def change() -> None:
        with psycopg.connect(live.target.conninfo, autocommit=True) as session:
            while not stop.is_set():
                for i in range(20):
                    session.execute(
                        f"CREATE VIEW moving.v{i} AS SELECT id FROM papers; CREATE SEQUENCE moving.s{i}"
                    )
                for i in range(20):
                    session.execute(f"DROP VIEW moving.v{i}; DROP SEQUENCE moving.s{i}")
                stop.wait(1.5)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_backup_succeeds_beside_views_and_sequences_that_come_and_go(refnet: Command, live: Live) -> None:
    with _changed(live):
        for _ in range(4):
            refnet("backup", "database", "--no-prove").succeeds()


@pytest.mark.parametrize(
    "said",
    [
        b"pg_dump: error: query failed: ERROR:  could not open relation with OID 16501",
        b"pg_dump: error: query failed: ERROR:  cache lookup failed for view 16501",
        b"pg_dump: error: query failed: ERROR:  schema with OID 16400 does not exist",
        b'pg_dump: error: query to get data of sequence "s" returned 0 rows (expected 1)',
        b"pg_dump: error: failed sanity check, parent table with OID 1 of pg_rewrite entry with OID 2 not found",
        b"pg_dump: error: query failed: ERROR:  tuple concurrently updated",
    ],
)
def test_what_a_dropped_object_makes_the_server_say_is_tried_again(said: bytes) -> None:
    error = server_errors.of_program("pg_dump", said, "pg_dump failed")
    assert isinstance(error, TransientError)
    assert error.transient
    assert "meanwhile" in error.hint
