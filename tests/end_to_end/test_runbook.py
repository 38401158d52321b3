"""Every message that the runbook quotes is provoked here, and is what RefNet prints.

A ```text block of the chapter Troubleshooting holds one message. Numbers, paths and widths of columns may differ.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.command import Command, Result, url_of
from tests.documents import ROOT, blocks, essence, text

from refnet.actions.context import own_home
from refnet.cli import metrics
from refnet.errors import RefnetError
from refnet.postgres import binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.recovery.sources.database.dump import snapshot
from refnet.settings import Settings

PAGES = [ROOT / "docs" / "runbook.md", ROOT / "docs" / "runbook.ja.md"]
_ROLE = "refnet_backup"
_READER = "refnet_reader"
_SUMMARIZED = """
CREATE TABLE papers (id serial PRIMARY KEY, doi text UNIQUE, year int, title text);
CREATE INDEX ON papers (year);
CREATE INDEX ON papers (title);
INSERT INTO papers (year) SELECT generate_series(1, 300);
CREATE TABLE summaries (paper_id int REFERENCES papers ON DELETE RESTRICT);
CREATE VIEW recent AS SELECT * FROM papers;
"""


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


@pytest.fixture(scope="module")
def library(server: Cluster, short_folder: Path) -> Iterator[Library]:
    folder = short_folder / "runbook"
    for name in ("home", "config"):
        (folder / name).mkdir(parents=True)
    for name in (".env", "compose.yaml"):
        (folder / "config" / name).write_text("\n")
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE library TEMPLATE template0")
        admin.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD 'right'")
        admin.execute(f"CREATE ROLE {_READER}")
    target = server.target("library")
    environment = {"REFNET_CONFIG_DIR": str(folder / "config"), "REFNET_VAULT_DIR": str(folder / "vault")}
    refnet = Command(folder / "home", folder / "backups", url_of(target), environment)
    library = Library(refnet, target, folder, server.data / "pg_hba.conf")
    for command in ("network sample --papers 100", "network vault"):
        refnet(*command.split()).succeeds()
    library.sql(f"GRANT SELECT ON papers TO {_READER}")
    refnet("backup", "--no-prove").succeeds()
    yield library
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE library WITH (FORCE)")
        admin.execute(f"DROP ROLE {_ROLE}, {_READER}")


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
    hba.write_text(f"local all {_ROLE} scram-sha-256\n{before}")
    library.sql("SELECT pg_reload_conf()")
    try:
        return library.refnet(
            "backup", "database", REFNET_DATABASE_URL=url_of(library.target, user=_ROLE, password="wrong")
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
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {_ROLE}; REVOKE SELECT ON authors FROM {_ROLE};"
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {_ROLE}; REVOKE SELECT ON jobs_id_seq FROM {_ROLE}"
    )
    try:
        return library.refnet("backup", "database", REFNET_DATABASE_URL=url_of(library.target, user=_ROLE))
    finally:
        library.sql(
            f"REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {_ROLE};"
            f"REVOKE SELECT ON ALL SEQUENCES IN SCHEMA public FROM {_ROLE}"
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


@provokes("something live would be replaced")
def nobody_to_ask(library: Library) -> Result:
    return library.refnet("restore", "database")


@provokes("SHA-256 is not the manifest's")
def artifact_damaged(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_020000.sql.gz"
    whole = bytearray(library.newest().read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    copy.write_bytes(whole)
    shutil.copy(library.newest().with_name(f"{library.newest().name}.json"), f"{copy}.json")
    return library.refnet("verify", copy)


@provokes("its footer is missing")
def artifact_cut(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_010000.sql.gz"
    copy.write_bytes(library.newest().read_bytes()[:5000])
    return library.refnet("restore", "database", copy, "--force")


@provokes("cannot be used")
def manifest_of_another(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_030000.sql.gz"
    shutil.copy(library.newest(), copy)
    Path(f"{copy}.json").write_text('{"format": 3}')
    return library.refnet("verify", copy)


@provokes("could not verify")
def dump_of_another(library: Library) -> Result:
    copy = library.folder / "refnet_20231201_020000.sql.gz"
    rows = b"CREATE TABLE papers (id int);\nINSERT INTO papers VALUES (1), (2), (3);\n"
    ends = b"-- PostgreSQL database dump complete\n"
    copy.write_bytes(gzip.compress(b"-- PostgreSQL database dump\n" + rows + ends))
    return library.refnet("verify", copy)


@provokes("has no complete artifact to recover from")
def no_artifacts(library: Library) -> Result:
    return library.refnet("recover", REFNET_BACKUP_DIR=str(library.folder / "nowhere"))


@provokes("may not create databases")
def no_createdb(library: Library) -> Result:
    return library.refnet(
        "restore", "database", "--plan", REFNET_DATABASE_URL=url_of(library.target, user=_ROLE)
    )


@provokes("roles missing on the server")
def no_roles(library: Library) -> Result:
    library.sql(f"REVOKE ALL ON papers FROM {_READER}; DROP ROLE {_READER}")
    try:
        return library.refnet("restore", "database", "--force")
    finally:
        library.sql(f"CREATE ROLE {_READER}; GRANT SELECT ON papers TO {_READER}")


@provokes("cannot be restored alone")
def foreign_key(library: Library) -> Result:
    library.sql("DELETE FROM paper_authors; DELETE FROM authors")
    return library.refnet("restore", "database", "--table", "paper_authors", "--mode", "missing")


@provokes("gets its foreign key")
def table_dropped(library: Library) -> Result:
    own = library.target.database("refnet")
    elsewhere = {"REFNET_DATABASE_URL": url_of(own), "REFNET_BACKUP_DIR": str(library.folder / "dropped")}
    library.sql("CREATE DATABASE refnet TEMPLATE template0")
    try:
        with psycopg.connect(own.conninfo, autocommit=True) as session:
            session.execute(_SUMMARIZED)
            library.refnet("backup", "database", "--no-prove", **elsewhere).succeeds()
            session.execute("DROP TABLE papers CASCADE")
        return library.refnet("restore", "database", "--table", "papers", "--plan", **elsewhere)
    finally:
        library.sql("DROP DATABASE refnet WITH (FORCE)")


@provokes("docker is not on PATH")
def no_docker(library: Library) -> Result:
    compose = {"REFNET_RECOVER_SERVICES": "compose", "REFNET_RECOVER_BACKGROUND": "crawler"}
    run = "--yes-run-restored-commands"
    return library.refnet("recover", "--from", "background", run, PATH="/nowhere", **compose)


@provokes("commands from the backup")
def commands_in_the_backup(library: Library) -> Result:
    compose = {"REFNET_RECOVER_SERVICES": "compose", "REFNET_RECOVER_STORAGE": "postgres,redis"}
    return library.refnet("recover", "--only", "config", "--force", **compose)


@provokes("target folder of")
def no_folder_for_the_configuration(library: Library) -> Result:
    backups, archive = library.folder / "adopted", library.folder / "config_20231203.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", library.folder / "config", ".env"], check=True)
    elsewhere = {"REFNET_BACKUP_DIR": str(backups), "REFNET_CONFIG_DIR": ""}
    library.refnet("adopt", archive, **elsewhere).succeeds()
    return library.refnet("recover", **elsewhere)


@provokes("refnet.prom does not exist")
def textfile_folder_missing(library: Library) -> Result:
    return library.refnet("metrics", "--textfile", "/nowhere/refnet.prom")


@provokes("Give the folder to this user")
def textfile_folder_of_another(library: Library) -> Result:
    folder = library.folder / "private"
    folder.mkdir(mode=0o500)
    return unprivileged(lambda: as_told(lambda: metrics._write(folder / "refnet.prom", lambda _: (b"", ""))))


@provokes("is not a valid journal of a restore")
def forged_journal(library: Library) -> Result:
    swaps = library.refnet.home / "swaps"
    swaps.mkdir(mode=0o700, exist_ok=True)
    forged = swaps / "obsidian-20261125_020000-0123abcd.swapping"
    forged.write_text("{}")
    try:
        return library.refnet("restore", "obsidian", "--force")
    finally:
        forged.unlink()


@provokes("it belongs to")
def home_of_another(library: Library) -> Result:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    home = library.folder / "of-root"
    home.mkdir(mode=0o755)
    return unprivileged(lambda: as_told(lambda: own_home(Settings(home=home))))


@provokes("is not read")
def settings_open_to_others(library: Library) -> Result:
    open_folder = library.folder / "ref-net"
    open_folder.mkdir()
    (open_folder / "refnet.toml").touch()
    open_folder.chmod(0o775)
    return library.refnet("--config", open_folder / "refnet.toml", "list")


@provokes("hour must be 0-23")
def wrong_setting(library: Library) -> Result:
    folder = library.folder / "wrong" / "ref-net"
    folder.mkdir(parents=True)
    (folder / "refnet.toml").write_text("\n" * 10 + "[schedule]\ndatabase = 'daily 25:00'\nprune = 'daily'\n")
    return library.refnet("--config", folder / "refnet.toml", "list")


@provokes("refnet-backup.log cannot be written")
def log_folder_missing(library: Library) -> Result:
    return library.refnet("backup", "config", REFNET_LOG_FOLDER="/nowhere")


@provokes("no broker answers")
def broker_down(library: Library) -> Result:
    return library.refnet("beat", REFNET_BROKER_URL="redis://127.0.0.1:1/0")


@provokes("another beat of")
def second_beat(library: Library) -> Result:
    lock = library.refnet.home / "beat" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            return library.refnet("beat")
        finally:
            library.refnet("broker", "stop")


@provokes("did not accept the message")
def message_not_taken(library: Library) -> Result:
    return library.refnet("notify", REFNET_NOTIFY_URLS="json://127.0.0.1:1")


@provokes("prune` removes them")
def leftovers(library: Library) -> Result:
    left = library.database / ".refnet-0123456789abcdef.part"
    left.touch()
    try:
        return library.refnet("monitor", "database")
    finally:
        left.unlink()


@provokes("is dated in the future")
def clock_jumped(library: Library) -> Result:
    manifest = next((library.refnet.backups / "config").glob("*.tar.gz.json"))
    before = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(before), "created": "2099-01-01T00:00:00+00:00"}))
    try:
        return library.refnet("monitor", "config")
    finally:
        manifest.write_text(before)


@provokes("verify` proves it")
def not_proven(library: Library) -> Result:
    return library.refnet("monitor", "obsidian")


@provokes("last run")
def failed_and_nothing_since(library: Library) -> Result:
    vault_emptied(library)
    return library.refnet("monitor", "obsidian")


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


@pytest.mark.parametrize("words", PROVOCATIONS)
def test_a_quoted_message_is_what_refnet_prints(words: str, library: Library) -> None:
    quoted = [message for message in blocks(PAGES[0], "text") if words in message]
    assert len(quoted) == 1, f"{words!r} is in {len(quoted)} messages of {PAGES[0].name}"
    ran = PROVOCATIONS[words](library)
    assert essence(quoted[0]) in essence(ran.out + ran.err), ran.out + ran.err


def test_every_quoted_message_is_provoked() -> None:
    for message in blocks(PAGES[0], "text"):
        assert any(words in message for words in PROVOCATIONS), message


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_runbook_names_every_script(page: Path) -> None:
    named = set(re.findall(r"[a-z]+(?:-[a-z]+)+\.sh", text(page)))
    assert named == {path.name for path in (ROOT / "scripts").glob("*.sh")}
