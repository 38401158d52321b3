"""The server for all measurements, and the database that is backed up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from psycopg import sql

from benchmarks.throwaway import throwaway
from refnet.demo.sample import Prose, Shape, make
from refnet.network.migrate import migrate
from refnet.postgres import binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch_memory import free_memory, scratch_settings
from refnet.postgres.session import Target

#: How many workers or jobs every tool gets that accepts a number.
JOBS = 2
#: PostgreSQL's defaults, durable like a real server. WAL is set for a database of this size, so that no run pays for the
#: checkpoints of another one.
_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "checkpoint_timeout": "5min",
    "max_wal_size": "4GB",
}

SEED = 1
_MB = 1 << 20
#: Rows as long as a full text: only these show the memory that a row needs.
LONG_ROWS = (16 * _MB, 8 * _MB, 4 * _MB, 2 * _MB, _MB)


@dataclass(frozen=True)
class Built:
    """The database: rows in all, bytes on disk, the largest table's share of the bytes."""

    rows: int
    disk: int
    largest: float


@cache
def settings() -> Mapping[str, str]:
    """Return the settings of the server: it is durable, and has the most memory that a scratch server gets here."""
    return {**_DURABLE, **scratch_settings(free_memory(), None, JOBS)}


@contextmanager
def server(folder: Path, major: int | None) -> Iterator[Cluster]:
    """Run a throwaway server with these `settings`; `major` None: the wheel's or the newest."""
    programs = binaries.find(major, None, server=True)
    with throwaway(programs, base=folder / "server", settings=settings()) as cluster:
        yield cluster


def build(cluster: Cluster, name: str, wanted: Shape) -> Built:
    """Create the database `name` with the network `wanted` and the long rows, vacuumed and analyzed."""
    fresh(cluster, name)
    target = cluster.target(name)
    migrate(target)
    made = make(target, wanted)
    text = sum(made.sizes.values()) + _add_long_rows(target)
    with target.connect() as connection:
        connection.execute("VACUUM (ANALYZE) summaries")
        connection.execute("CHECKPOINT")
        (disk,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    rows = sum(made.rows.values()) + len(LONG_ROWS)
    return Built(rows, disk, max(made.sizes.values()) / text)


def _add_long_rows(target: Target) -> int:
    prose = Prose(SEED + 1, max(LONG_ROWS), dense=True)
    with target.connect() as connection:
        for paper, length in enumerate(LONG_ROWS, 1):
            connection.execute(
                "INSERT INTO summaries (paper_id, kind, model, content, created_at)"
                " VALUES (%s, 'full_text', 'made-up-model', %s, '2026-01-01 00:00+00')",
                [paper, prose.text[:length]],
            )
    return sum(LONG_ROWS)


def fresh(cluster: Cluster, name: str) -> None:
    """Create an empty database; drop an existing one of that name first."""
    drop(cluster, name)
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def drop(cluster: Cluster, name: str) -> None:
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_all_but(cluster: Cluster, *remaining: str) -> None:
    """Drop the targets of restores and their previous versions."""
    with cluster.target().connect() as admin:
        names = admin.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()
    for (name,) in names:
        if name not in (*remaining, "postgres"):
            drop(cluster, name)


def settle(cluster: Cluster) -> None:
    """Flush the changes of the last run, so that the next one does not pay for it."""
    with cluster.target().connect() as admin:
        admin.execute("CHECKPOINT")


def url(target: Target) -> str:
    """Return `target` as a value for REFNET_DATABASE_URL."""
    parts = target.parts
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(parts['host'])}&port={parts['port']}"


def content(target: Target) -> str:
    """Return a digest over every row of every table and every large object, computed by the server, not by RefNet."""
    digest = hashlib.sha256()
    with target.connect({"timezone": "UTC", "extra_float_digits": "3"}) as connection:
        names = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " ORDER BY 1"
        ).fetchall()
        for (name,) in names:
            query = f"SELECT count(*), sum(hashtextextended(row::text, 0)::numeric) FROM {name} AS row"
            digest.update(f"{name} {connection.execute(query).fetchone()}\n".encode())
        blobs = "SELECT count(*), sum(hashtextextended(encode(data, 'base64'), loid::bigint)::numeric) FROM pg_largeobject"
        digest.update(f"{connection.execute(blobs).fetchone()}\n".encode())
    return digest.hexdigest()
