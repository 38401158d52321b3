"""`./dev bench --files`: a vault of 50,000 files; RefNet against tar, in one run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random

from benchmarks import measure, report
from benchmarks.bars import MEMORY_BYTES, Bar, Table
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.turns import say, take_turns
from benchmarks.ways import JOBS, Result
from refnet.demo.abstracts import person
from refnet.demo.prose import Prose
from refnet.network.note import Paper, PaperLink, name_of, render

TITLE = "Files"
FILES = 50_000
_SEED = 1
_SMALLEST, _SPREAD = 1_000, 200
_PICTURES = 100
_FOLDER = 500
#: Before a restore, one of so many notes is lost, and another one is changed.
_SPOILT = 100

TAR = "tar -czf"
UNTAR = "tar -xzf"
BACKUP = "refnet backup obsidian --no-prove"
AGAIN = "the same again, nothing changed"
PROVEN = "refnet backup obsidian (proven)"
RESTORE = "refnet restore obsidian --force"
ONE = "refnet restore obsidian --only NOTE"


@dataclass(frozen=True)
class Bench:
    """A folder with a vault, and the unique number of a round.

    Each round writes new files and deletes none: ext4 searches long for an inode after many were freed.
    """

    folder: Path
    number: int = 0
    sample: bool = False

    @property
    def vault(self) -> Path:
        return self.folder / "live" / "vault"

    @property
    def backups(self) -> Path:
        return self.folder / f"backups {self.number}"

    @property
    def archive(self) -> Path:
        return self.folder / f"plain {self.number}.tar.gz"

    def run(self, *command: str) -> Run:
        os.sync()
        return pipeline([command], self._environment(), self.folder, sample=self.sample)

    def refnet(self, *arguments: str) -> Run:
        return self.run(str(Path(sys.executable).with_name("refnet")), *arguments)

    def artifact(self) -> Path:
        return max((self.backups / "obsidian").glob("vault_*.tar.gz"))

    def _environment(self) -> dict[str, str]:
        return inherited() | {
            "REFNET_HOME": str(self.folder / "home"),
            "REFNET_BACKUP_DIR": str(self.backups),
            "REFNET_VAULT_DIR": str(self.vault),
            "REFNET_JOBS": str(JOBS),
        }


def make_vault(vault: Path, files: int = FILES) -> int:
    """Write a made-up vault of `files` files, of them one percent pictures; return its bytes. The same each time."""
    random, prose = Random(f"vault {_SEED}"), Prose(_SEED, 4_000_000, dense=True)  # noqa: S311  # made up, not secret
    places: dict[int, PaperLink] = {}
    written = _write(vault / ".obsidian" / "app.json", b'{"attachmentFolderPath": "attachments"}\n')
    for number in range(1, files):
        if number % _PICTURES == 0:
            name = f"{_named('図 データ', number // _PICTURES)} {number}.png"
            picture = random.randbytes(int(50_000 + 250_000 * random.random()))
            written += _write(vault / "attachments" / name, picture)
            continue
        paper = _paper(random, prose, number)
        name = _named(f"{paper.authors[0]}のメモ ページ", number) + f" ({number})" if number % 5 == 0 else ""
        folder = f"{_named('研究ノート グラフ', number // _FOLDER)} {number // _FOLDER:03}"
        places[number] = PaperLink(f"{folder}/{name or name_of(paper)}", paper.heading)
        written += _write(vault / f"{places[number].path}.md", render(paper, places).encode())
    return written


def _paper(random: Random, prose: Prose, number: int) -> Paper:
    """Return a paper whose note has 1 to 200 KB; most are small."""
    return Paper(
        number,
        prose.titles[random.randrange(len(prose))],
        (person(random), person(random)),
        1970 + number % 56,
        "Journal of Citation Studies (sample)",
        prose.passage(random.random(), int(_SMALLEST * _SPREAD ** random.random() ** 8)),
        provenance="sample",
        references=tuple(random.randrange(1, number) for _ in range(5)) if number > 1 else (),
    )


def _named(japanese: str, number: int) -> str:
    """Return a name: Japanese, the same with its marks decomposed as macOS does, or a Latin one."""
    return (japanese, unicodedata.normalize("NFD", japanese), "Reading", "Projects")[number % 4]


def _write(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(data)


def _tar(bench: Bench) -> Result:
    run = bench.run("tar", "-czf", str(bench.archive), "-C", str(bench.vault), ".")
    return Result(run, bench.archive.stat().st_size)


def _untar(bench: Bench) -> Result:
    target = bench.folder / f"unpacked {bench.number}"
    target.mkdir()
    return Result(bench.run("tar", "-xzf", str(bench.archive), "-C", str(target)))


def _backup(bench: Bench) -> Result:
    run = bench.refnet("backup", "obsidian", "--no-prove")
    return Result(run, bench.artifact().stat().st_size)


def _again(bench: Bench) -> Result:
    run = bench.refnet("backup", "obsidian", "--no-prove")
    if "shares its bytes" not in run.stdout:
        raise FailedError("the second backup shared nothing")
    return Result(run)


def _proven(bench: Bench) -> Result:
    run = replace(bench, number=bench.number + 1000).refnet("backup", "obsidian")
    if "proven" not in run.stdout:
        raise FailedError("the artifact was not proven")
    return Result(run)


def _restore(bench: Bench) -> Result:
    notes = sorted(bench.vault.glob("*/*.md"))
    lost = bench.folder / f"lost {bench.number}"
    lost.mkdir()
    for path in notes[::_SPOILT]:
        path.rename(lost / path.name)
    for path in notes[1::_SPOILT]:
        path.write_text("spoilt")
    run = bench.refnet("restore", "obsidian", "--force")
    if sorted(bench.vault.glob("*/*.md")) != notes:
        raise FailedError("the restore did not bring everything back")
    return Result(run)


def _one(bench: Bench) -> Result:
    notes = sorted(bench.vault.glob("*/*.md"))
    note = notes[len(notes) * 3 // 4]
    content = note.read_bytes()
    note.rename(bench.folder / f"one {bench.number}.md")
    run = bench.refnet("restore", "obsidian", "--only", str(note.relative_to(bench.vault)))
    if note.read_bytes() != content:
        raise FailedError("the note did not come back")
    return Result(run)


WAYS: dict[str, Callable[[Bench], Result]] = {
    TAR: _tar,
    BACKUP: _backup,
    AGAIN: _again,
    PROVEN: _proven,
    UNTAR: _untar,
    RESTORE: _restore,
    ONE: _one,
}


def bars() -> tuple[Bar, ...]:
    """Return the promises for files."""

    def ratio(one: str, other: str) -> Callable[[Table], float]:
        return lambda table: table[one].seconds / table[other].seconds

    def peak(table: Table) -> float:
        return max(table[way].peak for way in (BACKUP, AGAIN, PROVEN, RESTORE, ONE)) / 1e6

    return (
        Bar(f"{BACKUP} against {TAR}", (BACKUP, TAR), ratio(TAR, BACKUP), floor=3),
        Bar("its artifact's size", (BACKUP, TAR), lambda t: t[BACKUP].size / t[TAR].size, ceiling=1.15),
        Bar(f"{AGAIN}, against the first run", (AGAIN, BACKUP), ratio(AGAIN, BACKUP), ceiling=0.5),
        Bar(f"{RESTORE}, against {UNTAR}", (RESTORE, UNTAR), ratio(RESTORE, UNTAR), ceiling=2.5),
        Bar(ONE, (ONE,), lambda table: table[ONE].seconds, ceiling=1, unit="s"),
        Bar(
            "peak memory", (BACKUP, AGAIN, PROVEN, RESTORE, ONE), peak, ceiling=MEMORY_BYTES / 1e6, unit="MB"
        ),
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        bench = Bench(Path(name))
        count = int(FILES * options.scale)
        say(f"writing {count:,} files")
        written = make_vault(bench.vault, count)
        table = take_turns(WAYS, options.runs, lambda n: replace(bench, number=n, sample=n == 0))
        text = "\n\n".join(
            [f"## {TITLE}", "\n".join(_facts(options, begun, load, (count, written))), *tables(table, bars())]
        )
        print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in bars()))


def _facts(options: argparse.Namespace, begun: datetime, load: float, made: tuple[int, int]) -> Iterator[str]:
    yield (
        f"- {begun:%Y-%m-%d}; {os.cpu_count()} cores ({report.processor()}), {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}; {JOBS} jobs; warm cache"
    )
    yield (
        f"- the vault: {made[0]:,} made-up files of {made[1] / 1e6:,.0f} MB: notes of 1 to 200 KB, 1 % pictures, Japanese"
        f" names; before a restore 1 % of the notes change, 1 % are lost"
    )
    yield (
        f"- time: the median of {options.runs} timed runs, interleaved; memory: of a further run, as below, sampled"
        f" every {measure.SAMPLE_SECONDS * 1000:.0f} ms"
    )
    after = os.getloadavg()[0]
    busy = " **Other processes were running: the figures are unreliable.**" if load > 0.5 else ""
    yield f"- load average {load:.2f} before, {after:.2f} after.{busy}"


def tables(table: Table, promises: Sequence[Bar]) -> Iterator[str]:
    """Yield the table of promises, and that of ways."""
    yield report.bars_table(table, promises)
    rows = [
        (way, *(cell for number, cell in enumerate(report.row(one)) if number != 1))
        for way, one in table.items()
    ]
    yield report.markdown(("way", "time", "size", "peak memory"), rows)
