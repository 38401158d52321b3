"""`./dev bench --cluster`: base backups, increments and the restore of a whole server, against pgBackRest.

Each tool has the server that its documents ask for. RefNet's receiver runs all the time. `archive_mode` is on for
pgBackRest, and off while RefNet's backups are timed: pg_basebackup would wait for pgBackRest's archive_command, in steps of a
second. Segments of WAL have 16 MiB, as everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from benchmarks import build, report
from benchmarks.bars import Bar, Measured, Table, at_most
from benchmarks.build import JOBS
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.rivals import PgBackRest, archive
from benchmarks.shapes import LONG, build_shape
from benchmarks.throwaway import throwaway
from benchmarks.turns import say, take_turns
from benchmarks.ways import COPY, SMALL_TABLE, SOURCE, Result
from refnet.core.processes import until
from refnet.postgres import binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import SETTINGS
from refnet.sources.cluster.wal_archive import WalArchive

TITLE = "Cluster"
#: Increments between a full and the restore, and changes whose WAL is replayed after them.
INCREMENTS, REPLAYED = 3, 4
#: The share of the rows of a table that changes before each.
_CHANGED = 0.01
#: The largest table, its rows, and a column that can be set.
_LARGEST = """
    SELECT relname, reltuples::bigint, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND attidentity = ''
       AND attgenerated = '' AND NOT attisdropped
     ORDER BY pg_table_size(pg_class.oid) DESC, attnum LIMIT 1
"""
_SECONDS = 300.0
#: The promise about one table is for a database of so many bytes, and not for less.
_LARGE, _TABLE_SECONDS = 1.3e9, 15
FULL = "refnet backup main-cluster --full --no-prove"
INCREMENT = "refnet backup main-cluster --no-prove, after 1 % changed"
RESTORE = f"refnet restore main-cluster --latest, full and {INCREMENTS} increments, replayed and started"
AT = f"refnet at TIME --table {SMALL_TABLE}"
LOGICAL = "refnet restore database --to URL, from its dump"
THEIR_FULL = "pgbackrest --type=full backup (zst:3, block, bundle, 2 processes)"
THEIR_INCREMENT = "pgbackrest --type=incr backup, after 1 % changed"
THEIR_RESTORE = f"pgbackrest restore, full and {INCREMENTS} increments, replayed and started"


@dataclass
class _Shared:
    """What changes from way to way."""

    #: How often rows were changed.
    changes: int = 0
    #: The server archives its WAL by pgBackRest.
    archives: bool = True
    #: Before the last change.
    moment: str = ""


@dataclass
class Bench:
    """A server with a database, the settings of `refnet`, and pgBackRest's repository."""

    cluster: Cluster
    folder: Path
    rival: PgBackRest
    #: An empty server, into which a dump is restored.
    other: Cluster
    settings: Mapping[str, str]
    sample: bool = False
    shared: _Shared = field(default_factory=_Shared)

    def environment(self, home: str = "home") -> dict[str, str]:
        backups = self.folder / "backups" if home == "home" else self.folder / home / "backups"
        return inherited() | {
            "REFNET_HOME": str(self.folder / home),
            "REFNET_BACKUP_DIR": str(backups),
            "REFNET_JOBS": str(JOBS),
        }

    def refnet(self, *arguments: str, **variables: str) -> Run:
        """Run `refnet`; `variables` are for a home without a cluster."""
        self.settle()
        environment = self.environment("logical" if variables else "home") | variables
        return pipeline([[_program(), *arguments]], environment, self.folder, sample=self.sample)

    def pgbackrest(self, *arguments: str) -> Run:
        if shutil.which("pgbackrest") is None:
            raise FailedError("not installed")
        self.settle()
        return pipeline([self.rival.command(*arguments)], inherited(), self.folder, sample=self.sample)

    def settle(self) -> None:
        """Return when all that was written is on the disk, and all WAL is with the tools that archive it."""
        build.settle(self.cluster)
        with self.cluster.target().connect() as admin:
            (end,) = admin.execute("SELECT pg_current_wal_flush_lsn() - '0/0'").fetchone() or (0,)
        if not until(lambda: self._received(int(end)) and not self._unarchived(), _SECONDS):
            raise FailedError("the WAL does not arrive")
        os.sync()  # what the way before has left would wait for the disk beside this one

    def _received(self, end: int) -> bool:
        for folder in (self.folder / "backups" / "cluster").glob("*"):
            archive = WalArchive(folder)
            if not archive.exists():  # the receiver has only just begun
                return False
            found, there = archive.report(), archive.present(live=False)
            finished = {name for name, path in archive.in_live().items() if path.name == name}
            return bool(found and found.received_lsn >= end and finished <= there)
        return False

    def _unarchived(self) -> bool:
        status = self.cluster.data / "pg_wal" / "archive_status"
        return self.shared.archives and any(status.glob("*.ready"))

    def archives(self, *, wanted: bool) -> None:
        """Let the server archive its WAL by pgBackRest, or not; it is started again for that."""
        if self.shared.archives != wanted:
            self.settle()
            self.cluster.stop()
            self.cluster.start({**SETTINGS, **self.settings, "archive_mode": "on" if wanted else "off"})
            self.shared.archives = wanted

    def change(self) -> None:
        """Change some of the rows: those of a range, as a night does; index entries of them are all over the indexes."""
        self.shared.changes += 1
        with self.cluster.target(SOURCE).connect() as connection:
            table, most, column = connection.execute(_LARGEST).fetchone() or ("", 0, "")
            count = int(most * _CHANGED)
            first = count * self.shared.changes % most
            statement = (
                f'UPDATE "{table}" SET "{column}" = "{column}" WHERE id BETWEEN {first} AND {first + count}'
            )
            connection.execute(statement.encode())

    def start(self, data: Path) -> Run:
        """Start the server of a restored folder, until it has replayed all WAL and is promoted, and stop it.

        pg_ctl returns as soon as the server is consistent. With hot_standby off it accepts sessions only when it is promoted.
        """
        account = self.cluster.account
        become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        tool = str(self.cluster.binaries.tool("pg_ctl"))
        options = (
            f"-c listen_addresses= -c unix_socket_directories={data} -c archive_mode=off -c hot_standby=off"
        )
        own = [*(become if account.other else ()), tool, "-D", str(data), "-w", "-t", "600", "-s"]
        start = shlex.join([*own, "-l", str(data / "log"), "-o", options, "start"])
        ready = shlex.join([str(self.cluster.binaries.tool("pg_isready")), "-q", "-h", str(data)])
        script = f"{start} && until {ready}; do sleep 0.01; done"
        started = pipeline([["timeout", "600", "/bin/sh", "-c", script]], inherited(), self.folder)
        subprocess.run([*own, "-m", "immediate", "stop"], check=True, cwd=self.folder)
        shutil.rmtree(data)
        return started


