"""encryption.local: whoever has the backup folder cannot read it, and the key on paper brings everything back from it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

MARKER = "a title that nobody may read"
#: It does not compress: an archive has it as it is.
NOTE = random.Random(1).randbytes(8000)
#: The files of a backup folder that say nothing.
_OWN = {".refnet-store.json", ".refnet-lock"}


class Machine:
    """A machine with a database, a configuration that has the settings, and a folder of notes."""

    def __init__(self, folder: Path, home: Path, target: Target) -> None:
        self.folder, self.home, self.target = folder, home, target
        self.config, self.notes, self.backups = folder / "config", folder / "notes", folder / "backups"
        for path in (self.config, self.notes):
            path.mkdir()
        (self.notes / "a.bin").write_bytes(NOTE)
        (self.config / "compose.yaml").write_text("services: {}\n")
        (self.config / ".env").write_text(f"PASSWORD={MARKER}\n")
        with target.connect() as session:
            session.execute("CREATE TABLE papers (id int PRIMARY KEY, title text)")
            session.execute("INSERT INTO papers SELECT 1, %s", (MARKER,))
        made = Command(home, self.backups, "")("key", "new", "--json").json
        self.signer, self.key = made["signer"], folder / "key"
        self.key.write_text(made["recovery_key"])
        self.key.chmod(0o600)
        self.settings = self.config / "refnet.toml"
        self.settings.write_text(
            f'database_url = "{url_of(target)}"\nbackup_dir = "{self.backups}"\nconfig_dir = "{self.config}"\n'
            f'[folders.notes]\npath = "{self.notes}"\n[encryption]\nlocal = true\n'
            f'recipients = ["{made["recipient"]}"]\n[stores.nas]\nurl = "file://{folder}/nas"\n'
        )
        self.settings.chmod(0o600)

    @property
    def refnet(self) -> Command:
        unset = dict.fromkeys(("REFNET_DATABASE_URL", "REFNET_BACKUP_DIR"), "")
        return Command(self.home, self.backups, "", {**unset, "REFNET_CONFIG": str(self.settings)})

    @property
    def with_key(self) -> tuple[str, str]:
        return "--identity-file", str(self.key)

    def is_readable(self) -> bool:
        """Whether something of what is protected is in the backup folder."""
        there = (one for one in self.backups.rglob("*") if one.is_file() and one.name not in _OWN)
        found = [one.read_bytes() for one in there]
        sealed = all(one.startswith(b"age-encryption.org/v1\n") for one in found if one)
        known = (MARKER.encode(), NOTE[400:440], b"CREATE TABLE")
        return not sealed or any(one in data for data in found for one in known)

    def pieces(self) -> set[str]:
        return {one.name for one in self.backups.glob("encrypted/*/pieces/*.age")}

    def unsealed(self) -> list[str]:
        """The files in REFNET_HOME that are not encrypted yet."""
        return sorted(one.name for one in (self.home / "unsealed").rglob("*") if "refnet-" not in one.name)


@pytest.fixture(scope="module")
def machine(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder, target = tmp_path_factory.mktemp("sealed"), server.target("sealed")
    folder.chmod(0o711)
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE sealed TEMPLATE template0")
    yield Machine(folder, folder / "home", target)
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS sealed WITH (FORCE)")


def test_a_backup_leaves_nothing_that_can_be_read(machine: Machine) -> None:
    refnet = machine.refnet
    planned = refnet("backup", "database", "--plan")
    assert f"into {machine.backups}/encrypted and prove it, then copy it to nas" in planned.out
    made = refnet("backup")  # the other store is not mounted
    assert made.code == 1, made.err
    assert made.err.count("is not copied to nas") == 3
    assert made.out.count("encrypted into the backup folder: fetched") == 3
    assert made.out.count("proven") == 3
    assert not machine.is_readable()
    assert machine.unsealed() == ["config", "database", "notes"]
    listed = refnet("list", "--json").json
    assert {one["state"] for one in listed["artifacts"]} == {"fetched"}
    assert {tuple(one["notes"]) for one in listed["artifacts"]} >= {("proven before it was encrypted",)}
    assert "not_encrypted" not in listed
    said = refnet("monitor", "--json").json
    checks = {(one["source"], one["check"]): one for one in said["checks"]}
    assert {(one["state"], one["protected"], one["rto_measured_by"]) for one in said["sources"]} == {
        ("fetched", True, "proof")
    }
    assert (
        checks["database", "proof"]["says"] == "the newest is fetched, and was proven before it was encrypted"
    )
    assert checks["database", "copy local"]["status"] == "ok"
    assert checks[None, "copy nas"]["status"] == "critical"
    assert (None, "not encrypted") not in checks


def test_a_copy_that_failed_is_sent_later_without_the_key(machine: Machine) -> None:
    (machine.folder / "nas").mkdir(mode=0o700)
    sent = machine.refnet("copy")
    sent.succeeds()
    assert sent.out.count("copied to nas: fetched") == 3
    [copied, *_] = machine.refnet("list", "notes", "--store", "nas", "--json").json["artifacts"]
    assert copied["state"] == "fetched"
    where = ("--store", "nas", *machine.with_key)
    assert "nas: intact" in machine.refnet("verify", "database", "--level", "intact", *where).out


def test_what_needs_no_content_needs_no_key_and_the_rest_does(machine: Machine) -> None:
    refnet = machine.refnet
    name = next(one for one in refnet.names() if one.endswith(".sql.gz"))
    refnet("show", "database").succeeds()
    refnet("pin", name).succeeds()
    assert "pinned" in refnet("list").out
    refnet("forget", name, "--force").fails(2, "is pinned")
    refnet("unpin", name).succeeds()
    refnet("prune", "--plan").succeeds()
    assert refnet("backup", "database", "--if-older", "5h").out.count("is new enough") == 1
    for command in (("verify", "database"), ("restore", "database", "--plan"), ("cat", "notes", "a.bin")):
        refnet(*command).fails(2, "the recovery key is needed", "--identity-file")
    assert refnet("diff", "notes", "live", *machine.with_key).code == 0
    marks = machine.home / "remote" / "local" / "marks"
    for one in refnet("list", "--json").json["artifacts"]:
        refnet("pin", one["name"]).succeeds()
    for path in marks.iterdir():
        path.write_text("{")
    assert refnet("list").out.count("its marks cannot be read") == 3
    for name in refnet.names():
        refnet("unpin", name).succeeds()


def test_a_drill_without_the_key_says_that_it_could_not_verify(machine: Machine) -> None:
    refnet = machine.refnet
    drilled = refnet("drill", "database")
    assert drilled.code == 3
    assert "could not verify" in drilled.out
    assert "the recovery key is needed" in drilled.out
    says = {one["check"]: one for one in refnet("monitor", "database", "--json").json["checks"]}
    assert says["drill"]["status"] == "warning"
    assert "could not verify" in says["drill"]["says"]
    assert says["proof"]["status"] == "ok"
    refnet("drill", "notes", *machine.with_key).succeeds()
    states = {one["source"]: one["state"] for one in refnet("list", "--json").json["artifacts"]}
    assert states == {"config": "fetched", "database": "fetched", "notes": "proven"}


def test_a_database_is_restored_with_the_key(machine: Machine) -> None:
    with machine.target.connect() as session:
        session.execute("DELETE FROM papers")
    machine.refnet("restore", "database", *machine.with_key, "--force").succeeds()
    with machine.target.connect() as session:
        assert session.execute("SELECT title FROM papers").fetchall() == [(MARKER,)]


def test_what_was_not_encrypted_is_named_until_it_is(machine: Machine) -> None:
    refnet = machine.refnet
    refnet("backup", "notes", "--no-prove", REFNET_ENCRYPTION_LOCAL="false").succeeds()
    assert machine.is_readable()
    path = next((machine.backups / "notes").glob("*.tar.gz"))
    assert f"not encrypted: {path} (`refnet copy --store local`" in refnet("list").out
    warned = [one for one in refnet("monitor", "--json").json["checks"] if one["check"] == "not encrypted"]
    assert warned[0]["status"] == "warning"
    assert path.name in warned[0]["says"]
    refnet("pin", path.name, REFNET_ENCRYPTION_LOCAL="false").succeeds()
    assert "would copy" in refnet("copy", "--to", "local", "--plan").out
    sealed = refnet("copy", "--to", "local")
    assert sealed.code == 0
    assert "the copies of the settings file in the backup folder are removed" in sealed.err
    assert not machine.is_readable()
    assert {one["name"]: one["marks"]["pinned"] for one in refnet("list", "--json").json["artifacts"]}[
        path.name
    ]
    assert "not encrypted" not in refnet("list").out + refnet("monitor").out


def test_a_loss_is_found_by_the_manifests_alone_and_can_be_accepted(machine: Machine) -> None:
    refnet, notes = machine.refnet, [machine.notes / f"{number}.md" for number in range(40)]
    for path in notes:
        path.write_text("# a note\n")
    refnet("backup", "notes", "--no-prove").succeeds()
    for path in notes:
        path.unlink()
    shrank = refnet("backup", "notes", "--no-prove")
    assert "SHRUNK" in shrank.out
    assert "not copied to nas: it shrank" in shrank.out
    assert "critical" in {one["status"] for one in refnet("monitor", "notes", "--json").json["checks"]}
    name = refnet("list", "notes", "--json").json["artifacts"][-1]["name"]
    refnet("accept", name).succeeds()
    assert "shrank, accepted" in refnet("list", "notes").out
    sent = refnet("copy", "notes")
    sent.succeeds()
    assert f"{name}: copied to nas: fetched" in sent.out
    assert "shrank, accepted" in refnet("list", "notes", "--store", "nas").out

    before = refnet("list", "notes", "--json").json["artifacts"][-2]
    pieces = machine.pieces()
    refnet("forget", before["name"], "--force").succeeds()
    assert before["name"] not in refnet.names()
    assert machine.pieces() < pieces
    refnet("verify", name, *machine.with_key).succeeds()
    assert refnet("list", "--json").json["gaps"] == []
    empty = Command(machine.folder / "empty", machine.folder / "none", "", {"REFNET_DATABASE_URL": ""})
    place = (
        "--store",
        f"file://{machine.backups}/encrypted",
        "--signer",
        refnet("key", "show", "--json").json["signer"],
    )
    seen = empty("list", *place, *machine.with_key, "--json").json
    assert seen["gaps"] == [], "a machine without records does not take it for an attack"
    assert before["name"] not in [one["name"] for one in seen["artifacts"]]


@pytest.mark.parametrize("gone", [".", "encrypted"])
def test_an_alarm_says_that_the_disk_is_not_mounted_and_nothing_is_made(machine: Machine, gone: str) -> None:
    there, away = machine.backups / gone, machine.folder / "away"
    there.rename(away)
    try:
        monitored = machine.refnet("monitor")
        assert monitored.code == 2, monitored.out + monitored.err
        assert "is not the store" in monitored.out or "encrypted does not exist" in monitored.out
        machine.refnet("backup", "notes").fails(1, str(machine.backups))
        assert machine.unsealed() == ["config", "database", "notes"]
    finally:
        shutil.rmtree(there, ignore_errors=True)
        away.rename(there)


def test_a_killed_dump_leaves_nothing_readable_and_is_removed_later(machine: Machine) -> None:
    parts = machine.home / "unsealed" / "database"
    with machine.target.connect() as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE papers IN ACCESS EXCLUSIVE MODE")  # the dump waits, its draft is there
        run = machine.refnet.start("backup", "database")
        run.until(lambda: list(parts.glob(".refnet-*.part")), "the draft")
        os.killpg(run.process.pid, signal.SIGKILL)
        run.end()
    assert not machine.is_readable()
    machine.refnet("backup", "database", "--no-prove").succeeds()
    assert machine.unsealed() == ["config", "database", "notes"]


def test_an_empty_machine_recovers_from_the_backup_folder_and_the_key(
    machine: Machine, server: Cluster
) -> None:
    for path in (machine.config, machine.notes, machine.home):
        shutil.rmtree(path)
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE sealed WITH (FORCE)")
    other = machine.folder / "other"
    refnet = Command(machine.home, other, "", {"REFNET_DATABASE_URL": ""})
    place = f"file://{machine.backups}/encrypted"
    done = refnet("recover", "--from", place, "--signer", machine.signer, *machine.with_key, "--force")
    assert done.code == 0, done.out + done.err
    assert "the fetched artifacts were removed, because they were not encrypted" in done.out
    assert (machine.notes / "a.bin").read_bytes() == NOTE
    assert MARKER in (machine.config / ".env").read_text()
    with machine.target.connect() as session:
        assert session.execute("SELECT title FROM papers").fetchall() == [(MARKER,)]
    assert [one.name for one in other.rglob("*.gz")] == []
    assert not machine.is_readable()

    machine.refnet("key", "new", "--machine").succeeds()
    (machine.notes / "a.bin").write_bytes(b"lost again")
    own = ("--signer", machine.signer, *machine.with_key)
    again = machine.refnet("recover", "--force", *own)
    assert again.code == 0, again.out + again.err
    assert (machine.notes / "a.bin").read_bytes() == NOTE
    assert not machine.is_readable()
    assert machine.unsealed() == ["config", "database", "notes"]


@pytest.mark.parametrize("recipients", ["", "recipients = []\n"])
def test_without_a_recipient_nothing_is_made(tmp_path: Path, recipients: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{tmp_path}/notes"\n[encryption]\nlocal = true\n{recipients}'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    refnet("backup", "notes").fails(
        2, "encryption.local", "encryption.recipients is not set", "refnet key new"
    )
    assert not (tmp_path / "backups").exists()
    refnet("key", "new", "--json").succeeds()
    checked = refnet("check", "--json").json
    wrong = [one["says"] for one in checked["checks"] if one["state"] == "error"]
    assert any("encryption.local is true, and encryption.recipients is not set" in one for one in wrong), (
        wrong
    )


def test_without_the_keys_of_this_machine_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    recipient = json.dumps([refnet("key", "new", "--json").json["recipient"]])
    (tmp_path / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{tmp_path}/notes"\n[encryption]\nlocal = true\nrecipients = {recipient}\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    (tmp_path / "home" / "keys" / "signing").unlink()
    for plan in ((), ("--plan",)):
        refnet("backup", "notes", *plan).fails(2, "no signing key", "refnet key new")
    assert list((tmp_path / "backups").rglob("*.gz")) == []
    assert list((tmp_path / "home" / "unsealed").rglob("*.gz")) == []
