"""`./dev bench --network`: the bars of the network, each part in a file of its own, against a throwaway server."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from benchmarks import build, network_crawl, network_notes, network_web, report
from benchmarks.network_bars import Place, Row

TITLE = "Network, {part}"
#: What --network means without a part.
ALL = "all"
#: The name of a part, and what measures it: each yields its rows.
PARTS: Mapping[str, Callable[[Place], Iterator[Row]]] = {
    "crawl": network_crawl.measure,
    "notes": network_notes.measure,
    "API": network_web.measure,
}


def run(options: argparse.Namespace) -> int:
    """Measure and print the parts that are asked for; return 1 if a bar was missed."""
    names = [*PARTS] if options.network == ALL else [options.network]
    return max([judged(TITLE.format(part=name), PARTS[name], options) for name in names])


def judged(title: str, measure: Callable[[Place], Iterator[Row]], options: argparse.Namespace) -> int:
    """Print what `measure` yields on a new server, as the section `title`; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as folder:
        Path(folder).chmod(0o711)
        with build.server(Path(folder), options.postgres) as cluster:
            rows = [*measure(Place(cluster, Path(folder), options.scale))]
            version = cluster.binaries.version
    busy = " **Other processes were running: the figures are unreliable.**" if load > 0.5 else ""
    facts = (
        f"- {begun:%Y-%m-%d}; {os.cpu_count()} cores ({report.processor()}), {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}, PostgreSQL {version}\n"
        f"- load average {load:.2f} before, {os.getloadavg()[0]:.2f} after.{busy}"
    )
    lines = [(row.what, row.bar, row.measured, "pass" if row.passed else "MISS") for row in rows]
    table = report.markdown(("what", "bar", "measured", ""), lines)
    text = f"## {title}\n\n{facts}\n\n{table}\n"
    print(text)
    if options.write:
        report.keep(text, title)
    return int(not all(row.passed for row in rows))
