"""`./dev bench --files SHAPE`: a folder; RefNet against tar, pigz and restic, in one run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks import measure, report
from benchmarks.bars import MEMORY, MEMORY_BYTES, Bar, Measured, Table, at_most
from benchmarks.build import JOBS
from benchmarks.folders import FOLDERS, NOTES, TINY, VAULT
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.turns import say, take_turns
from benchmarks.ways import Result

ALL = "all"
#: Before a restore, one of so many notes is lost, and another one is changed.
_SPOILT = 100

TAR = "tar -czf"
PIGZ = "tar | pigz -1"
RESTIC = "restic backup"
RESTIC_AGAIN = "restic backup, nothing changed"
UNTAR = "tar -xzf"
BACKUP = "refnet backup obsidian --no-prove"
AGAIN = "the same again, nothing changed"
PROVEN = "refnet backup obsidian (proven)"
RESTORE = "refnet restore obsidian --force"
ONE = "refnet restore obsidian --only FILE"


@dataclass(frozen=True)
class Bench:
    """A folder with the files, and the unique number of a round.

    Each round writes new files and deletes none: ext4 searches long for an inode after many were freed.
    """

    folder: Path
    number: int = 0
    sample: bool = False
    #: Of `refnet`, in the folder.
    home: str = "home"

    @property
    def vault(self) -> Path:
        return self.folder / "live" / "vault"

    @property
    def backups(self) -> Path:
        return self.folder / f"backups {self.number}"

    @property
    def archive(self) -> Path:
        return self.folder / f"plain {self.number}.tar.gz"

    def run(self, *commands: list[str], into: Path | None = None) -> Run:
        os.sync()
        return pipeline(commands, self._environment(), self.folder, into=into, sample=self.sample)

    def refnet(self, *arguments: str) -> Run:
        return self.run([str(Path(sys.executable).with_name("refnet")), *arguments])

    def restic(self, *arguments: str) -> Run:
        return self.run(["restic", "--quiet", "--no-cache", *arguments])

    def artifact(self) -> Path:
        return max((self.backups / "obsidian").glob("vault_*.tar.gz"))

    def _environment(self) -> dict[str, str]:
        return inherited() | {
            "REFNET_HOME": str(self.folder / self.home),
            "REFNET_BACKUP_DIR": str(self.backups),
            "REFNET_VAULT_DIR": str(self.vault),
            "REFNET_JOBS": str(JOBS),
            "RESTIC_REPOSITORY": str(self.folder / f"restic {self.number}"),
            "RESTIC_PASSWORD": "made up",
        }


def _tar(bench: Bench) -> Result:
    run = bench.run(["tar", "-czf", str(bench.archive), "-C", str(bench.vault), "."])
    return Result(run, bench.archive.stat().st_size)


def _pigz(bench: Bench) -> Result:
    made = bench.archive.with_suffix(".pigz")
    return Result(
        bench.run(["tar", "-cf", "-", "-C", str(bench.vault), "."], ["pigz", "-1"], into=made),
        made.stat().st_size,
    )


def _restic(bench: Bench) -> Result:
    if shutil.which("restic") is None:
        raise FailedError("not installed")
    bench.restic("init")
    return Result(bench.restic("backup", str(bench.vault)))


def _restic_again(bench: Bench) -> Result:
    if shutil.which("restic") is None:
        raise FailedError("not installed")
    return Result(bench.restic("backup", str(bench.vault)))


def _untar(bench: Bench) -> Result:
    target = bench.folder / f"unpacked {bench.number}"
    target.mkdir()
    return Result(bench.run(["tar", "-xzf", str(bench.archive), "-C", str(target)]))


def _backup(bench: Bench) -> Result:
    run = bench.refnet("backup", "obsidian", "--no-prove")
    return Result(run, bench.artifact().stat().st_size)


def _again(bench: Bench) -> Result:
    run = bench.refnet("backup", "obsidian", "--no-prove")
    if "shares its bytes" not in run.stdout:
        raise FailedError("the second backup shared nothing")
    return Result(run)


def _proven(bench: Bench) -> Result:
    run = replace(bench, number=bench.number + 1000).refnet("backup", "obsidian", "--json")
    (result,) = json.loads(run.stdout)["results"]
    if result["proof"]["level"] != "proven":
        raise FailedError("the artifact was not proven")
    return Result(run, phase=result["seconds"]["prove"])


def _restore(bench: Bench) -> Result:
    notes = _files(bench)
    lost = bench.folder / f"lost {bench.number}"
    lost.mkdir()
    for path in notes[::_SPOILT]:
        path.rename(lost / path.name)
    for path in notes[1::_SPOILT]:
        path.write_text("spoilt")
    run = bench.refnet("restore", "obsidian", "--force")
    if _files(bench) != notes:
        raise FailedError("the restore did not bring everything back")
    return Result(run)


def _files(bench: Bench) -> list[Path]:
    return sorted(path for path in bench.vault.rglob("*") if path.is_file())


def _one(bench: Bench) -> Result:
    notes = _files(bench)
    note = notes[len(notes) * 3 // 4]
    content = note.read_bytes()
    note.rename(bench.folder / f"one {bench.number}.md")
    run = bench.refnet("restore", "obsidian", "--only", str(note.relative_to(bench.vault)))
    if note.read_bytes() != content:
        raise FailedError("the note did not come back")
    return Result(run)


WAYS: dict[str, Callable[[Bench], Result]] = {
    TAR: _tar,
    PIGZ: _pigz,
    RESTIC: _restic,
    RESTIC_AGAIN: _restic_again,
    BACKUP: _backup,
    AGAIN: _again,
    PROVEN: _proven,
    UNTAR: _untar,
    RESTORE: _restore,
    ONE: _one,
}


def bars(shape: str) -> tuple[Bar, ...]:
    """Return the promises for a folder of `shape`."""

    def proof(table: Table) -> float:
        return table[PROVEN].phase / table[UNTAR].seconds

    def peak(table: Table) -> float:
        return max(table[way].peak for way in (BACKUP, AGAIN, PROVEN, RESTORE, ONE)) / 1e6

    restic = 0.4 if shape == TINY else 0.35
    return (
        at_most(BACKUP, PIGZ, 1.0),
        at_most(BACKUP, RESTIC, restic),
        *([at_most(AGAIN, RESTIC_AGAIN, restic)] if shape == TINY else []),
        *([_at_most_seconds(AGAIN, 0.6), _at_most_seconds(ONE, 0.6)] if shape in {NOTES, VAULT} else []),
        Bar(f"proof against {UNTAR}", (PROVEN, UNTAR), proof, ceiling=1.5),
        at_most(RESTORE, UNTAR, 2.5),
        Bar("size of the artifact", (BACKUP, TAR), lambda t: t[BACKUP].size / t[TAR].size, ceiling=1.15),
        Bar(MEMORY, (BACKUP, AGAIN, PROVEN, RESTORE, ONE), peak, ceiling=MEMORY_BYTES / 1e6, unit="MB"),
    )


def _at_most_seconds(way: str, ceiling: float) -> Bar:
    return Bar(way, (way,), lambda table: table[way].seconds, ceiling=ceiling, unit="s")


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    shapes = tuple(FOLDERS) if options.files == ALL else (options.files,)
    tables: dict[str, dict[str, Measured]] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
            tables[shape] = _measure(options, shape, Bench(Path(name)))
    if len(shapes) > 1:
        report.worst("folder", options, bars, tables)
    return int(any(bar.judged(tables[shape])[2] != "pass" for shape in shapes for bar in bars(shape)))


def _measure(options: argparse.Namespace, shape: str, bench: Bench) -> dict[str, Measured]:
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    folder, title = FOLDERS[shape], f"Files, {shape}"
    count = int(folder.files * options.scale)
    say(f"writing {count:,} files ({shape})")
    written = folder.make(bench.vault, count, options.seed)
    table = take_turns(WAYS, options.runs, lambda n: replace(bench, number=n, sample=n == 0))
    made = f"{count:,} files of {written / 1e6:,.0f} MB: {folder.about}; before a restore 1 % of the files change, 1 % are lost"
    text = "\n\n".join(
        [f"## {title}", "\n".join(facts(options, begun, load, made)), *sections(table, bars(shape))]
    )
    print(text)
    if options.write:
        report.keep(text, title)
    return table


def facts(options: argparse.Namespace, begun: datetime, load: float, made: str) -> Iterator[str]:
    """Yield the circumstances of a run, one line each; `made`: the folder that is measured."""
    yield (
        f"- {begun:%Y-%m-%d}; {os.cpu_count()} cores ({report.processor()}), {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}; {JOBS} jobs; warm cache"
    )
    yield f"- {made}"
    yield (
        f"- time: the median of {options.runs} timed runs, interleaved; memory: of a further run, as below, sampled"
        f" every {measure.SAMPLE_SECONDS * 1000:.0f} ms"
    )
    after = os.getloadavg()[0]
    busy = " **Other processes were running: the figures are unreliable.**" if load > 0.5 else ""
    yield f"- load average {load:.2f} before, {after:.2f} after.{busy}"


def sections(table: Table, promises: Sequence[Bar]) -> Iterator[str]:
    """Yield the table of promises, and that of ways."""
    yield report.bars_table(table, promises)
    rows = [(way, *report.row(one)) for way, one in table.items()]
    yield report.markdown(("way", "time", "proof alone", "size", *report.MEMORIES), rows)
