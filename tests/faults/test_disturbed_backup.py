"""Whatever comes between a backup and its end: no hang, no half an artifact, and the next run just works."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.command import Command, Run, url_of
from tests.faults.conftest import Live
from tests.row_proxy import RowFault, row_proxy

from refnet.core.errors import RefnetError
from refnet.sources.database.dump import snapshot

pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.fixture
def watcher(live: Live) -> Iterator[psycopg.Connection[Any]]:
    """A session that looks on from another database."""
    with live.cluster.target().connect() as session:
        yield session


def _holds(watcher: psycopg.Connection[Any], live: Live, table: str = "papers") -> Callable[[], bool]:
    """Whether a backup holds its lock on `table`."""
    with live.target.connect() as session:
        (oid,) = session.execute("SELECT %s::regclass::oid", (table,)).fetchone() or (0,)

    def look() -> bool:
        found = watcher.execute(
            "SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE a.application_name = 'refnet' AND l.relation = %s AND l.granted",
            (oid,),
        ).fetchone()
        return found is not None

    return look


def _draft(refnet: Command) -> Callable[[], bool]:
    """Whether a backup has begun to write."""
    folder = refnet.backups / "database"
    return lambda: any(folder.glob(".refnet-*.part"))


def _all_proven(refnet: Command, count: int) -> None:
    listed = refnet("list", "--json").json["artifacts"]
    assert [one["state"] for one in listed] == ["proven"] * count


def test_two_backups_at_once(refnet: Command) -> None:
    first = refnet.start("backup", "database")
    first.until(_draft(refnet))
    first.send(signal.SIGSTOP)
    second = refnet("backup", "database")
    first.send(signal.SIGCONT)
    second.fails(5, "another run", str(first.process.pid))
    assert first.end().code == 0
    _all_proven(refnet, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_backup_and_leaves_nothing(
    refnet: Command, live: Live, watcher: psycopg.Connection[Any], number: signal.Signals
) -> None:
    run = refnet.start("backup", "database")
    run.until(_holds(watcher, live))
    run.send(number)
    ended = run.end()
    if ended.code != 0:  # it may have been faster
        ended.fails(
            1, f"stopped by {'Ctrl-C' if number == signal.SIGINT else number.name}; no artifact was made"
        )
        assert refnet.files() == []
    assert list(refnet.home.rglob("scratch-*")) == []


def test_a_backup_stopped_during_its_proof_says_what_there_is(refnet: Command) -> None:
    run = refnet.start("backup", "database")
    run.until(refnet.names)
    run.send(signal.SIGINT)
    ended = run.end()
    (name,) = refnet.names()
    ended.fails(1, f"database: stopped by Ctrl-C; {name} exists, unproven")
    assert f"`refnet verify {name}` does the rest." in ended.err
    line = json.loads((refnet.home / "runs" / "journal.jsonl").read_text().splitlines()[-1])
    assert (line["ended"], line["artifact"], line["by"]) == ("stopped", name, "command line")
    checks = refnet("monitor", "database", "--json").json["checks"]
    (last,) = [one for one in checks if one["check"] == "last run"]
    assert last["status"] == "ok"
    assert "exists, unproven" in last["says"]
    refnet("verify", name).succeeds()


def test_the_run_after_a_kill_at_any_moment_just_works(refnet: Command, live: Live) -> None:
    chance = random.Random(20261125)
    published = 0
    for _ in range(4):
        run = refnet.start("backup", "database")
        time.sleep(chance.random() * 1.3)
        run.send(signal.SIGKILL)
        run.end()
        listed = refnet("list", "--json")
        listed.succeeds()
        assert {one["state"] for one in listed.json["artifacts"]} <= {"written", "proven"}
        published = len(listed.json["artifacts"])
    refnet("backup", "database").succeeds()
    assert len(refnet.names()) == published + 1
    for name in refnet.names():
        refnet("verify", name, "--level", "intact").succeeds()
    assert list(refnet.home.rglob("scratch-*")) == []
    _no_session_is_left(live)


def test_a_later_run_removes_the_temporary_files_of_a_killed_run(refnet: Command, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def left() -> list[Path]:
        return [folder for folder in temporary.glob("refnet-private-*") if (folder / "schema.dump").exists()]

    killed = refnet.start("backup", "database", "--no-prove", TMPDIR=str(temporary))
    killed.until(left)
    killed.send(signal.SIGKILL)
    killed.end()
    assert len(left()) == 1
    to = ("--to", str(tmp_path / "to"))
    living = refnet.start("backup", "database", "--no-prove", *to, TMPDIR=str(temporary))
    living.until(lambda: len(left()) == 2)
    living.send(signal.SIGSTOP)
    for folder in left():
        assert folder.stat().st_mode & 0o077 == 0
        os.utime(folder, (0, 0))  # as if it were an old one
    refnet("backup", "database", "--no-prove", TMPDIR=str(temporary)).succeeds()
    assert len(left()) == 1
    living.send(signal.SIGCONT)
    assert living.end().code == 0
    assert list(temporary.iterdir()) == []


def _no_session_is_left(live: Live) -> None:
    with live.cluster.target().connect() as admin:
        end = time.monotonic() + 10
        while admin.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'refnet' AND datname = 'live'"
        ).fetchone():
            assert time.monotonic() < end, "a session of a killed run lives on"
            time.sleep(0.05)


@pytest.mark.parametrize("statement", ["ALTER TABLE papers ADD COLUMN late int", "TRUNCATE papers CASCADE"])
def test_a_statement_that_queues_behind_the_backup_never_hangs_it(
    refnet: Command, live: Live, watcher: psycopg.Connection[Any], statement: str
) -> None:
    run = refnet.start("backup", "database")
    run.until(_holds(watcher, live, "citations"))
    waiting = psycopg.connect(live.target.conninfo)
    thread = threading.Thread(target=_attempt, args=(waiting, statement))
    thread.start()
    ended = run.end()
    pid = waiting.info.backend_pid
    waiting.cancel()
    thread.join()
    waiting.close()
    if ended.code == 0:
        _all_proven(refnet, 1)
    else:
        ended.fails(1, "could not be locked", str(pid))
        assert refnet.files() == []


def _attempt(session: psycopg.Connection[Any], statement: str) -> None:
    try:
        session.execute(statement.encode())
    except psycopg.Error:
        pass
    finally:
        session.rollback()


def test_a_table_that_is_locked_for_good_is_an_error_and_no_hang(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LOCK_SECONDS", 0.2)
    with psycopg.connect(live.target.conninfo) as holder:
        holder.execute("LOCK TABLE summaries IN ACCESS EXCLUSIVE MODE")
        with (
            pytest.raises(RefnetError, match=f"summaries could not be locked.*{holder.info.backend_pid}"),
            snapshot.open_snapshot(live.target),
        ):
            pytest.fail("another session has the table to itself")


def test_a_session_that_the_server_ends_ends_the_backup(
    refnet: Command, live: Live, watcher: psycopg.Connection[Any]
) -> None:
    run = refnet.start("backup", "database", "--no-prove")
    run.until(_holds(watcher, live))
    watcher.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refnet' AND datname = 'live'"
    )
    ended = run.end()
    ended.fails(1)
    assert refnet.files() == []


#: What copies rows → what stands in each row that it copies.
_HALFWAY = {"pg_dump": b"summary ", "psql": b" of a paper"}


@pytest.mark.parametrize("program", _HALFWAY)
def test_a_child_that_is_killed_ends_the_backup(
    refnet: Command, live: Live, short_folder: Path, program: str
) -> None:
    folder = short_folder / f"held-{program}"
    folder.mkdir()
    upstream = Path(live.target.parts["host"]) / f".s.PGSQL.{live.target.parts['port']}"
    with row_proxy(folder, upstream, RowFault.HELD, _HALFWAY[program], 50) as proxy:
        url = url_of(live.target, host=str(folder))
        run = refnet.start("backup", "database", "--no-prove", REFNET_DATABASE_URL=url)
        run.until(lambda: proxy.damaged)  # the child waits for this row
        for pid in _children(run, program):
            os.kill(pid, signal.SIGKILL)
        run.end().fails(1, program)
    assert refnet.files() == []


def _children(run: Run, program: str) -> list[int]:
    pids: list[str] = []
    for thread in Path(f"/proc/{run.process.pid}/task").glob("*"):
        with suppress(OSError):  # the thread has ended
            pids += (thread / "children").read_text().split()
    return [int(pid) for pid in pids if _runs(pid, program)]


def _runs(pid: str, program: str) -> bool:
    """Whether the process runs `program`, and not to ask for its version."""
    with suppress(OSError):  # it has ended
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return Path(line[0]).name == program and "--version" not in line
    return False
