"""What makes RefNet print the messages of the runbook: those of backups and of the server, and what the others need."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.command import Command, Result, url_of

from refnet.core.errors import RefnetError
from refnet.postgres import binaries
from refnet.postgres.session import Target
from refnet.sources.database.dump import snapshot

ROLE = "refnet_backup"
READER = "refnet_reader"


@dataclass(frozen=True)
class Library:
    """A small library on a server, backed up once, and what it takes to disturb it."""

    refnet: Command
    target: Target
    folder: Path
    hba: Path

    @property
    def database(self) -> Path:
        return self.refnet.backups / "database"

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.target.conninfo, autocommit=True) as session:
            session.execute(statement.encode())

    def newest(self) -> Path:
        return max(self.database.glob("refnet_*.sql.gz"))

    @contextmanager
    def away(self, path: Path) -> Iterator[None]:
        """`path` is somewhere else."""
        path.rename(path.with_name("away"))
        try:
            yield
        finally:
            path.with_name("away").rename(path)


Provocation = Callable[[Library], Result]
#: Words of a message → what makes RefNet print it.
PROVOCATIONS: dict[str, Provocation] = {}


def provokes(words: str) -> Callable[[Provocation], Provocation]:
    def register(provocation: Provocation) -> Provocation:
        PROVOCATIONS[words] = provocation
        return provocation

    return register


def as_told(act: Callable[[], object]) -> Result:
    """What a command would print of the RefnetError that `act` raises."""
    with pytest.raises(RefnetError) as raised:
        act()
    return Result(raised.value.code, "", f"refnet: {raised.value.message}\n        {raised.value.hint}\n")


@provokes("rejects the password")
def wrong_password(library: Library) -> Result:
    hba, before = library.hba, library.hba.read_text()
    hba.write_text(f"local all {ROLE} scram-sha-256\n{before}")
    library.sql("SELECT pg_reload_conf()")
    try:
        return library.refnet(
            "backup", "database", REFNET_DATABASE_URL=url_of(library.target, user=ROLE, password="wrong")
        )
    finally:
        hba.write_text(before)
        library.sql("SELECT pg_reload_conf()")


@provokes("no database is configured")
def no_database(library: Library) -> Result:
    return library.refnet("backup", "database", REFNET_DATABASE_URL="")


@provokes("no PostgreSQL server answers")
def server_down(library: Library) -> Result:
    return library.refnet("backup", "database", REFNET_DATABASE_URL="postgresql://refnet@127.0.0.1:1/refnet")


@provokes("is the disk mounted")
def disk_not_mounted(library: Library) -> Result:
    with library.away(library.refnet.backups):
        return library.refnet("backup", "database")


@provokes("client tools of PostgreSQL")
def no_pg_dump_of_that_major(_library: Library) -> Result:
    return as_told(lambda: binaries.find(99, None))


@provokes("is locked by another run")
def locked(library: Library) -> Result:
    with (library.database / ".refnet-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return library.refnet("backup", "database")


@provokes("could not be locked within")
def table_kept(library: Library) -> Result:
    before, snapshot.LOCK_SECONDS = snapshot.LOCK_SECONDS, 0.2  # type: ignore[assignment]
    try:
        with psycopg.connect(library.target.conninfo) as holder:
            holder.execute("ALTER TABLE papers ADD COLUMN more text")
            return as_told(snapshot.open_snapshot(library.target).__enter__)
    finally:
        snapshot.LOCK_SECONDS = before


@provokes("no space left")
def disk_full(library: Library) -> Result:
    command = [
        "bash",
        "-c",
        'ulimit -f 60; exec "$0" backup database',
        Path(sys.executable).parent / "refnet",
    ]
    done = subprocess.run(
        command, env=library.refnet._environment({}), capture_output=True, text=True, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


@provokes("required table")
def table_missing(library: Library) -> Result:
    library.sql("ALTER TABLE jobs RENAME TO tasks")
    try:
        return library.refnet("backup", "database")
    finally:
        library.sql("ALTER TABLE tasks RENAME TO jobs")


@provokes("may not read all of")
def table_unreadable(library: Library) -> Result:
    library.sql(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}; REVOKE SELECT ON authors FROM {ROLE};"
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {ROLE}; REVOKE SELECT ON jobs_id_seq FROM {ROLE}"
    )
    try:
        return library.refnet("backup", "database", REFNET_DATABASE_URL=url_of(library.target, user=ROLE))
    finally:
        library.sql(
            f"REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {ROLE};"
            f"REVOKE SELECT ON ALL SEQUENCES IN SCHEMA public FROM {ROLE}"
        )


@provokes("config is not backed up")
def entry_missing(library: Library) -> Result:
    with library.away(library.folder / "config" / "compose.yaml"):
        return library.refnet("backup", "config")


@provokes("If it should be empty")
def vault_emptied(library: Library) -> Result:
    vault = library.folder / "vault"
    with library.away(vault):
        vault.mkdir()
        try:
            return library.refnet("backup", "obsidian")
        finally:
            vault.rmdir()


@provokes("exclude leaves out every file")
def everything_excluded(library: Library) -> Result:
    return library.refnet("backup", "obsidian", REFNET_EXCLUDE_OBSIDIAN="*")


@provokes("and the target is shop")
def other_database(library: Library) -> Result:
    artifact = min(library.database.glob("refnet_*.sql.gz")).name
    return library.refnet("restore", "database", artifact, "--force", REFNET_DATABASE_URL=shop(library))


@provokes("of the database shop")
def no_artifact_of_that_database(library: Library) -> Result:
    return library.refnet("restore", "database", "--force", REFNET_DATABASE_URL=shop(library))


@provokes("names no database")
def url_without_a_database(library: Library) -> Result:
    return library.refnet("backup", "database", REFNET_DATABASE_URL="postgresql://refnet@localhost:5432")


def shop(library: Library) -> str:
    """The URL of a database that is not there, on that server."""
    return url_of(library.target.database("shop"))


@provokes("live data would be replaced")
def nobody_to_ask(library: Library) -> Result:
    return library.refnet("restore", "database")


def unprivileged(act: Callable[[], Result]) -> Result:
    """What `act` gives when an ordinary user runs it, in a child."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            os.write(writer, act().err.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return Result(1, "", said)
