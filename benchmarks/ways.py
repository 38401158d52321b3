"""The ways that are measured: functions from a bench to the result of one run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import build
from benchmarks.build import JOBS
from benchmarks.measure import FailedError, Run, inherited, pipeline
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

SOURCE = "refnet"
COPY = "copy"
SMALL_TABLE = "jobs"


@dataclass(frozen=True)
class Result:
    """One run."""

    run: Run
    #: Bytes of its output.
    size: int | None = None
    #: Seconds of one phase alone, if the way reports it: the proof of a backup, the load of a restore.
    phase: float | None = None
    #: How many requests of each kind an object server answered, if it was asked.
    requests: Counter[str] | None = None
    #: The pieces of a remote copy that it has to send or to read.
    pieces: int = 0
    #: Bytes of what was sent to the object server, if it was asked.
    sent: int | None = None


def together(results: list[Result], stored: dict[str, int]) -> Result:
    """Return several runs as one: their sums, and the greatest memory."""
    runs = [one.run for one in results]
    peak = max((one.peak or 0 for one in runs), default=0)
    run = Run(sum(one.seconds for one in runs), sum(one.cpu for one in runs), peak or None, "")
    requests = sum((one.requests or Counter() for one in results), Counter[str]())
    return Result(run, sum(stored.values()), requests=requests, sent=sum(one.sent or 0 for one in results))


@dataclass(frozen=True)
class Bench:
    """A server with the database SOURCE, and a folder for dumps and artifacts."""

    cluster: Cluster
    folder: Path
    content: str
    sample: bool = False
    notes: list[str] = field(default_factory=list)
    #: Other databases that `fresh` keeps.
    remaining: tuple[str, ...] = ()
    #: Further variables of every `refnet`.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> Path:
        return self.folder / "dump.sql.gz"

    @property
    def directory(self) -> Path:
        return self.folder / "dump.dir"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def artifact(self) -> Path:
        found = sorted((self.backups / "database").glob("refnet_*.sql.gz"))
        if not found:
            raise FailedError("there is no artifact")
        return found[-1]

    def tool(self, name: str) -> str:
        return str(self.cluster.binaries.tool(name))

    def run(self, *commands: list[str], database: str = SOURCE, into: Path | None = None) -> Run:
        """Settle the server, then run a pipeline of PostgreSQL's tools against `database`."""
        target: Target = self.cluster.target(database)
        build.settle(self.cluster)
        return pipeline(commands, target.environment(), self.folder, into=into, sample=self.sample)

    def refnet(self, *arguments: str, database: str = SOURCE, home: str = "home") -> Run:
        """Settle the server, then run `refnet` against `database`."""
        command = str(Path(sys.executable).with_name("refnet"))
        return self.program([command, *arguments], database=database, home=home)

    def program(
        self, command: list[str], *, database: str = SOURCE, home: str = "home", into: Path | None = None
    ) -> Run:
        """Settle the server, then run a program that reads RefNet's settings."""
        environment = inherited() | {
            "REFNET_HOME": str(self.folder / home),
            "REFNET_BACKUP_DIR": str(self.backups if home == "home" else self.folder / home / "backups"),
            "REFNET_DATABASE_URL": build.url(self.cluster.target(database)),
            "REFNET_JOBS": str(JOBS),
            **self.variables,
        }
        build.settle(self.cluster)
        return pipeline([command], environment, self.folder, into=into, sample=self.sample)

    def fresh(self) -> None:
        """Drop what restores left, and make a new empty database COPY."""
        build.drop_all_but(self.cluster, SOURCE, *self.remaining)
        build.fresh(self.cluster, COPY)

    def same_content(self) -> None:
        if build.content(self.cluster.target(COPY)) != self.content:
            raise FailedError("the copy's content differs")


def dump_gzip(bench: Bench) -> Result:
    bench.plain.unlink(missing_ok=True)
    run = bench.run([bench.tool("pg_dump")], ["gzip"], into=bench.plain)
    return Result(run, bench.plain.stat().st_size)


def dump_directory(bench: Bench) -> Result:
    shutil.rmtree(bench.directory, ignore_errors=True)
    run = bench.run([bench.tool("pg_dump"), "-Fd", f"-j{JOBS}", "-Zzstd:1", f"-f{bench.directory}"])
    return Result(run, sum(file.stat().st_size for file in bench.directory.iterdir()))


def backup(*options: str) -> Callable[[Bench], Result]:
    def way(bench: Bench) -> Result:
        shutil.rmtree(bench.backups / "database", ignore_errors=True)
        run = bench.refnet("backup", "database", "--json", *options)
        seconds = json.loads(run.stdout)["results"][0]["seconds"]
        return Result(run, bench.artifact.stat().st_size, phase=seconds.get("prove"))

    return way


