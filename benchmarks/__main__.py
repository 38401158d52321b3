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

from benchmarks import (
    bars,
    build,
    catalog,
    clusters,
    dashboard,
    files,
    folders,
    many,
    network,
    offsite,
    offsite_run,
    report,
    walk,
    ways,
)
from benchmarks.bars import Measured
from benchmarks.shapes import LONG, MADE, SHAPES, SHORT, SKEWED, build_shape
from benchmarks.turns import say, take_turns
from benchmarks.ways import Bench
from refnet.core.signals import interruptible

#: On a disk even if /tmp is in memory.
_FOLDER = Path("/var/tmp")  # noqa: S108
#: Run once, in the sampled round: a check, not a comparison.
_ONCE = {ways.STOCK_RESTORE}
#: Measured with one shape alone.
_ONLY = {
    ways.BACKUP_ONE: {SKEWED},
    ways.TABLE_RESTORE: {LONG},
    ways.HELP: {LONG},
    ways.LIST: {LONG},
    ways.PLAN: {LONG},
    ways.BACKUP_DIGESTED: {SHORT},
    ways.COUNT: {SHORT},
}
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
    parser.add_argument(
        "--shape",
        choices=("all", *SHAPES),
        default=LONG,
        help="the shape of the database: "
        + ", ".join(f"{name} ({made.about})" for name, made in MADE.items()).replace("%", "%%")
        + f"; {SKEWED}: 90 %% of the text in one table; default {LONG}: texts with a full-text index, foreign keys",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the made-up data (default 1)")
    parser.add_argument(
        "--files",
        nargs="?",
        const=folders.VAULT,
        choices=(files.ALL, *folders.FOLDERS),
        help="a folder instead: "
        + ", ".join(f"{name} ({one.files:,}: {one.about})" for name, one in folders.FOLDERS.items()).replace(
            "%", "%%"
        )
        + f"; {folders.VAULT} if none is named",
    )
    parser.add_argument("--catalog", action="store_true", help="thousands of artifacts, listed, instead")
    parser.add_argument(
        "--cluster", action="store_true", help="base backups of the whole server, against pgBackRest, instead"
    )
    parser.add_argument(
        "--many", action="store_true", help="20 databases, and one table of a large one, instead"
    )
    parser.add_argument(
        "--offsite", action="store_true", help="an encrypted copy on an object server, of 500 MB, instead"
    )
    parser.add_argument(
        "--offsite-files",
        action="store_true",
        help="copies of a folder and of a file of 2 GB on an object server, and a store of 100,000 pieces, instead",
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
        "--dashboard", action="store_true", help="the pages of 10,000 artifacts, by 16 clients, instead"
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
    if options.cluster:
        return clusters.run(options)
    if options.many:
        return many.run(options)
    if options.offsite:
        return offsite.run(options)
    if options.offsite_files:
        return offsite_run.run(options)
    if options.dashboard:
        return network.judged(dashboard.TITLE, dashboard.measure, options)
    if options.network:
        return network.run(options)
    need = int(options.scale * 1.4e9 * _COPIES)
    if shutil.disk_usage(options.folder).free < need:
        print(f"bench: {options.folder} has less than {need / 1e9:.0f} GB of free space", file=sys.stderr)
        return 1
    shapes = SHAPES if options.shape == "all" else (options.shape,)
    tables: dict[str, dict[str, Measured]] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as folder:
            Path(folder).chmod(0o711)
            tables[shape] = _bench(options, shape, Path(folder))
    if len(shapes) > 1:
        report.worst("database", options, bars.bars, tables)
    return int(any(bar.judged(tables[shape])[2] != "pass" for shape in shapes for bar in bars.bars(shape)))


def _bench(options: argparse.Namespace, shape: str, folder: Path) -> dict[str, Measured]:
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    title = f"Scale {options.scale:g}, {shape}"
    with build.server(folder, options.postgres) as cluster:
        say(f"building the database ({title.lower()})")
        built = build_shape(cluster, ways.SOURCE, shape, scale=options.scale, seed=options.seed)
        say(f"{built.disk / 1e9:.2f} GB on disk, {built.rows:,} rows")
        bench = Bench(cluster, folder, build.content(cluster.target(ways.SOURCE)))
        table = take_turns(
            {name: way for name, way in ways.WAYS.items() if shape in _ONLY.get(name, SHAPES)},
            options.runs,
            lambda number: replace(bench, sample=number == 0),
            lambda name, number: bool(number) and name in _ONCE,
        )
        version = cluster.binaries.version
    setting = report.Setting(title, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    text = report.section(setting, table, bars.bars(shape))
    print(text)
    if options.write:
        report.keep(text, title)
    return table


if __name__ == "__main__":
    sys.exit(main())
