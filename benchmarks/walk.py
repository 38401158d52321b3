"""`./dev bench --walk`: a folder of a million entries, of which none changed; RefNet against find, in one run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks import measure, report
from benchmarks.bars import Bar, Table
from benchmarks.files import Bench, sections
from benchmarks.measure import FailedError
from benchmarks.turns import say, take_turns
from benchmarks.ways import Result

TITLE = "Walk"
#: With the folders, as many as an artifact may hold.
ENTRIES = 1_000_000
_FOLDER = 1000
_MEMORY = 300

FIND = "find -printf"
WALK = "walk and compare"
AGAIN = "refnet backup obsidian --no-prove, nothing changed"

#: Everything that the fingerprint contains.
_FIND = "exec find . -printf '%i %s %m %U %G %T@ %C@ %p\\n' > /dev/null"
_WALK = """
import os, sys
from refnet.sources.folder.tree import fingerprint_of
print(fingerprint_of(os.open(sys.argv[1], os.O_RDONLY), None).hexdigest())
"""


def make_folder(vault: Path, entries: int) -> int:
    """Write folders of small files, `entries` in all with `vault` itself; return how many."""
    count = 1
    while count < entries:
        folder = vault / f"folder {count // _FOLDER:04}"
        folder.mkdir(parents=True)
        inside = min(_FOLDER, entries - count) - 1
        for number in range(inside):
            (folder / f"note {number:03} of a research project.md").write_text(f"{count + number}\n")
        count += inside + 1
    return count


def _find(bench: Bench) -> Result:
    return Result(bench.run(["sh", "-c", f'cd "$0" && {_FIND}', str(bench.vault)]))


def _walk(bench: Bench) -> Result:
    run = bench.run([sys.executable, "-c", _WALK, str(bench.vault)])
    if len(run.stdout.strip()) != 32:
        raise FailedError("there is no fingerprint")
    return Result(run)


def _again(bench: Bench) -> Result:
    run = bench.refnet("backup", "obsidian", "--no-prove")
    if "shares its bytes" not in run.stdout:
        raise FailedError("the backup shared nothing")
    return Result(run)


WAYS: dict[str, Callable[[Bench], Result]] = {FIND: _find, WALK: _walk, AGAIN: _again}


def bars() -> tuple[Bar, ...]:
    """Return the promises for a large folder."""

    def peak(table: Table) -> float:
        return max(table[way].peak for way in (WALK, AGAIN)) / 1e6

    return (
        Bar(
            f"{WALK} against {FIND}",
            (WALK, FIND),
            lambda table: table[WALK].seconds / table[FIND].seconds,
            ceiling=1.5,
        ),
        Bar("peak memory", (WALK, AGAIN), peak, ceiling=_MEMORY, unit="MB"),
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        bench = Bench(Path(name))
        count = int(ENTRIES * options.scale)
        say(f"writing {count:,} entries, and their first backup")
        made = make_folder(bench.vault, count)
        bench.refnet("backup", "obsidian", "--no-prove")
        table = take_turns(WAYS, options.runs, lambda n: replace(bench, sample=n == 0))
    facts = "\n".join(_facts(options, begun, load, made))
    text = "\n\n".join([f"## {TITLE}", facts, *sections(table, bars())])
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in bars()))


def _facts(options: argparse.Namespace, begun: datetime, load: float, made: int) -> Iterator[str]:
    yield (
        f"- {begun:%Y-%m-%d}; {os.cpu_count()} cores ({report.processor()}), {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}; warm cache"
    )
    yield f"- the folder: {made:,} entries, {_FOLDER:,} in each folder; none changed since the first backup"
    yield (
        f"- time: the median of {options.runs} timed runs, interleaved; memory: of a further run, sampled every"
        f" {measure.SAMPLE_SECONDS * 1000:.0f} ms"
    )
    busy = " **Other processes were running: the figures are unreliable.**" if load > 0.5 else ""
    yield f"- load average {load:.2f} before, {os.getloadavg()[0]:.2f} after.{busy}"