def backup_digested(bench: Bench) -> Result:
    """Back up while the server digests every row too."""
    return backup("--no-prove")(
        replace(bench, variables={**bench.variables, "REFNET_PROVE_SOURCE": "digest"})
    )


def count(bench: Bench) -> Result:
    """Count the rows of every table as a backup does, without one beside it."""
    tables = (
        "SELECT format('SELECT count(*) FROM ONLY %s', oid::regclass) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    script = bench.folder / "count.sql"
    script.write_text(f"SET enable_indexonlyscan = off;\n{tables} \\gexec\n")
    command = [bench.tool("psql"), "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f", str(script)]
    return Result(bench.run(command, into=Path(os.devnull)))


def zcat_psql(bench: Bench) -> Result:
    """Restore the artifact with stock tools, and compare the content."""
    bench.fresh()
    psql = [bench.tool("psql"), "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1"]
    run = bench.run(["zcat", str(bench.artifact)], psql, database=COPY, into=Path(os.devnull))
    bench.same_content()
    return Result(run)


def pg_restore(bench: Bench) -> Result:
    bench.fresh()
    return Result(
        bench.run([bench.tool("pg_restore"), f"-j{JOBS}", f"-d{COPY}", str(bench.directory)], database=COPY)
    )


def restore(bench: Bench) -> Result:
    """Restore over an existing, empty database, so that the swap is included."""
    bench.fresh()
    arguments = ("restore", "database", str(bench.artifact), "--from-database", SOURCE)
    run = bench.refnet(*arguments, "--force", "--json", database=COPY)
    if bench.sample:
        bench.same_content()
    return Result(run, phase=json.loads(run.stdout)["seconds"]["load"])


def restore_table(bench: Bench) -> Result:
    """Restore one table of the restored database after its rows were deleted."""
    with bench.cluster.target(COPY).connect() as connection:
        connection.execute(f"DELETE FROM {SMALL_TABLE}")
    arguments = ("restore", "database", str(bench.artifact), "--from-database", SOURCE)
    run = bench.refnet(*arguments, "--table", SMALL_TABLE, "--mode", "missing", "--force", database=COPY)
    if bench.sample:
        bench.same_content()
    return Result(run)


def shows_help(bench: Bench) -> Result:
    return Result(bench.refnet("--help", home="empty"))


def lists_nothing(bench: Bench) -> Result:
    return Result(bench.refnet("list", home="empty"))


def plans(bench: Bench) -> Result:
    return Result(bench.refnet("backup", "--plan", home="empty"))


PLAIN_DUMP = "pg_dump | gzip"
DIRECTORY_ZSTD = f"pg_dump -Fd -j{JOBS} -Z zstd:1"
BACKUP_ONE = "refnet backup --no-prove --jobs 1"
BACKUP = "refnet backup --no-prove"
BACKUP_DIGESTED = "refnet backup --no-prove, prove.source = digest"
COUNT = "count(*) of every table (beside each refnet backup)"
BACKUP_PROVEN = "refnet backup (with its proof)"
DIRECTORY_RESTORE = f"pg_restore -j{JOBS}"
RESTORE = "refnet restore --force"
TABLE_RESTORE = f"refnet restore --table {SMALL_TABLE} --mode missing"
STOCK_RESTORE = "zcat ARTIFACT | psql -v ON_ERROR_STOP=1"
HELP = "refnet --help"
LIST = "refnet list (empty catalog)"
PLAN = "refnet backup --plan (empty catalog)"

#: In the order of a round: dumps before their restores.
WAYS: dict[str, Callable[[Bench], Result]] = {
    PLAIN_DUMP: dump_gzip,
    DIRECTORY_ZSTD: dump_directory,
    BACKUP_ONE: backup("--no-prove", "--jobs", "1"),
    BACKUP: backup("--no-prove"),
    BACKUP_DIGESTED: backup_digested,
    COUNT: count,
    BACKUP_PROVEN: backup(),
    DIRECTORY_RESTORE: pg_restore,
    RESTORE: restore,
    TABLE_RESTORE: restore_table,
    STOCK_RESTORE: zcat_psql,
    HELP: shows_help,
    LIST: lists_nothing,
    PLAN: plans,
}
#: Not installed, or not comparable: physical backups of an entire cluster, from which no table can be read.
OTHERS = ("pgbackrest", "barman", "wal-g", "pg_probackup")