def _program() -> str:
    return str(Path(sys.executable).with_name("refnet"))


def _size_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def _grown(folder: Path, act: Callable[[], Run]) -> Result:
    """Run it; the size is what `folder` grew by, without WAL."""
    before = _size_of(folder) if folder.exists() else 0
    run = act()
    return Result(run, _size_of(folder) - before)


def _ours(bench: Bench, *arguments: str) -> Result:
    made = bench.folder / "backups" / "main-cluster"
    return _grown(made, lambda: bench.refnet("backup", "main-cluster", "--no-prove", *arguments))


def _theirs(bench: Bench, kind: str) -> Result:
    repository = bench.folder / "repository" / "backup"
    return _grown(repository, lambda: bench.pgbackrest(f"--type={kind}", "backup"))


def _full(bench: Bench) -> Result:
    bench.archives(wanted=False)
    return _ours(bench, "--full")


def _increment(bench: Bench) -> Result:
    """Back up the change of the other tool's increment too, which is the only one since both fulls."""
    bench.archives(wanted=False)
    return _ours(bench)


def _their_full(bench: Bench) -> Result:
    bench.archives(wanted=True)
    return _theirs(bench, "full")


def _their_increment(bench: Bench) -> Result:
    bench.change()
    return _theirs(bench, "incr")


def _prepare_restores(bench: Bench) -> None:
    """Let both make a full and increments of the same changes; further changes are only in the WAL."""
    bench = replace(bench, sample=False)
    bench.archives(wanted=True)
    has_rival = shutil.which("pgbackrest") is not None
    _ours(bench, "--full")
    if has_rival:
        _theirs(bench, "full")
    for _ in range(INCREMENTS):
        bench.change()
        _ours(bench)
        if has_rival:
            _theirs(bench, "incr")
    for left in reversed(range(REPLAYED)):
        with bench.cluster.target().connect() as admin:
            (moment,) = admin.execute("SELECT clock_timestamp()").fetchone() or ("",)
            bench.shared.moment = moment.isoformat()
        bench.change()
        build.settle(bench.cluster)
        say(f"{left} more changes")
    with bench.cluster.target().connect() as admin:
        admin.execute("SELECT pg_switch_wal()")
    bench.settle()


def _restore(bench: Bench) -> Result:
    _prepare_restores(bench)
    data = _new_folder(bench)
    run = bench.refnet("restore", "main-cluster", "--latest", "--into", str(data), "--json")
    seconds = json.loads(run.stdout)["seconds"]
    return _added(run, bench.start(data), seconds["replay"])


def _their_restore(bench: Bench) -> Result:
    data = _new_folder(bench)
    run = bench.pgbackrest(f"--pg1-path={data}", "restore")
    return _added(run, bench.start(data), 0)


def _new_folder(bench: Bench) -> Path:
    data = bench.folder / "restored" / "data"
    data.mkdir(mode=0o700)
    bench.cluster.account.own(data)
    return data


