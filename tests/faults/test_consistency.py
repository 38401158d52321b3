"""Backups while others write, truncate, rewrite, create and drop: what is published is one moment, whole."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests import oracle
from tests.command import Command, Result
from tests.faults.conftest import Live

from refnet.sources.database.dump.snapshot import open_snapshot

_ROWS = 1500
_TABLES = f"""
CREATE TABLE left_half (id int PRIMARY KEY, amount bigint, filler text) WITH (fillfactor = 50);
CREATE TABLE right_half (id int PRIMARY KEY, amount bigint, filler text) WITH (fillfactor = 50);
INSERT INTO left_half SELECT i, 1000, repeat('l', 200) FROM generate_series(1, {_ROWS}) i;
INSERT INTO right_half SELECT i, 1000, repeat('r', 200) FROM generate_series(1, {_ROWS}) i;
CREATE TABLE ledger (writer int, number int, amount bigint);
CREATE TABLE truncated (id int);
INSERT INTO truncated SELECT generate_series(1, {_ROWS});
CREATE TABLE rewritten (id int, v text);
INSERT INTO rewritten SELECT i, repeat('w', 400) FROM generate_series(1, {_ROWS}) i;
"""


class Disturbance(threading.Thread):
    """A session that does `step` again and again, every `pause` seconds, until it is stopped."""

    def __init__(
        self, live: Live, step: Callable[[psycopg.Connection[Any], int], None], pause: float = 0
    ) -> None:
        super().__init__()
        self._live, self._step, self._pause, self._over = live, step, pause, threading.Event()
        self.done = 0
        self.failed: Exception | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self._live.target.conninfo) as session:
                while not self._over.wait(self._pause):
                    self._step(session, self.done + 1)
                    session.commit()
                    self.done += 1
        except psycopg.Error as error:
            self.failed = error

    def stop(self) -> None:
        self._over.set()
        self.join()
        assert self.failed is None
        assert self.done


def _transfer(writer: int) -> Callable[[psycopg.Connection[Any], int], None]:
    """Move an amount from one table to the other, and write it down: the sum never changes."""

    def step(session: psycopg.Connection[Any], number: int) -> None:
        amount, one = number % 7 - 3, (number * 7919 + writer) % _ROWS + 1
        session.execute("UPDATE left_half SET amount = amount - %s WHERE id = %s", (amount, one))
        session.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (writer, number, amount))
        session.execute("UPDATE right_half SET amount = amount + %s WHERE id = %s", (amount, one))

    return step


def _truncate(session: psycopg.Connection[Any], _number: int) -> None:
    session.execute("TRUNCATE truncated")
    session.execute(f"INSERT INTO truncated SELECT generate_series(1, {_ROWS})")


def _rewrite(session: psycopg.Connection[Any], number: int) -> None:
    session.execute(f"ALTER TABLE rewritten ALTER id TYPE {'bigint' if number % 2 else 'int'}".encode())


def _create_and_drop(session: psycopg.Connection[Any], number: int) -> None:
    session.execute(f"CREATE TABLE passing_{number} AS SELECT generate_series(1, 10) AS id".encode())
    session.commit()
    session.execute(f"DROP TABLE passing_{number}".encode())


@contextmanager
def _all(*disturbances: Disturbance) -> Iterator[None]:
    with ExitStack() as stack:
        for one in disturbances:
            one.start()
            stack.callback(one.stop)
        yield


def test_what_is_published_under_load_is_one_moment_and_whole(refnet: Command, live: Live) -> None:
    live.run(_TABLES)
    writers = [Disturbance(live, _transfer(number), 0.006) for number in range(2)]
    acknowledged: dict[str, list[int]] = {}

    def back_up() -> Result:
        before = [writer.done for writer in writers]
        made = refnet("backup", "database", "--no-prove", "--json")
        if made.code == 0:
            acknowledged[made.json["results"][0]["path"]] = before
        return made

    with _all(*writers, Disturbance(live, _create_and_drop, 0.05)):
        for _ in range(2):
            back_up().succeeds()
        with _all(Disturbance(live, _truncate, 0.01), Disturbance(live, _rewrite, 0.1)):
            for _ in range(2):
                made = back_up()
                if made.code != 0:  # their lock was queued before pg_dump's, in both tries
                    assert made.code == 1
                    assert "could not be locked" in made.err
    published = {f"database/{Path(path).name}" for path in acknowledged}
    assert set(refnet.files()) == published | {f"{name}.json" for name in published}
    for path, committed in acknowledged.items():
        _check(live, Path(path), committed)


def _check(live: Live, artifact: Path, committed: list[int]) -> None:
    """Restored by stock tools, the artifact keeps every invariant, and lacks nothing that was committed before."""
    with live.cluster.target().connect() as admin:
        admin.execute("CREATE DATABASE restored TEMPLATE template0")
    copy = live.cluster.target("restored")
    plain = gzip.decompress(artifact.read_bytes())
    psql = live.cluster.binaries.tool("psql")
    oracle.run(psql, "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=copy.conninfo, stdin=plain)
    with copy.connect() as session:
        one = session.execute("SELECT count(*), sum(amount) FROM left_half").fetchone()
        other = session.execute("SELECT count(*), sum(amount) FROM right_half").fetchone()
        (moved,) = session.execute("SELECT coalesce(sum(amount), 0) FROM ledger").fetchone() or ()
        start = _ROWS * 1000
        assert (one, other) == ((_ROWS, start - moved), (_ROWS, start + moved))
        for writer, number in enumerate(committed):
            found = session.execute(
                "SELECT count(*), coalesce(max(number), 0) FROM ledger WHERE writer = %s", (writer,)
            ).fetchone()
            assert found
            assert found[0] == found[1] >= number
        assert session.execute("SELECT count(*), count(DISTINCT id) FROM truncated").fetchone() == (
            _ROWS,
            _ROWS,
        )
        assert session.execute("SELECT count(*), count(DISTINCT id) FROM rewritten").fetchone() == (
            _ROWS,
            _ROWS,
        )
        passing = "SELECT relname FROM pg_class WHERE relname ~ '^passing_[0-9]+$' AND relkind = 'r'"
        for (name,) in session.execute(passing).fetchall():
            assert session.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() == (10,)
    with live.cluster.target().connect() as admin:
        admin.execute("DROP DATABASE restored")


@pytest.mark.parametrize("step", [_truncate, _rewrite], ids=["TRUNCATE", "ALTER"])
def test_a_table_that_is_emptied_and_filled_again_is_never_seen_empty(
    refnet: Command, live: Live, step: Callable[[psycopg.Connection[Any], int], None]
) -> None:
    """Many snapshots in a short time, which is where a snapshot before its locks would go wrong."""
    live.run(_TABLES)
    table = "truncated" if step is _truncate else "rewritten"
    with _all(Disturbance(live, step)):
        for _ in range(25):
            with open_snapshot(live.target) as snapshot:
                assert snapshot.rows(f"SELECT count(*) FROM public.{table}") == [(_ROWS,)]
