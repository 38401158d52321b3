"""`./dev bench --catalog`: the time to read the catalog of several years."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import report
from benchmarks.bars import Bar, Measured, Table
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.ways import Result
from refnet.catalog.manifest import Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName

TITLE = "Catalog"
FEW, MANY = 2_000, 10_000
SOURCES, EACH = 50, 200
_SIZE = 1024

LIST = f"refnet list, {FEW:,} artifacts"
PRUNE = f"refnet prune --plan, {FEW:,} artifacts"
MONITOR = f"refnet monitor, {FEW:,} artifacts"
LIST_ALL, PRUNE_ALL, MONITOR_ALL = (
    f"refnet {command}, {SOURCES} sources of {EACH} artifacts"
    for command in ("list", "prune --plan", "monitor")
)
METRICS = f"GET /metrics, {MANY:,} artifacts, after the first read"

_PROGRAM = str(Path(sys.executable).with_name("refnet"))


@dataclass(frozen=True)
class Bench:
    """A home with a catalog of `count` artifacts of each source, one per hour, the newest an hour old."""

    home: Path
    count: int
    newest: datetime
    sources: tuple[SourceName, ...] = (SourceName.DATABASE,)

    @property
    def environment(self) -> dict[str, str]:
        return inherited() | {
            "REFNET_HOME": str(self.home),
            "REFNET_BACKUP_DIR": str(self.home / "backups"),
            "REFNET_VAULT_DIR": str(self.home / "vault"),
        }

    def fill(self) -> None:
        sections = []
        for source in self.sources:
            (self.home / "backups" / source).mkdir(parents=True)
            for number in range(self.count):
                self.add(self.newest - timedelta(hours=number), source)
            if source.kind is Kind.FOLDER:
                (self.home / "live" / source).mkdir(parents=True)
                sections.append(f'[folders.{source}]\npath = "{self.home / "live" / source}"\n')
        (self.home / "refnet.toml").write_text("\n".join(sections))
        (self.home / "refnet.toml").chmod(0o600)

    def add(self, created: datetime, source: SourceName = SourceName.DATABASE) -> str:
        """Add an artifact of null bytes, with evidence that it is proven; return its name."""
        name = _name(source, created)
        path = self.home / "backups" / source / name
        manifest = Manifest(source, name, created, _SIZE, "0" * 64, 1.0, details={})
        path.write_bytes(bytes(_SIZE))
        evidence = Evidence(created, Level.PROVEN, Outcome.PASSED, 1.0).to_json()
        path.with_name(f"{name}.evidence.jsonl").write_text(evidence)
        path.with_name(f"{name}.json").write_text(manifest.to_json())
        return name


def _command(*arguments: str) -> Callable[[Bench], Result]:
    """Return the way that runs a command; `monitor` may end with 1 or 2."""
    command = ["sh", "-c", '"$@" || [ $? -le 2 ]', "sh", _PROGRAM, *arguments]

    def way(bench: Bench) -> Result:
        run = pipeline([command], bench.environment, bench.home)
        for source in bench.sources:
            if (name := _name(source, bench.newest)) not in run.stdout:
                raise FailedError(f"it does not name {name}")
        return Result(run)

    return way


def _name(source: SourceName, created: datetime) -> str:
    """Return the name of an artifact of `source`: `database` or a named folder."""
    moment = f"{created:%Y%m%d_%H%M%S}"
    return f"{source}_{moment}.tar.gz" if source.kind is Kind.FOLDER else f"refnet_{moment}.sql.gz"


def _metrics(bench: Bench) -> Result:
    with _serving(bench) as url:
        _get(url)
        bench.add(bench.newest + timedelta(minutes=1))
        begin = time.perf_counter()
        text = _get(url)
        seconds = time.perf_counter() - begin
    if f'state="proven"}} {bench.count + 1}.0' not in text:
        raise FailedError("the new artifact is not in the metrics")
    return Result(Run(seconds, 0.0, None, text))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # our own server
        return str(answer.read().decode())


@contextmanager
def _serving(bench: Bench) -> Iterator[str]:
    """Run `refnet metrics --serve` on a free port; yield its URL."""
    command = [_PROGRAM, "metrics", "--serve", "127.0.0.1:0"]
    with subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline().split() if process.stdout else []
            if len(said) < 2:
                raise FailedError("the metrics are not served")
            yield said[1]
        finally:
            process.terminate()


#: Each with the number of artifacts of each source in its catalog.
WAYS: dict[str, tuple[int, Callable[[Bench], Result]]] = {
    LIST: (FEW, _command("list")),
    PRUNE: (FEW, _command("prune", "--plan")),
    MONITOR: (FEW, _command("monitor")),
    LIST_ALL: (EACH, _command("list")),
    PRUNE_ALL: (EACH, _command("prune", "--plan")),
    MONITOR_ALL: (EACH, _command("monitor")),
    METRICS: (MANY, _metrics),
}


def bars() -> tuple[Bar, ...]:
    """Return the promises for a large catalog."""

    def at_most(way: str, seconds: float) -> Bar:
        return Bar(way, (way,), lambda table: table[way].seconds, ceiling=seconds, unit="s")

    return (*(at_most(way, 1) for way in WAYS if way != METRICS), at_most(METRICS, 0.3))


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    table: dict[str, Measured] = {way: Measured() for way in WAYS}
    for number in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
            for way, result in _round(Path(name)):
                table[way] = result if isinstance(result, Measured) else _with(table[way], result)
                print(f"bench: {way}: {number + 1} of {options.runs}", file=sys.stderr, flush=True)
    text = "\n\n".join([f"## {TITLE}", "\n".join(_facts(options, begun, load)), *_tables(table)])
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in bars()))


def _round(folder: Path) -> Iterator[tuple[str, Result | Measured]]:
    """Run every way once, on new catalogs."""
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    benches = {count: Bench(folder / str(count), count, newest) for count in (FEW, MANY)}
    names = tuple(SourceName(f"notes-{number:02}", Kind.FOLDER) for number in range(SOURCES))
    benches[EACH] = Bench(folder / "sources", EACH, newest, names)
    for bench in benches.values():
        bench.fill()
    for way, (count, function) in WAYS.items():
        try:
            yield way, function(benches[count])
        except FailedError as error:
            yield way, Measured(why_not=str(error))


def _with(known: Measured, result: Result) -> Measured:
    return Measured((*known.timed, result), why_not=known.why_not)


def _facts(options: argparse.Namespace, begun: datetime, load: float) -> Iterator[str]:
    yield (
        f"- {begun:%Y-%m-%d}; {os.cpu_count()} cores ({report.processor()}), {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}; warm cache"
    )
    yield f"- wall time: the median of {options.runs} runs, each on a new catalog; one artifact per hour, each proven"
    after = os.getloadavg()[0]
    busy = " **Other processes were running: the figures are unreliable.**" if load > 0.5 else ""
    yield f"- load average {load:.2f} before, {after:.2f} after.{busy}"


def _tables(table: Table) -> Iterator[str]:
    yield report.bars_table(table, bars())
    yield report.markdown(("way", "time"), [(way, report.row(one)[0]) for way, one in table.items()])