def _added(restored: Run, started: Run, replayed: float) -> Result:
    """Both together; the phase is the replay, before and while the server starts, in seconds."""
    run = replace(restored, seconds=restored.seconds + started.seconds, cpu=restored.cpu + started.cpu)
    return Result(run, phase=replayed + started.seconds)


def _at(bench: Bench) -> Result:
    file = bench.folder / "table.sql"
    wanted = ("--source", f"main-{SOURCE}", "--table", SMALL_TABLE, "--into", str(file))
    run = bench.refnet("at", bench.shared.moment, *wanted)
    file.unlink()
    return Result(run)


def _logical(bench: Bench) -> Result:
    """Restore the database from a dump of it; the dump is not measured."""
    own = {"REFNET_DATABASE_URL": build.url(bench.cluster.target(SOURCE))}
    replace(bench, sample=False).refnet("backup", "database", "--no-prove", **own)
    target = build.url(bench.other.target(COPY))
    run = bench.refnet("restore", "database", "--to", target, "--force", **own)
    build.drop_all_but(bench.other)
    return Result(run)


#: In the order of a round: both increments have the same change; the restores are of what the round has made.
WAYS: Mapping[str, Callable[[Bench], Result]] = {
    FULL: _full,
    THEIR_FULL: _their_full,
    THEIR_INCREMENT: _their_increment,
    INCREMENT: _increment,
    RESTORE: _restore,
    THEIR_RESTORE: _their_restore,
    AT: _at,
    LOGICAL: _logical,
}


def bars(disk: float) -> tuple[Bar, ...]:
    """Return the promises for whole servers. `disk`: bytes of the database."""

    def files(one: Measured) -> float:
        return one.seconds - one.phase

    def ratio(what: str, value: Callable[[Measured], float], ceiling: float) -> Bar:
        return Bar(
            f"{what} of both",
            (RESTORE, THEIR_RESTORE),
            lambda table: value(table[RESTORE]) / value(table[THEIR_RESTORE]),
            ceiling=ceiling,
        )

    def bytes_(table: Table) -> float:
        return table[INCREMENT].size / table[THEIR_INCREMENT].size

    large = (AT,) if disk >= _LARGE else ("a database of 1.4 GB, --scale 1",)
    return (
        at_most(FULL, THEIR_FULL, 0.6),
        at_most(INCREMENT, THEIR_INCREMENT, 0.4),
        Bar(f"bytes of {INCREMENT}", (INCREMENT, THEIR_INCREMENT), bytes_, ceiling=0.3),
        at_most(RESTORE, THEIR_RESTORE, 1.25),
        ratio("the files alone", files, 1.25),
        ratio("start, replay and promotion alone", lambda one: one.phase, 0.5),
        at_most(RESTORE, LOGICAL, 0.5),
        Bar(AT, large, lambda table: table[AT].seconds, ceiling=_TABLE_SECONDS, unit="s"),
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    programs = binaries.find(options.postgres, None, server=True)
    settings = {**build.settings(), "archive_mode": "on", "summarize_wal": "on"}
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (
            throwaway(programs, base=folder / "server", settings=settings, kept=True) as cluster,
            throwaway(programs, base=folder / "other", settings=build.settings(), kept=True) as other,
        ):
            say("building the database")
            built = build_shape(cluster, SOURCE, LONG, scale=options.scale, seed=options.seed)
            bench = Bench(cluster, folder, PgBackRest(folder / "pgbackrest", cluster), other, settings)
            _prepare(bench)
            with _receiving(bench):
                table = take_turns(WAYS, options.runs, lambda n: replace(bench, sample=n == 0))
            version = cluster.binaries.version
            cluster.stop()  # `throwaway` knows only the process of the first start
    setting = report.Setting(TITLE, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    promises = bars(built.disk)
    text = report.section(setting, table, promises)
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in promises))


def _prepare(bench: Bench) -> None:
    """Write the settings, and create pgBackRest's repository, to which the server archives its WAL."""
    for name in ("home", "restored", "repository", "logical"):
        (bench.folder / name).mkdir()
    (bench.folder / "home").chmod(0o755)
    (bench.folder / "restored").chmod(0o711)
    url = build.url(bench.cluster.target())
    settings = bench.folder / "home" / "refnet.toml"
    settings.write_text(f'[clusters.main]\nurl = "{url}"\nwal = true\n')
    settings.chmod(0o600)
    repository = bench.folder / "repository"
    bench.cluster.account.own(repository)
    if shutil.which("pgbackrest"):
        bench.rival.configure({"repo1-path": repository, "repo1-block": "y", "compress-level": 3})
        bench.rival.archives(wanted=True)
    else:
        archive(bench.cluster)


@contextmanager
def _receiving(bench: Bench) -> Iterator[None]:
    """Run the receiver of WAL."""
    with (bench.folder / "receiver.log").open("wb") as log:
        child = subprocess.Popen([_program(), "wal", "run"], env=bench.environment(), stdout=log, stderr=log)
    try:
        yield
    finally:
        child.terminate()
        child.wait(60)
