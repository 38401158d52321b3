"""A small library in a database, its artifact, and what a restore did to it."""

from __future__ import annotations

import atexit
import io
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import sql

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.dump import parallel_dump as dumping
from refnet.sources.database.plan.restore_facts import Permission
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.restore import copy_and_swap, previous_databases
from refnet.sources.database.restore.copy_and_swap import Resources, Restored
from refnet.sources.database.workers import Workers
from refnet.store.previous_records import MarkState, PreviousVersions

#: What the restores of this process record.
PREVIOUS = PreviousVersions(Path(tempfile.mkdtemp(prefix="refnet-previous-")))
atexit.register(shutil.rmtree, PREVIOUS.folder, ignore_errors=True)

LIBRARY = """
CREATE TABLE papers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, year int);
CREATE TABLE citations (citing bigint REFERENCES papers, cited bigint REFERENCES papers, note text,
                        PRIMARY KEY (citing, cited));
CREATE INDEX ON citations (cited);
CREATE TABLE jobs (id int PRIMARY KEY, paper bigint REFERENCES papers, state text);
INSERT INTO papers (title, year) SELECT repeat(md5(i::text), 10) || i, 1950 + i % 70 FROM generate_series(1, 5000) i;
INSERT INTO citations SELECT i, 1 + i * 7 % 5000, 'x' FROM generate_series(1, 5000) i;
INSERT INTO jobs SELECT i, i, 'done' FROM generate_series(1, 20) i;
"""
#: The same with few rows, which pg_dump copies: for what does not depend on them.
SMALL_LIBRARY = LIBRARY.replace("5000", "50")


def artifact_of(target: Target, binaries: Binaries, name: str = "refnet_20261125_020000.sql.gz") -> bytes:
    """The bytes of an artifact of the database `target`."""
    out = io.BytesIO()
    dumping.dump(target, out, Workers(binaries, 2))
    return out.getvalue()


def held(content: bytes, name: str = "refnet_20261125_020000.sql.gz") -> DatabaseArtifact:
    """That artifact, to be restored."""
    return DatabaseArtifact(OpenArtifact(SourceName.DATABASE, name, lambda: io.BytesIO(content), None))


def restore(target: Target, dump: copy_and_swap.Dump, binaries: Binaries, **options: Any) -> Restored:
    """Restore `dump` as `target`, from whichever database it is."""
    options.setdefault("permission", Permission(dump.wanted().database))
    resources = Resources(lambda _: binaries, PREVIOUS)
    return copy_and_swap.restore(target, dump, PlanOptions(2, **options), resources)


def papers(target: Target) -> int:
    with target.connect() as session:
        return session.execute("SELECT count(*) FROM papers").fetchall()[0][0]  # type: ignore[no-any-return]


def of_database(target: Target, *whys: MarkState) -> list[str]:
    with admin_session(target) as admin:
        return [
            one.name
            for one in previous_databases.of_database(previous_databases.marked(admin), target.name, *whys)
        ]


def marked(target: Target, name: str) -> previous_databases.PreviousDatabase:
    """The database `name`, as RefNet lists it on the server of `target`."""
    with admin_session(target) as admin:
        return next(
            one for one in previous_databases.marked(admin, PREVIOUS.read().records) if one.name == name
        )


def everything(target: Target) -> list[str]:
    with admin_session(target) as admin:
        rows = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{target.name}%",))
        return sorted(name for (name,) in rows.fetchall())


@contextmanager
def library_on(server: Cluster, script: str = SMALL_LIBRARY) -> Iterator[Target]:
    """The small library in a database of its own; what restores make of it is dropped with it."""
    target = built(server, f"library_{uuid.uuid4().hex[:8]}", script)
    try:
        yield target
    finally:
        with server.target().connect() as admin:
            for name in everything(target):
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def built(server: Cluster, name: str, script: str) -> Target:
    """A new database `name` that is as `script` makes it, which runs once a server."""
    with server.target().connect() as admin:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        admin.execute(statement.format(sql.Identifier(name), sql.Identifier(_template(server, script))))
    return server.target(name)


@cache
def _template(server: Cluster, script: str) -> str:
    name = f"template_{uuid.uuid4().hex[:8]}"
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        with server.target(name).connect() as session:
            session.execute(script)
        admin.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    return name


@contextmanager
def role(server: Cluster, name: str, powers: str) -> Iterator[sql.Identifier]:
    """A role that is there for a while."""
    identifier = sql.Identifier(name)
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE {} {}").format(identifier, sql.SQL(powers)))
        try:
            yield identifier
        finally:
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(identifier))


def pg_dump(target: Target, binaries: Binaries, path: Path, *options: str) -> Path:
    """Let pg_dump itself dump `target` to `path`."""
    command = [str(binaries.tool("pg_dump")), *options, "-f", str(path)]
    subprocess.run(command, env=target.environment(), check=True)
    return path
