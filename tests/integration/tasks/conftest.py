"""A home of its own for each test, a real broker, and real workers and beats as processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from celery import Celery
from tests import forked
from tests.memory import in_memory

from refnet.broker import server
from refnet.catalog.run import Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.postgres.session import Target
from refnet.scheduling import beat
from refnet.store.local import LocalStore
from refnet.store.run_journal import RunJournal

#: What the processes have loaded: a failed task is tried again at once.
_QUICK = "tests.integration.tasks.quick"


def until(condition: Callable[[], Any], seconds: float = 200) -> Any:
    """What `condition` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return found


@dataclass
class Process:
    """A running `refnet`, in a session of its own."""

    popen: forked.Started
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, times: int = 1, seconds: float = 200) -> None:
        try:
            until(lambda: self.said.count(words) >= times or self.popen.poll() is not None, seconds)
        finally:
            assert self.said.count(words) >= times, self.said

    def kill_all(self) -> None:
        """kill -9 for it and its children, as an accident does it."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def end(self) -> int:
        """Ask it to end, as systemd does it; its exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(120)
            except subprocess.TimeoutExpired:
                self.kill_all()
        return self.popen.returncode


@dataclass
class Sent:
    """A task that was sent."""

    client: Celery
    id: str

    @property
    def state(self) -> str:
        return self.client.backend.get_task_meta(self.id)["status"]

    def get(self, seconds: float = 300) -> dict[str, Any]:
        """What the task gave, or the error that it raised, as soon as it has ended."""
        until(lambda: self.state in {"SUCCESS", "FAILURE"}, seconds)
        result = self.client.backend.get_task_meta(self.id)["result"]
        if isinstance(result, Exception):
            raise result
        return result


@dataclass
class Place:
    """A REFNET_HOME, the environment that leads there, and a client of its broker."""

    home: Path
    environment: dict[str, str]
    database: Target

    def refnet(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return forked.text(*arguments, environment=self.environment | more, folder=self.home, seconds=300)

    @contextmanager
    def running(
        self, command: str, ready: str = "", options: tuple[str, ...] = (), **more: str
    ) -> Iterator[Process]:
        log = self.home / f"{command}-{time.monotonic_ns()}.log"
        with log.open("wb") as said, Path(os.devnull).open() as nothing:
            streams = [one.fileno() for one in (nothing, said, said)]
            variables = self.environment | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"} | more
            popen = forked.start([command, *options], variables, self.home, streams, _QUICK)
        process = Process(popen, log)
        try:
            if ready:
                process.wait_for(ready)
            yield process
        finally:
            process.end()
            sys.stdout.write(process.said)  # pytest shows it where the test failed

    @contextmanager
    def worker(
        self, *options: str, gently: bool = False, proves: bool = False, **more: str
    ) -> Iterator[Process]:
        """A worker; `gently`: it may be at work when the test is over, so it is asked to end, which takes a while."""
        more |= {} if proves else {"TESTS_UNPROVEN": "yes"}
        with self.running("worker", "ready.", options, **more) as process:
            yield process
            if not gently and process.popen.poll() is None:
                process.kill_all()

    def send(self, task: str, *sources: object, queue: str = "celery") -> Sent:
        """Send a task as beat does, with its priority. Any program could: the transport is mended by the import."""
        name = f"refnet.tasks.{task}"
        priority = next((number for _, each, number in beat.ENTRIES.values() if each == name), 7)
        url = server.url(self.home)
        client = Celery(broker=url, backend=url, set_as_current=False)
        client.conf.broker_transport_options = {"priority_steps": list(range(10))}
        with client.connection_for_write() as connection:
            sent = client.send_task(name, sources, queue=queue, priority=priority, connection=connection)
        return Sent(client, sent.id)

    def let_pass(self, seconds: float) -> int:
        """Make the messages that workers hold so much older; how many those are."""
        with server.client(server.url(self.home)) as broker:
            held = broker.zrange("unacked_index", 0, -1)
            for tag in held:
                broker.zincrby("unacked_index", -seconds, tag)
        return len(held)

    def artifacts(self, source: SourceName = SourceName.DATABASE) -> list[str]:
        return [e.name for e in LocalStore(self.home / "backups").entries() if e.source == source]

    def last_run(self) -> Run:
        """The last backup of the database that ended, by the journal."""
        journal = RunJournal(self.home / "runs")
        return until(lambda: journal.history().last(RunKind.BACKUP, SourceName.DATABASE))

    @contextmanager
    def table_kept_locked(self) -> Iterator[Callable[[], bool]]:
        """Hold what a backup waits for; gives whether one waits."""
        with (
            self.database.connect() as watcher,
            self.database.connect() as holder,
            holder.transaction(),
        ):
            holder.execute("LOCK TABLE papers IN ACCESS EXCLUSIVE MODE")
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'papers'::regclass"
            yield lambda: watcher.execute(query).fetchone() != (0,)


@pytest.fixture
def place(database: Target) -> Iterator[Place]:
    """A home with a small database to protect; its broker is stopped afterwards."""
    with database.connect() as session:
        session.execute(
            "CREATE TABLE papers AS SELECT g AS id, md5(g::text) AS title FROM generate_series(1, 500) g"
        )
    home = Path(tempfile.mkdtemp(prefix="rt-", dir=in_memory()))
    uri = f"postgresql://?{urlencode(psycopg.conninfo.conninfo_to_dict(database.conninfo))}"
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "PG"))}
    environment |= {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_DATABASE_URL": uri,
        "REFNET_LOG_FOLDER": "none",
        "TMPDIR": str(home),  # a killed worker leaves its temporary folder behind
    }
    yield Place(home, environment, database)
    server.stop(home)
    shutil.rmtree(home)
