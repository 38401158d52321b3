"""Globals that somebody writes into an unsigned backup folder: `refnet copy` signs them, and they gain no power."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command
from tests.integration.test_golden_pages import commands
from tests.wal_server import WalServer, wal_server

from refnet.postgres.binaries import Binaries

_MALLORY = """
CREATE ROLE mallory;
ALTER ROLE mallory WITH SUPERUSER INHERIT CREATEROLE NOCREATEDB LOGIN REPLICATION BYPASSRLS PASSWORD 'known';
GRANT pg_execute_server_program TO clerk;
ALTER ROLE clerk SET session_preload_libraries TO '/tmp/evil';
"""
_POWERS = """
SELECT rolname, rolsuper, rolreplication, pg_has_role(oid, 'pg_execute_server_program', 'MEMBER'), rolconfig
FROM pg_roles WHERE rolname IN ('clerk', 'mallory') ORDER BY rolname
"""
_GIVEN = [("clerk", False, False, False, None)]


class Machine:
    """A server whose role has a power, the page that lists it, and globals that somebody forged after it was printed."""

    def __init__(self, server: WalServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        for name in ("home", "backups", "store"):
            (folder / name).mkdir(parents=True)
        self.refnet = Command(folder / "home", folder / "backups", "none")
        made = self.refnet("key", "new", "--json").json
        (folder / "key").write_text(made["recovery_key"])
        (folder / "key").chmod(0o600)
        server.sql("CREATE ROLE clerk REPLICATION", "CREATE DATABASE shop OWNER clerk")
        settings = folder / "home" / "refnet.toml"
        settings.write_text(
            f'[clusters.main]\nurl = "{server.url.replace("replica@", "refnet@")}"\n'
            f"[encryption]\nrecipients = [{json.dumps(made['recipient'])}]\n"
            f'[postgres]\nbin_dir = "{server.binaries.folder}"\n'
        )
        settings.chmod(0o600)
        assert self.refnet("backup", "main", "--no-prove").code == 0
        with settings.open("a") as file:
            file.write(f'[stores.nas]\nurl = "file://{folder}/store"\n')
        page = ("key", "page", "--page", folder / "page.txt", "--identity-file", folder / "key")
        assert self.refnet(*page).code == 0
        self.forge()
        self.refnet("copy").succeeds()
        self.kept = settings.read_text()

    def forge(self) -> None:
        """Add roles and powers to the newest globals; the manifest fits, as whoever writes the folder can see to."""
        [artifact] = (self.folder / "backups").glob("main-globals/main-globals_*.sql.gz")
        manifest = artifact.with_name(f"{artifact.name}.json")
        found = json.loads(manifest.read_text())
        data = gzip.compress(gzip.decompress(artifact.read_bytes()) + _MALLORY.encode())
        found |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest.write_text(json.dumps(found, indent=2))
        artifact.write_bytes(data)

    def lose(self) -> None:
        for name in ("home", "backups"):
            shutil.rmtree(self.folder / name)
            (self.folder / name).mkdir()
        file = self.folder / "home" / "refnet.toml"
        file.write_text(self.kept)
        file.chmod(0o600)
        self.server.stop(signal.SIGKILL)
        shutil.rmtree(self.server.data)
        self.server.make()
        self.server.start()


@pytest.fixture
def machine(wheel: Binaries, short_folder: Path) -> Iterator[Machine]:
    try:
        with wal_server(wheel, short_folder / "signed") as server:
            yield Machine(server, short_folder / "forged")
    finally:
        shutil.rmtree(short_folder / "forged", ignore_errors=True)


def test_what_the_page_does_not_list_is_withheld_and_everything_else_restored(machine: Machine) -> None:
    [words] = commands(machine.folder / "page.txt")
    assert "--permit" in words
    machine.lose()
    recover = (*words[1:], "--identity-file", machine.folder / "key")
    done = machine.refnet(*recover)
    assert done.code == 6, done.out + done.err
    assert "NOT RESTORED" not in done.out
    for power in ("mallory: SUPERUSER", "clerk: member of pg_execute_server_program", "session_preload"):
        assert re.search(rf"WITHHELD: .*{power}", done.out), done.out
    assert machine.server.sql(_POWERS) == [*_GIVEN, ("mallory", False, False, False, None)]
    assert machine.server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'mallory'") == [(None,)]
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'"
    assert machine.server.sql(owner) == [("clerk",)]


def test_a_drill_of_the_recovery_names_the_powers_that_no_page_lists(machine: Machine) -> None:
    key = ("--identity-file", machine.folder / "key")
    done = machine.refnet("drill", "--recovery", "--store", "nas", *key, "--json")
    [asked] = (one for one in done.json["recovery"]["asks"] if "no recovery page lists" in one)
    assert "clerk: member of pg_execute_server_program" in asked
    assert machine.server.sql(_POWERS) == [("clerk", False, True, False, None)]  # nothing live was touched
