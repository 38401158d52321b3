"""`./dev bench --many`: twenty small databases in one run; and one small table of a large artifact, dropped and queried."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from psycopg import sql

from benchmarks import build, report
from benchmarks.bars import Bar, Table
from benchmarks.build import JOBS
from benchmarks.measure import FailedError, Run, inherited, pipeline
from benchmarks.shapes import LONG, build_shape
from benchmarks.turns import say, take_turns
from benchmarks.ways import COPY, SOURCE, Bench, Result, restore
from refnet.postgres.cluster import Cluster

TITLE = "Many"
DATABASES = 20
#: Rows of each small database.
_ROWS = 20_000
_TABLE = "orders"
#: Of the bytes of the large database.
_SHARE = 0.007
#: Bytes of COPY text of a row of the table.
_ROW = 95

ALL = f"refnet backup of {DATABASES} databases, {JOBS} jobs"
EACH = f"{DATABASES} runs of refnet backup NAME"
FULL = "refnet restore database --force"
TABLE = f"refnet restore database --table {_TABLE} --force, after it was dropped"
QUERY = f"refnet query ARTIFACT, on {_TABLE}"

_SMALL = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, placed timestamptz NOT NULL);
INSERT INTO customers SELECT g, md5(g::text) FROM generate_series(1, {customers}) AS g;
INSERT INTO orders SELECT g, 1 + g % {customers}, timestamptz '2026-01-01 00:00+00' + g * interval '1 min'
    FROM generate_series(1, {rows}) AS g;
CREATE INDEX ON orders (placed);
"""
#: A table with all that belongs to one, and one that refers to it.
_LARGE = """
CREATE TABLE {table} (id bigserial PRIMARY KEY, label text NOT NULL, note text NOT NULL CHECK (note <> ''), placed timestamptz);
COMMENT ON TABLE {table} IS 'made up';
INSERT INTO {table} SELECT g, md5(g::text), md5((g * 7)::text), timestamptz '2026-01-01 00:00+00' + g * interval '1 min'
    FROM generate_series(1, {rows}) AS g;
CREATE INDEX ON {table} (placed);
CREATE TABLE order_lines (id bigint PRIMARY KEY, of bigint REFERENCES {table});
INSERT INTO order_lines SELECT g, g FROM generate_series(1, 1000) AS g;
"""


def _name(number: int) -> str:
    return f"shop{number:02}"


def _build_small(cluster: Cluster) -> None:
    for number in range(DATABASES):
        build.fresh(cluster, _name(number))
        with cluster.target(_name(number)).connect() as connection:
            connection.execute(_SMALL.format(customers=_ROWS // 20, rows=_ROWS).encode())


def _write_settings(bench: Bench) -> None:
    """Write the settings file of the twenty databases."""
    names = [_name(number) for number in range(DATABASES)]
    sections = [f'[databases.{name}]\nurl = "{build.url(bench.cluster.target(name))}"\n' for name in names]
    home = bench.folder / "many"
    home.mkdir(mode=0o700)
    (home / "refnet.toml").write_text("\n".join(sections))
    (home / "refnet.toml").chmod(0o600)


def _backup(bench: Bench, *names: str) -> Run:
    home = bench.folder / "many"
    environment = inherited() | {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_JOBS": str(JOBS),
    }
    command = str(Path(sys.executable).with_name("refnet"))
    run = pipeline([[command, "backup", *names]], environment, bench.folder, sample=bench.sample)
    if run.stdout.count("proven (") != (len(names) or DATABASES):
        raise FailedError("not every artifact is proven")
    return run


def _all(bench: Bench) -> Result:
    build.settle(bench.cluster)
    return Result(_backup(bench))


def _each(bench: Bench) -> Result:
    build.settle(bench.cluster)
    runs = [_backup(bench, _name(number)) for number in range(DATABASES)]
    seconds, cpu = sum(run.seconds for run in runs), sum(run.cpu for run in runs)
    return Result(replace(max(runs, key=lambda run: run.peak or 0), seconds=seconds, cpu=cpu))


def _table(bench: Bench) -> Result:
    """Drop the table of the restored database, and restore it."""
    content = build.content(bench.cluster.target(COPY))
    with bench.cluster.target(COPY).connect() as connection:
        connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(_TABLE)))
    arguments = ("restore", "database", str(bench.artifact), "--from-database", SOURCE)
    run = bench.refnet(*arguments, "--table", _TABLE, "--force", database=COPY)
    if build.content(bench.cluster.target(COPY)) != content:
        raise FailedError("the table did not come back")
    return Result(run)


def _query(bench: Bench) -> Result:
    run = bench.refnet("query", bench.artifact.name, f"SELECT count(*), max(placed) FROM {_TABLE}")
    if "2026" not in run.stdout:
        raise FailedError("the query has no answer")
    return Result(run)


#: In the order of a round: the table is dropped in what the restore before it has made.
WAYS: dict[str, Callable[[Bench], Result]] = {
    ALL: _all,
    EACH: _each,
    FULL: restore,
    TABLE: _table,
    QUERY: _query,
}


def bars() -> tuple[Bar, ...]:
    """Return the promises for many databases and for one table."""

    def ratio(one: str, other: str, ceiling: float) -> Bar:
        def value(table: Table) -> float:
            return table[one].seconds / table[other].seconds

        return Bar(f"{one}, against {other}", (one, other), value, ceiling=ceiling)

    return (ratio(ALL, EACH, 0.6), ratio(TABLE, FULL, 0.1), ratio(QUERY, FULL, 0.1))


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if a bar was missed."""
    begun, load = datetime.now().astimezone(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="refnet-bench-", dir=options.folder) as name:
        Path(name).chmod(0o711)
        with build.server(Path(name), options.postgres) as cluster:
            say("building the databases")
            _build_small(cluster)
            built = build_shape(cluster, SOURCE, LONG, scale=options.scale, seed=options.seed)
            rows = int(built.disk * _SHARE / _ROW)
            with cluster.target(SOURCE).connect() as connection:
                connection.execute(_LARGE.format(table=_TABLE, rows=rows).encode())
            small = tuple(_name(number) for number in range(DATABASES))
            bench = Bench(cluster, Path(name), build.content(cluster.target(SOURCE)), remaining=small)
            _write_settings(bench)
            bench.refnet("backup", "database")
            table = take_turns(WAYS, options.runs, lambda n: replace(bench, sample=n == 0))
            version = cluster.binaries.version
    setting = report.Setting(TITLE, version, built, options.runs, begun, (load, os.getloadavg()[0]))
    text = report.section(setting, table, bars())
    print(text)
    if options.write:
        report.keep(text, TITLE)
    return int(any(bar.judged(table)[2] != "pass" for bar in bars()))
