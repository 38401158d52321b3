"""`./dev bench --cluster`: base backups, increments and the restore of a whole server, against pgBackRest."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from benchmarks import build, report
from benchmarks.bars import Bar, Table
from benchmarks.build import JOBS
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.rivals import PgBackRest
from benchmarks.shapes import LONG, build_shape
from benchmarks.throwaway import throwaway
from benchmarks.turns import say, take_turns
from benchmarks.ways import SOURCE, Result
from refnet.postgres import binaries
from refnet.postgres.cluster import Cluster

TITLE = "Cluster"
#: Increments between a full and the restore.
INCREMENTS = 3
#: The share of the rows of a table that changes before each.
_CHANGED = 0.01
#: The largest table, its rows, and a column that can be set.
_LARGEST = """
    SELECT relname, reltuples::bigint, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND attidentity = ''
       AND attgenerated = '' AND NOT attisdropped
     ORDER BY pg_table_size(pg_class.oid) DESC, attnum LIMIT 1
"""
FULL = "refnet backup main-cluster --full --no-prove"
INCREMENT = "refnet backup main-cluster --no-prove, after 1 % changed"
RESTORE = f"refnet restore main-cluster --latest, full and {INCREMENTS} increments, replayed and started"
THEIR_FULL = "pgbackrest --type=full backup (zst:3, block, bundle, 2 processes)"
THEIR_INCREMENT = "pgbackrest --type=incr backup, after 1 % changed"
THEIR_RESTORE = f"pgbackrest restore, full and {INCREMENTS} increments, replayed and started"


@dataclass
class Bench:
    """A server with a database, the settings of `refnet`, and pgBackRest's repository."""

    cluster: Cluster
    folder: Path
    rival: PgBackRest
    sample: bool = False
    #: How often rows were changed.
    changes: list[int] = field(default_factory=lambda: [0])

    def refnet(self, *arguments: str) -> Run:
        command = str(Path(sys.executable).with_name("refnet"))
        variables = {
            "REFNET_HOME": str(self.folder / "home"),
            "REFNET_BACKUP_DIR": str(self.folder / "backups"),
            "REFNET_JOBS": str(JOBS),
        }
        build.settle(self.cluster)
        return pipeline([[command, *arguments]], inherited() | variables, self.folder, sample=self.sample)

    def pgbackrest(self, *arguments: str) -> Run:
        if shutil.which("pgbackrest") is None:
            raise FailedError("not installed")
        build.settle(self.cluster)
        return pipeline([self.rival.command(*arguments)], inherited(), self.folder, sample=self.sample)

    def change(self) -> None:
        """Change some of the rows: those of a range, as a night does."""
        self.changes[0] += 1
        with self.cluster.target(SOURCE).connect() as connection:
            table, most, column = connection.execute(_LARGEST).fetchone() or ("", 0, "")
            count = int(most * _CHANGED)
            first = count * self.changes[0]
            statement = (
                f'UPDATE "{table}" SET "{column}" = "{column}" WHERE id BETWEEN {first} AND {first + count}'
            )
            connection.execute(statement.encode())

    def start(self, data: Path) -> Run:
        """Start the server of a restored folder, until it has replayed all WAL, and stop it."""
        account = self.cluster.account
        become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        tool = str(self.cluster.binaries.tool("pg_ctl"))
        socket = f"-c listen_addresses= -c unix_socket_directories={data} -c archive_mode=off"
        own = [*(become if account.other else ()), tool, "-D", str(data), "-w", "-t", "600", "-s"]
        started = pipeline([[*own, "-l", str(data / "log"), "-o", socket, "start"]], inherited(), self.folder)
        subprocess.run([*own, "-m", "immediate", "stop"], check=True, cwd=self.folder)
        shutil.rmtree(data)
        return started


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


def _increment(bench: Bench) -> Result:
    bench.change()
    return _ours(bench)


def _more_increments(bench: Bench) -> None:
    for _ in range(INCREMENTS - 1):
        bench.change()
        _ours(bench)
        _theirs(bench, "incr")


def _restore(bench: Bench) -> Result:
    """The last of the increments are made before, and are not measured."""
    _more_increments(bench)
    data = _new_folder(bench)
    run = bench.refnet("restore", "main-cluster", "--latest", "--into", str(data))
    return _added(run, bench.start(data))


def _their_restore(bench: Bench) -> Result:
    data = _new_folder(bench)
    run = bench.pgbackrest(f"--pg1-path={data}", "restore")
    return _added(run, bench.start(data))


def _new_folder(bench: Bench) -> Path:
    data = bench.folder / "restored" / "data"
    data.mkdir(mode=0o700)
    bench.cluster.account.own(data)
    return data


def _added(one: Run, other: Run) -> Result:
    return Result(replace(one, seconds=one.seconds + other.seconds, cpu=one.cpu + other.cpu))


#: In the order of a round: both back up the same changes, and the last restore is of what the round has made.
WAYS: Mapping[str, Callable[[Bench], Result]] = {
    FULL: lambda bench: _ours(bench, "--full"),
    THEIR_FULL: lambda bench: _theirs(bench, "full"),
    INCREMENT: _increment,
    THEIR_INCREMENT: lambda bench: _theirs(bench, "incr"),
    RESTORE: _restore,
    THEIR_RESTORE: _their_restore,
}


def bars() -> tuple[Bar, ...]:
    """Return the promises for whole servers."""

    def seconds(one: str, other: str, ceiling: float) -> Bar:
        return Bar(
            f"{one}, against {other}",
            (one, other),
            lambda table: table[one].seconds / table[other].seconds,
            ceiling=ceiling,
        )

    def bytes_(table: Table) -> float:
        return table[INCREMENT].size / table[THEIR_INCREMENT].size

    return (
        seconds(FULL, THEIR_FULL, 0.6),
        seconds(INCREMENT, THEIR_INCREMENT, 0.4),
        Bar(f"bytes of {INCREMENT}", (INCREMENT, THEIR_INCREMENT), bytes_, ceiling=0.3),
        seconds(RESTORE, THEIR_RESTORE, 1.25),
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    programs = binaries.find(options.postgres, None, server=True)
    settings = {**build.settings(), "archive_mode": "on", "summarize_wal": "on"}
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with throwaway(programs, base=folder / "server", settings=settings) as cluster:
            say("building the database")
            built = build_shape(cluster, SOURCE, LONG, scale=options.scale, seed=options.seed)
            bench = Bench(cluster, folder, PgBackRest(folder / "pgbackrest", cluster))
            _prepare(bench)
            table = take_turns(WAYS, options.runs, lambda n: replace(bench, sample=n == 0))
            version = cluster.binaries.version
    setting = report.Setting(TITLE, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    text = report.section(setting, table, bars())
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in bars()))


def _prepare(bench: Bench) -> None:
    """Write the settings, and create pgBackRest's repository, to which the server archives its WAL."""
    for name in ("home", "restored", "repository"):
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
