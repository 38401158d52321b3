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
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.command import Command, Result, url_of
from tests.documents import ROOT, blocks, essence, text
from tests.end_to_end.provocations import (
    PROVOCATIONS,
    READER,
    ROLE,
    Library,
    as_told,
    provokes,
    unprivileged,
    vault_emptied,
)
from tests.row_proxy import RowFault, row_proxy

from refnet.cli import monitor
from refnet.context import own_home
from refnet.postgres.cluster import Cluster
from refnet.settings import Settings

PAGES = [ROOT / "docs" / "runbook.md", ROOT / "docs" / "runbook.ja.md"]
_SUMMARIZED = """
CREATE TABLE papers (id serial PRIMARY KEY, doi text UNIQUE, year int, title text);
CREATE INDEX ON papers (year);
CREATE INDEX ON papers (title);
INSERT INTO papers (year) SELECT generate_series(1, 300);
CREATE TABLE summaries (paper_id int REFERENCES papers ON DELETE RESTRICT);
CREATE VIEW recent AS SELECT * FROM papers;
"""


@pytest.fixture(scope="module")
def library(server: Cluster, short_folder: Path) -> Iterator[Library]:
    folder = short_folder / "runbook"
    for name in ("home", "config"):
        (folder / name).mkdir(parents=True)
    for name in (".env", "compose.yaml"):
        (folder / "config" / name).write_text("\n")
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE library TEMPLATE template0")
        admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'right'")
        admin.execute(f"CREATE ROLE {READER}")
    target = server.target("library")
    environment = {"REFNET_CONFIG_DIR": str(folder / "config"), "REFNET_VAULT_DIR": str(folder / "vault")}
    refnet = Command(folder / "home", folder / "backups", url_of(target), environment)
    library = Library(refnet, target, folder, server.data / "pg_hba.conf")
    for command in ("network sample --papers 100", "network vault"):
        refnet(*command.split()).succeeds()
    library.sql(f"GRANT SELECT ON papers TO {READER}")
    refnet("backup", "--no-prove").succeeds()
    yield library
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE library WITH (FORCE)")
        admin.execute(f"DROP ROLE {ROLE}, {READER}")


@provokes("SHA-256 differs from the manifest's")
def artifact_damaged(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_020000.sql.gz"
    whole = bytearray(library.newest().read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    copy.write_bytes(whole)
    shutil.copy(library.newest().with_name(f"{library.newest().name}.json"), f"{copy}.json")
    return library.refnet("verify", copy)


@provokes("differs from the database")
def rows_lost_on_the_way(library: Library) -> Result:
    folder = library.folder / "wire"
    folder.mkdir()
    parts = library.target.parts
    upstream = Path(parts["host"]) / f".s.PGSQL.{parts['port']}"
    with psycopg.connect(library.target.conninfo) as session:
        (title,) = session.execute("SELECT title FROM papers LIMIT 1").fetchone() or ("",)
    with row_proxy(folder, upstream, RowFault.LOST, f"\t{title}\t".encode(), 1):
        url = url_of(library.target, host=str(folder))
        return library.refnet("backup", "database", REFNET_DATABASE_URL=url)


@provokes("no server accepts")
def broken_view(library: Library) -> Result:
    library.sql("CREATE TABLE parts (a int); INSERT INTO parts VALUES (1)")
    library.sql("CREATE MATERIALIZED VIEW ratio AS SELECT 1 / a FROM parts; UPDATE parts SET a = 0")
    try:
        return library.refnet("backup", "database")
    finally:
        library.sql("DROP TABLE parts CASCADE")


@provokes("its footer is missing")
def artifact_cut(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_010000.sql.gz"
    copy.write_bytes(library.newest().read_bytes()[:5000])
    return library.refnet("restore", "database", copy, "--force")


@provokes("cannot be used")
def manifest_of_another(library: Library) -> Result:
    copy = library.folder / "refnet_20261125_030000.sql.gz"
    shutil.copy(library.newest(), copy)
    Path(f"{copy}.json").write_text('{"format": 4}')
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
        "restore", "database", "--plan", REFNET_DATABASE_URL=url_of(library.target, user=ROLE)
    )


@provokes("roles missing on the server")
def no_roles(library: Library) -> Result:
    library.sql(f"REVOKE ALL ON papers FROM {READER}; DROP ROLE {READER}")
    try:
        return library.refnet("restore", "database", "--force")
    finally:
        library.sql(f"CREATE ROLE {READER}; GRANT SELECT ON papers TO {READER}")


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


def settings(library: Library, name: str, tables: str) -> Command:
    """The command with a settings file that holds `tables`, and a home and a backup folder of its own."""
    folder = library.folder / name
    folder.mkdir()
    (folder / "refnet.toml").write_text(tables)
    (folder / "refnet.toml").chmod(0o600)
    return Command(folder, folder / "backups", "", {"REFNET_CONFIG": str(folder / "refnet.toml")})


@provokes("Restore the roles of")
def roles_dropped(library: Library) -> Result:
    refnet = settings(library, "roles", f'[clusters.main]\nurl = "{url_of(library.target)}"\n')
    library.sql("CREATE ROLE app")
    try:
        refnet("backup", "main-globals", "--no-prove").succeeds()
    finally:
        library.sql("DROP ROLE app")
    return refnet("restore", "main-globals", "--plan")


@provokes("between the snapshots of the databases")
def several_databases(library: Library) -> Result:
    urls = {"one": url_of(library.target), "two": url_of(library.target.database("postgres"))}
    refnet = settings(
        library, "several", "".join(f'[databases.{n}]\nurl = "{url}"\n' for n, url in urls.items())
    )
    return refnet("backup", "one", "two", "--no-prove")


@provokes("docker is not on PATH")
def no_docker(library: Library) -> Result:
    compose = {"REFNET_RECOVER_SERVICES": "compose", "REFNET_RECOVER_BACKGROUND": "crawler"}
    run = "--yes-run-restored-commands"
    return library.refnet("recover", "--from", "background", run, PATH="/nowhere", **compose)


@provokes("commands from the backup")
def commands_in_the_backup(library: Library) -> Result:
    compose = {"REFNET_RECOVER_SERVICES": "compose", "REFNET_RECOVER_STORAGE": "postgres,redis"}
    return library.refnet("recover", "--only", "config", "--force", PATH="/nowhere", **compose)


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
    return unprivileged(
        lambda: as_told(lambda: monitor._write_metrics(folder / "refnet.prom", lambda _: (b"", "")))
    )


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


@provokes("dated in the future: ")
def clock_jumped(library: Library) -> Result:
    library.refnet("backup", "config", "--no-prove").succeeds()  # another one has the right time
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


@pytest.mark.parametrize(
    ("page", "title", "after"),
    [
        ("runbook.md", "Recovery after total loss", "The stack of containers"),
        ("runbook.ja.md", "完全データ損失からの復旧", "コンテナーのスタック"),
    ],
)
def test_a_total_loss_fits_on_two_screens(page: str, title: str, after: str) -> None:
    _, _, rest = text(ROOT / "docs" / page).partition(f"### 1. {title}\n")
    section, _, more = rest.partition(f"#### {after}\n")
    assert more
    lines = section.splitlines()
    assert len(lines) < 70  # with its heading
    assert max(map(len, lines)) <= 150
