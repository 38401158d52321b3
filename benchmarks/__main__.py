"""`./dev bench`: build the database, run every way in turn, print the bars and the table."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks import bars, build, catalog, dashboard, files, many, network, offsite, report, walk, ways
from benchmarks.bars import Measured
from benchmarks.turns import say, take_turns
from benchmarks.ways import Bench
from refnet.core.signals import interruptible

#: On a disk even if /tmp is in memory.
_FOLDER = Path("/var/tmp")  # noqa: S108
#: Run once, in the sampled round: a check, not a comparison.
_ONCE = {ways.STOCK_RESTORE}
#: Measured with one kind of database alone.
_ONLY = {ways.BACKUP_ONE: {bars.SKEWED}, ways.TABLE_RESTORE: {bars.LONG, bars.SKEWED}}
_DEBIANS = 17
_DEBIANS_PG_DUMP = Path(f"/usr/lib/postgresql/{_DEBIANS}/bin/pg_dump")
#: The source, a copy, the previous version, a proof's copy, dumps and WAL.
_COPIES = 7


@interruptible()
def main() -> int:
    """Parse, measure, print; return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1, help="N times 1.3 GB, 50,000 files or a million (default 1)"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--skew",
        action="store_const",
        dest="kind",
        const=bars.SKEWED,
        help="one table has 90 %% of the bytes",
    )
    kind.add_argument(
        "--short", action="store_const", dest="kind", const=bars.SHORT, help="10 million short rows"
    )
    kind.set_defaults(kind=bars.LONG)
    parser.add_argument("--files", action="store_true", help="a vault of 50,000 notes and pictures instead")
    parser.add_argument("--catalog", action="store_true", help="thousands of artifacts, listed, instead")
    parser.add_argument(
        "--many", action="store_true", help="20 databases, and one table of a large one, instead"
    )
    parser.add_argument(
        "--offsite", action="store_true", help="an encrypted copy on an object server, of 500 MB, instead"
    )
    parser.add_argument("--walk", action="store_true", help="a folder of a million files, unchanged, instead")
    parser.add_argument(
        "--network",
        nargs="?",
        const=network.ALL,
        choices=(network.ALL, *network.PARTS),
        help="a crawl of 5,000 made-up papers, 10,000 notes and the API instead, or one of these parts",
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="the overview of 10,000 artifacts, by 16 clients, instead"
    )
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each way (default 3)")
    parser.add_argument("--write", action="store_true", help=f"write the results to {report.RESULTS.name}")
    parser.add_argument(
        "--postgres",
        type=int,
        metavar="MAJOR",
        default=_DEBIANS if _DEBIANS_PG_DUMP.exists() else None,
        help="the server's major version (default: Debian's 17, whose pg_dump has zstd, or else the newest)",
    )
    parser.add_argument(
        "--folder", type=Path, default=_FOLDER, help=f"folder for temporary data (default {_FOLDER})"
    )
    options = parser.parse_args()
    if options.files:
        return files.run(options)
    if options.catalog:
        return catalog.run(options)
    if options.walk:
        return walk.run(options)
    if options.many:
        return many.run(options)
    if options.offsite:
        return offsite.run(options)
    if options.dashboard:
        return network.judged(dashboard.TITLE, dashboard.measure, options)
    if options.network:
        return network.run(options)
    need = int(options.scale * 1.4e9 * _COPIES)
    if shutil.disk_usage(options.folder).free < need:
        print(f"bench: {options.folder} has less than {need / 1e9:.0f} GB of free space", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as folder:
        Path(folder).chmod(0o711)
        return _bench(options, Path(folder))


def _bench(options: argparse.Namespace, folder: Path) -> int:
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    title = f"Scale {options.scale:g}" + (f", {options.kind}" if options.kind else "")
    with build.server(folder, options.postgres) as cluster:
        say(f"building the database ({title.lower()})")
        if options.kind == bars.SHORT:
            built = build.build_short(cluster, ways.SOURCE, options.scale)
        else:
            wanted = build.shape(options.scale, skew=options.kind == bars.SKEWED)
            built = build.build(cluster, ways.SOURCE, wanted)
        say(f"{built.disk / 1e9:.2f} GB on disk, {built.text / 1e6:,.0f} MB of text, {built.rows:,} rows")
        bench = Bench(cluster, folder, build.content(cluster.target(ways.SOURCE)))
        table = _measure(bench, options.runs, options.kind)
        version = cluster.binaries.version
    setting = report.Setting(title, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    promises = bars.bars(options.kind)
    text = report.section(setting, table, promises)
    print(text)
    if options.write:
        report.keep(text, title)
    return int(any(bar.judged(table)[2] != "pass" for bar in promises))


def _measure(bench: Bench, runs: int, kind: str) -> dict[str, Measured]:
    """Run the ways of a database of `kind`."""
    own = {name: way for name, way in ways.WAYS.items() if kind in _ONLY.get(name, {kind})}
    return take_turns(
        own,
        runs,
        lambda n: replace(bench, sample=n == 0),
        lambda name, number: bool(number) and name in _ONCE,
    )


if __name__ == "__main__":
    sys.exit(main())
