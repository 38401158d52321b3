"""A server whose WAL is received: segments of 1 MiB, durable commits, killed and started again at will."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from benchmarks.throwaway import identify
from tests.command import Command, Run
from tests.memory import in_memory

from refnet.catalog.wal_stream import StreamReport
from refnet.core.processes import until
from refnet.postgres.account import account, environment
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.cluster.wal_archive import WalArchive

SECONDS = 60.0
SLOT = "refnet_main"


@dataclass
class WalServer:
    """A server in `data`, which listens on a socket beside it."""

    binaries: Binaries
    data: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        account().own(self.data.parent, 0o755)
        self.copy(_initialized(self.binaries.folder), self.data)
        identify(self.data)

    @staticmethod
    def copy(data: Path, other: Path) -> None:
        """Copy a whole data folder, with its owner."""
        subprocess.run(["/bin/cp", "-a", data, other], check=True)

    def touch(self, name: str) -> None:
        """Make an empty file in the data folder."""
        (self.data / name).touch()
        account().own(self.data / name)

    @contextmanager
    def set_back(self) -> Iterator[None]:
        """At its end the server, stopped, is what it was at its begin; it runs in the block."""
        old = self.data.with_name("old")
        self.stop()
        self.copy(self.data, old)
        self.start()
        yield
        self.stop()
        shutil.rmtree(self.data)
        old.rename(self.data)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        user = account()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # a killed one's; nothing else starts here
        given = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.data.parent),
            "fsync": "off",
            "max_wal_size": "32MB",
            "min_wal_size": "2MB",
            "shared_buffers": "16MB",
            "wal_keep_size": "0",
            "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing in /dev/shm
            **self.settings,
        }
        words = [f"--{name}={value}" for name, value in given.items()]
        with (self.data.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries.folder / "postgres", "-D", self.data, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **{"env": environment(), "cwd": "/", "start_new_session": True, **user.become},
            )
        assert until(self._answers, SECONDS), (self.data.parent / "log").read_text()

    def _answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: fast, or as if the power failed (SIGKILL for all of its processes)."""
        if self.process and self.process.poll() is None:
            if number is signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
            self.process.wait(SECONDS)
        self.process = None

    def conninfo(self, user: str = "refnet") -> str:
        return f"host={self.data.parent} user={user} dbname=postgres"

    @property
    def target(self) -> Target:
        return Target(self.conninfo("replica"))

    @property
    def url(self) -> str:
        return f"postgresql://replica@/postgres?host={self.data.parent}"

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, one transaction each; the rows of the last one."""
        with psycopg.connect(self.conninfo(), autocommit=True) as session:
            for one in statements:
                found = session.execute(one.encode())
            return found.fetchall() if found.description else []

    def write(self, segments: int = 1) -> None:
        """Write WAL of so many segments, and finish the last one."""
        for _ in range(segments):
            self.sql(
                "INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 500) g",
                "SELECT pg_switch_wal()",
            )
        self.sql("INSERT INTO t VALUES (0, 'after the switch')")


@cache
def _initialized(programs: Path) -> Path:
    """What initdb makes, once in a process: it takes ten times as long as a copy."""
    user, folder = account(), Path(tempfile.mkdtemp(prefix="rn-wal-", dir=in_memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    user.own(folder)
    options = ("--no-sync", "-A", "trust", "-U", "refnet", "--wal-segsize=1", "--locale=C", "--encoding=UTF8")
    command = [programs / "initdb", *options, "-D", folder / "data"]
    subprocess.run(command, check=True, capture_output=True, env=environment(), cwd="/", **user.become)
    return folder / "data"


@contextmanager
def wal_server(binaries: Binaries, folder: Path) -> Iterator[WalServer]:
    """A running server with a table and a role that may do nothing but log in and replicate."""
    server = WalServer(binaries, folder / "data")
    server.make()
    server.start()
    try:
        server.sql("CREATE ROLE replica LOGIN REPLICATION", "CREATE TABLE t (id int, v text)")
        yield server
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Receiving:
    """`refnet wal run` on a server, with a home and a backup folder of its own."""

    server: WalServer
    refnet: Command

    @classmethod
    def of(cls, server: WalServer, home: Path, backups: Path) -> Receiving:
        file = home / "refnet.toml"
        file.write_text(f'[clusters.main]\nurl = "{server.url}"\nwal = true\n')
        file.chmod(0o600)
        return cls(
            server, Command(home, backups, "none", {"REFNET_VAULT_DIR": "none", "REFNET_CONFIG_DIR": "none"})
        )

    @contextmanager
    def running(self) -> Iterator[Run]:
        run = self.refnet.start("wal", "run")
        try:
            yield run
        finally:
            if run.process.poll() is None:
                run.send(signal.SIGTERM)  # SIGINT is ignored at the start of a background job
            run.end()

    def status(self) -> dict[str, Any]:
        found = self.refnet("wal", "status", "--json")
        assert found.code == 0, found.err
        return dict(found.json["clusters"][0])

    @property
    def archive(self) -> WalArchive:
        (folder,) = (self.refnet.backups / "cluster").iterdir()
        return WalArchive(folder)

    def report(self) -> StreamReport | None:
        there = self.refnet.backups / "cluster"
        return self.archive.report() if there.exists() and [*there.iterdir()] else None

    def lsn(self) -> int:
        return int(self.server.sql("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")[0][0])

    def catch_up(self, run: Run) -> None:
        """Wait until everything that the server has is here, and reported."""
        end, (name,) = self.lsn(), self.server.sql("SELECT pg_walfile_name(pg_current_wal_flush_lsn())")[0]

        def caught_up() -> bool:
            found = self.report()
            there = found and found.timeline == int(name[:8], 16) and found.received_lsn >= end
            return bool(there and found and not found.message)

        self.until(run, caught_up, "the WAL")

    def says(self, run: Run, *words: str) -> None:
        """Wait until the receiver reports an error with `words`."""

        def said() -> bool:
            found = self.report()
            return bool(found and found.message and all(word in found.message for word in words))

        self.until(run, said, str(words))

    def until(self, run: Run, condition: Callable[[], Any], what: str) -> None:
        """Wait until `condition` holds, at most SECONDS."""
        end = time.monotonic() + SECONDS
        run.until(lambda: condition() or time.monotonic() > end, what)
        assert condition(), f"{what} never came: {self.report()}"

    def child(self, run: Run) -> int:
        """Process id of pg_receivewal."""
        children = Path(f"/proc/{run.process.pid}/task").glob("*/children")
        return next(int(pid) for one in children for pid in one.read_text().split())
