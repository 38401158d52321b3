"""Runs `./dev bench --offsite-files`: a folder night after night, one large file, and a store of many pieces."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random

from benchmarks import bars, files, offsite_files, offsite_pieces, report
from benchmarks.bars import Bar, Measured, Table
from benchmarks.folders import FOLDERS, LARGE, NOTES, PHOTOGRAPHS
from benchmarks.objects import object_server
from benchmarks.offsite_files import CHANGED_NOTES, ONCE, WAYS, Bench
from benchmarks.rivals import Restic
from benchmarks.turns import say, take_turns
from benchmarks.ways import Result

TITLE = "Off-site, files"
#: Photographs, and the MiB of the large file, at a scale of 1.
_PHOTOGRAPHS, _LARGE = 350, 2_000
LARGE_FILE, RESTIC_LARGE_FILE = (
    "refnet restore obsidian --store cloud --only FILE, of 2 GB",
    "restic restore latest --include FILE, of 2 GB",
)


@dataclass(frozen=True, kw_only=True)
class LargeBench(Bench):
    """A folder with one large file, which is copied before it is restored."""

    @property
    def prefix(self) -> str:
        return f"large-copies-{self.number}"

    @property
    def note(self) -> Path:
        return self.vault / "disk.img"


def _large(bench: LargeBench) -> Result:
    bench.begin()
    bench.copy()
    return Result(offsite_files.one(bench), bench.note.stat().st_size)


def _restic_large(bench: LargeBench) -> Result:
    bench.rival.create(bench.number)
    offsite_files.restic(bench)
    return Result(offsite_files.restic_one(bench), bench.note.stat().st_size)


def promises() -> tuple[Bar, ...]:
    """Return all promises."""
    large = bars.at_most(LARGE_FILE, RESTIC_LARGE_FILE, 0.5)
    return (*offsite_files.promises(), large, *offsite_pieces.promises())


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name,
        _prepared(options, Path(name)) as (bench, made),
    ):
        table = take_turns(
            WAYS,
            options.runs,
            lambda number: replace(bench, sample=number == 0, number=number),
            lambda way, number: bool(number) and way in ONCE,
        )
        table |= _measure_large(options, bench)
        table |= offsite_pieces.measure(Path(name) / "pieces")
    text = _section([*files.facts(options, begun, load, made), *_facts()], table)
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in promises()))


def _measure_large(options: argparse.Namespace, bench: Bench) -> Table:
    folder = bench.folder / "large"
    folder.mkdir()
    rival = Restic(folder / "restic", bench.server, "large")
    large = LargeBench(folder=folder, server=bench.server, rival=rival, random=bench.random)
    FOLDERS[LARGE].make(large.vault, max(1, int(_LARGE * options.scale)), options.seed)
    ways = {LARGE_FILE: _large, RESTIC_LARGE_FILE: _restic_large}
    return take_turns(ways, options.runs, lambda number: replace(large, sample=number == 0, number=number))


@contextmanager
def _prepared(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Bench, str]]:
    with object_server(folder / "objects") as server:
        bench = Bench(
            folder=folder,
            server=server,
            rival=Restic(folder / "restic", server),
            random=Random(f"nights {options.seed}"),  # noqa: S311  # made up, not secret
        )
        say("writing notes and photographs")
        counts = {
            NOTES: max(1, int(FOLDERS[NOTES].files * options.scale)),
            PHOTOGRAPHS: max(1, int(_PHOTOGRAPHS * options.scale)),
        }
        written = sum(
            FOLDERS[shape].make(bench.vault / shape, count, options.seed) for shape, count in counts.items()
        )
        abouts = (f"{count:,} {FOLDERS[shape].about}" for shape, count in counts.items())
        yield bench, f"{written / 1e6:,.0f} MB: {' and '.join(abouts)}"


def _facts() -> Iterator[str]:
    yield "- the object server: SeaweedFS with TLS, on the same cores; no other process had a request there"
    yield (
        "- the artifacts are made before, by `refnet backup --no-prove` without a store: the time of a copy is that of"
        " `refnet copy` alone, with its reading back; restic and Borg read the folder and read nothing back"
    )
    yield (
        f"- a night: a line more in {CHANGED_NOTES} random notes; the time of several nights is the sum of theirs; nights and"
        " prune once, sampled; each round has new repositories"
    )
    yield "- sent: bytes in the bodies of requests; GET reads back pieces and manifests; gone: objects that were deleted"


def _section(facts: list[str], table: Table) -> str:
    head = ("way", "time", "CPU", "stored after it", "peak memory", "sent", "requests", "GET", "gone")
    parts = [
        f"## {TITLE}",
        "\n".join(facts),
        report.bars_table(table, promises()),
        report.markdown(head, [(way, *row(measured)) for way, measured in table.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def row(measured: Measured) -> tuple[str, ...]:
    """Time, CPU, stored bytes, peak memory, sent bytes, requests without GET, GET, and objects that went, as text."""
    seconds, _, size, peak, _ = report.row(measured)
    if measured.why_not:
        return seconds, *[""] * 7
    kinds = (last := measured.runs[-1]).requests or Counter()
    others = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()) if kind != "GET")
    return (
        seconds,
        f"{measured.cpu:.2f} s",
        size,
        peak,
        "" if last.sent is None else f"{last.sent / 1e3:,.0f} KB",
        others,
        f"{kinds['GET']:,}" if kinds else "",
        f"{last.pieces:,}" if last.pieces else "",
    )
