"""`./dev bench --offsite`: a backup with an encrypted copy on an object server, against restic and pgBackRest."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from filecmp import cmp
from pathlib import Path

from psycopg import sql

from benchmarks import bars, build, manifests, offsite_days, report
from benchmarks.bars import Bar, Measured, Table
from benchmarks.measure import FailedError, Run, pipeline
from benchmarks.objects import ObjectServer, object_server
from benchmarks.rivals import PgBackRest, Restic, archive
from benchmarks.shapes import LONG, SHORT, build_shape
from benchmarks.throwaway import throwaway
from benchmarks.turns import say, take_turns
from benchmarks.ways import COPY, SMALL_TABLE, SOURCE, Result
from benchmarks.ways import Bench as PlainBench
from refnet.catalog.remote import PIECE_BYTES, lengths
from refnet.postgres import binaries
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys, read_keys
from refnet.store.local import LocalStore

TITLE = "Off-site"
#: Of the common shape: 500 MB on disk.
_SCALE = 0.39
_STORE, _MANY = "cloud", "many"
#: Copies in the store _MANY.
_COPIES = 2_500
_PAGE = 1_000
#: Homes: one without a store, one that copies each of its backups, and one that copies the backups of the first.
_LOCAL, _OFFSITE, _COPYING = "home", "offsite", "copying"
_MEMORY_BYTES = 200_000_000
LOCAL = "refnet backup database"
OFFSITE = "refnet backup database, with its copy"
UNPROVEN = "refnet backup database --no-prove, with its copy"
COPIED = "refnet copy"
RESTIC = "pg_dump | restic backup --stdin"
PGBACKREST = "pgbackrest backup --type=full (s3, cipher)"
FETCH = f"refnet fetch database --store {_STORE}"
RESTIC_DUMP = "restic dump latest > FILE"
TABLE = f"refnet restore database --store {_STORE} --table {SMALL_TABLE}"
LIST = f"refnet list --store {_MANY}"


@dataclass(frozen=True, kw_only=True)
class Bench(PlainBench):
    """The server with the database, an object server, and the rivals."""

    server: ObjectServer
    restic: Restic
    #: None: it is not installed.
    pgbackrest: PgBackRest | None
    #: Of the round: each has a repository of its own in restic.
    number: int = 0
    #: Of restic, in the days that `offsite_days` reports.
    days: list[Result] = field(default_factory=list)

    def in_home(self, home: str) -> Bench:
        """Return a bench whose `refnet` has the settings of a home, and its own backup folder but for _COPYING."""
        backups = self.backups if home in {_LOCAL, _COPYING} else self.folder / home / "backups"
        return replace(self, variables={"REFNET_BACKUP_DIR": str(backups)})

    def prepare(self) -> None:
        """Write the recovery key, and the keys and settings of the homes that copy to the object server."""
        key = PrivateKey.new()
        private_file(self.key, f"{key.revealed()}\n")
        credential = self.folder / "s3.toml"
        private_file(credential, self.server.credential())
        for home, stores in (
            (_OFFSITE, {_STORE: _OFFSITE}),
            (_COPYING, {_STORE: _COPYING, _MANY: _MANY}),
            (offsite_days.NAME, {_STORE: offsite_days.NAME}),
        ):
            tables = [self.server.settings(name, prefix, credential) for name, prefix in stores.items()]
            recipients = f'[encryption]\nrecipients = ["{key.recipient.text}"]\n'
            private_file(self.folder / home / "refnet.toml", "\n".join([*tables, recipients]))
            MachineKeys(self.folder / home / "keys").make_missing()

    def pipe(self, *commands: list[str], environment: dict[str, str], into: Path | None = None) -> Run:
        """Settle the servers, then run a pipeline."""
        build.settle(self.cluster)
        os.sync()
        return pipeline(commands, environment, self.folder, into=into, sample=self.sample)

    @property
    def key(self) -> Path:
        """The file with the recovery key."""
        return self.folder / "recovery.key"


def private_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, and its folder."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def _counted(way: Callable[[Bench], Result]) -> Callable[[Bench], Result]:
    """Return `way`, with the number of requests that the object server answered meanwhile."""

    def counting(bench: Bench) -> Result:
        before = bench.server.requests()
        result = way(bench)
        return replace(result, requests=bench.server.requests() - before)

    return counting


def _refnet(bench: Bench, home: str, *arguments: str, database: str = SOURCE) -> Run:
    os.sync()
    return bench.in_home(home).refnet(*arguments, database=database, home=home)


def _backup(home: str, *options: str) -> Callable[[Bench], Result]:
    def way(bench: Bench) -> Result:
        backups = bench.in_home(home).variables["REFNET_BACKUP_DIR"]
        folder = Path(backups) / "database"
        shutil.rmtree(folder, ignore_errors=True)
        run = _refnet(bench, home, "backup", "database", *options)
        return Result(run, max(folder.glob("refnet_*.sql.gz")).stat().st_size)

    return way


def _copy(bench: Bench) -> Result:
    run = _refnet(bench, _COPYING, "copy", "--to", _STORE)
    size = bench.artifact.stat().st_size
    return Result(run, size, pieces=len(lengths(size)))


def _pieces_of(artifact: Path, table: str) -> int:
    """Return how many pieces contain the index and the schema of an artifact, or rows of a table."""
    index = (reader := Reader(artifact.name, lambda: artifact.open("rb"))).index
    number = next(number for number, one in enumerate(index.tables) if one.name == table)
    parts = [(one.offset, one.length) for one in index.members if one.table in {None, number}]
    parts.append((reader.index_offset, artifact.stat().st_size - reader.index_offset))
    return len(
        {n for at, size in parts for n in range(at // PIECE_BYTES, (at + size - 1) // PIECE_BYTES + 1)}
    )


def _restic(bench: Bench) -> Result:
    bench.restic.create(bench.number)
    environment = bench.restic.environment(bench.number) | bench.cluster.target(SOURCE).environment()
    dump = [bench.tool("pg_dump")]
    return Result(bench.pipe(dump, bench.restic.backup(), environment=environment))


def _restic_dump(bench: Bench) -> Result:
    environment = bench.restic.environment(bench.number)
    into = bench.folder / "dumped.sql"
    return Result(bench.pipe(bench.restic.dump(), environment=environment, into=into), into.stat().st_size)


def _pgbackrest(bench: Bench) -> Result:
    if bench.pgbackrest is None:
        raise FailedError("not installed")
    bench.pgbackrest.archives(True)
    try:
        command = bench.pgbackrest.command("backup", "--type=full")
        return Result(bench.pipe(command, environment=dict(os.environ), into=Path(os.devnull)))
    finally:
        bench.pgbackrest.archives(False)


def _fetch(bench: Bench) -> Result:
    """Fetch the newest copy into an empty backup folder."""
    folder = bench.folder / f"fetched-{bench.number}"  # a backup folder that is made again is refused
    os.sync()
    fetching = replace(bench, variables={"REFNET_BACKUP_DIR": str(folder)})
    run = fetching.refnet(
        "fetch", "database", "--store", _STORE, "--identity-file", str(bench.key), home=_COPYING
    )
    if not cmp(folder / "database" / bench.artifact.name, bench.artifact, shallow=False):
        raise FailedError("what was fetched is not the artifact")
    return Result(run, pieces=len(lengths(bench.artifact.stat().st_size)))


def _table(bench: Bench) -> Result:
    """Restore one table of a copy of the database after its rows were deleted."""
    with bench.cluster.target(COPY).connect() as connection:
        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(SMALL_TABLE)))
    arguments = ("restore", "database", "--store", _STORE, "--identity-file", str(bench.key))
    options = ("--from-database", SOURCE, "--table", SMALL_TABLE, "--mode", "missing", "--force")
    run = _refnet(bench, _COPYING, *arguments, *options, database=COPY)
    if bench.sample:
        bench.same_content()
    return Result(run, pieces=_pieces_of(bench.artifact, SMALL_TABLE))


def _list(bench: Bench) -> Result:
    """List many copies; the sampled run fetches their manifests."""
    if bench.sample:
        key = read_keys(bench.key).keys[0].recipient.text
        newest = max(LocalStore(bench.backups).entries(), key=lambda one: one.created)
        own = manifests.encrypter(bench.folder / _COPYING / "keys", key)
        manifests.fill(bench.server.bucket(_MANY), _MANY, own, newest.manifest, _COPIES)
    run = _refnet(bench, _COPYING, "list", "--store", _MANY)
    if run.stdout.count(".sql.gz") < _COPIES:
        raise FailedError("not every copy is listed")
    return Result(run, pieces=-(-_COPIES // _PAGE))


#: In the order of a round: what is copied or read is made before.
WAYS: dict[str, Callable[[Bench], Result]] = {
    LOCAL: _backup(_LOCAL),
    COPIED: _counted(_copy),
    OFFSITE: _counted(_backup(_OFFSITE)),
    UNPROVEN: _counted(_backup(_OFFSITE, "--no-prove")),
    RESTIC: _restic,
    PGBACKREST: _pgbackrest,
    FETCH: _counted(_fetch),
    RESTIC_DUMP: _counted(_restic_dump),
    TABLE: _counted(_table),
    LIST: _counted(_list),
    **offsite_days.WAYS,
}


def _requests(way: str, *, but: str = "") -> Callable[[Table], float]:
    """Return the most requests that `way` needed besides one for each of its pieces; `but`: a kind that is not counted."""

    def value(table: Table) -> float:
        counted = [(one.requests or Counter(), one.pieces) for one in table[way].runs]
        return max(requests.total() - requests[but] - pieces for requests, pieces in counted)

    return value


def _peak(table: Table) -> float:
    return max(table[way].peak for way in (COPIED, OFFSITE, FETCH)) / 1e6


def promises() -> tuple[Bar, ...]:
    """Return the promises for copies off the machine."""
    return (
        bars.at_most(OFFSITE, LOCAL, 1.7),
        bars.at_most(OFFSITE, RESTIC, 0.8),
        bars.at_most(UNPROVEN, RESTIC, 0.8),
        Bar(
            f"{UNPROVEN}, CPU of the client against {RESTIC}",
            (UNPROVEN, RESTIC),
            lambda table: table[UNPROVEN].cpu / table[RESTIC].cpu,
            ceiling=0.6,
        ),
        bars.at_most(OFFSITE, PGBACKREST, 0.8),
        bars.at_most(UNPROVEN, PGBACKREST, 0.8),
        bars.at_most(FETCH, RESTIC_DUMP, 0.5),
        Bar(
            "peak memory of RefNet's processes together",
            (COPIED, OFFSITE, FETCH),
            _peak,
            ceiling=_MEMORY_BYTES / 1e6,
            unit="MB",
        ),
        Bar(
            "requests of a copy besides its pieces, without reading it back",
            (COPIED,),
            _requests(COPIED, but="GET"),
            ceiling=3,
            unit="requests",
        ),
        Bar(
            "requests of the restore of a small table besides its pieces",
            (TABLE,),
            _requests(TABLE),
            ceiling=2,
            unit="requests",
        ),
        Bar(
            f"pages of {LIST}, besides one for each {_PAGE:,} of its {_COPIES:,} copies",
            (LIST,),
            _requests(LIST, but="GET"),
            ceiling=0,
            unit="requests",
        ),
        *offsite_days.promises(),
    )


@contextmanager
def _prepared(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Bench, build.Built]]:
    programs = binaries.find(options.postgres, None, server=True)
    with ExitStack() as stack:
        server = stack.enter_context(object_server(folder / "objects"))
        settings = {**build.settings(), "archive_mode": "on"}
        cluster = stack.enter_context(throwaway(programs, base=folder / "server", settings=settings))
        archive(cluster)
        say("building the database")
        built = build_shape(cluster, SOURCE, LONG, scale=options.scale * _SCALE, seed=options.seed)
        with cluster.target().connect() as admin:
            admin.execute(f"CREATE DATABASE {COPY} TEMPLATE {SOURCE}".encode())
        build_shape(cluster, offsite_days.NAME, SHORT, scale=options.scale * _SCALE, seed=options.seed)
        rival = PgBackRest(folder / "pgbackrest", cluster) if shutil.which("pgbackrest") else None
        if rival:
            rival.create(server)
        bench = Bench(
            cluster,
            folder,
            build.content(cluster.target(SOURCE)),
            server=server,
            restic=Restic(folder / "restic", server),
            pgbackrest=rival,
        )
        bench.prepare()
        yield bench, built


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        Path(name).chmod(0o711)
        with _prepared(options, Path(name)) as (bench, built):
            table = take_turns(
                WAYS,
                options.runs,
                lambda n: replace(bench, sample=n == 0, number=n),
                lambda way, n: bool(n) and way in offsite_days.WAYS,
            )
            version = bench.cluster.binaries.version
    setting = report.Setting(TITLE, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    text = _section(setting, table)
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in promises()))


def _section(setting: report.Setting, table: Table) -> str:
    facts = [
        *report.facts(setting),
        "- the object server: SeaweedFS with TLS, on the same cores; no other process had a request there",
        "- the client's CPU is without that of PostgreSQL's servers; restic gets a new repository each time",
        "- pgBackRest copies all of the cluster, with zstd and bundles; neither it nor restic proves or reads back a backup",
    ]
    rows = [(way, *_row(measured)) for way, measured in table.items()]
    head = ("way", "time", "CPU of the client", "size", "peak memory", "requests")
    parts = [
        f"## {TITLE}",
        "\n".join(facts),
        report.bars_table(table, promises()),
        report.markdown(head, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _row(measured: Measured) -> tuple[str, str, str, str, str]:
    """Time, CPU, size, peak memory and requests, as text."""
    seconds, _, size, peak, _ = report.row(measured)
    if measured.why_not:
        return seconds, "", "", "", ""
    kinds: Counter[str] = measured.runs[-1].requests or Counter()
    requests = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return seconds, f"{measured.cpu:.2f} s", size, peak, requests
