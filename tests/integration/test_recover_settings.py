"""Everything is lost but the copies: sources as tables, no config_dir. The settings come with the copies, or the recovery fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.command import Command, Result, url_of
from tests.documents import ROOT

from refnet.actions.protect_again import CameBack
from refnet.postgres.cluster import Cluster
from refnet.settings import Settings, variable
from refnet.store import backup_folder, settings_copies


class Tables:
    """A machine with [folders.notes] and [folders.more], a settings file outside of them, and a store or an encrypted folder."""

    def __init__(self, folder: Path, *, local: bool = False) -> None:
        self.folder, self.file = folder, folder / "etc" / "refnet.toml"
        for name in ("notes", "more", "etc", "nas", "home"):
            (folder / name).mkdir(mode=0o700)
        (folder / "notes" / "a.md").write_text("# a note\n")
        (folder / "more" / "b.md").write_text("# more\n")
        made = self.refnet("key", "new", "--json").json
        self.signer = made["signer"]
        (folder / "key").write_text(made["recovery_key"])
        (folder / "key").chmod(0o600)
        place = "local = true\n" if local else f'[stores.nas]\nurl = "file://{folder}/nas"\n'
        self.file.write_text(
            f'[schedule]\ndatabase = "off"\n'
            f"[encryption]\nrecipients = [{json.dumps(made['recipient'])}]\n{place}"
            f'[folders.notes]\npath = "{folder}/notes"\n[folders.more]\npath = "{folder}/more"\n'
        )
        self.file.chmod(0o600)

    def refnet(self, *arguments: str, **environment: str) -> Result:
        given = {"REFNET_DATABASE_URL": "", "REFNET_IDENTITY_FILE": str(self.folder / "key"), **environment}
        return Command(self.folder / "home", self.folder / "backups", "", given)(*arguments)

    def backup(self) -> None:
        self.refnet("--config", str(self.file), "backup", "notes", "more", "--no-prove").succeeds()

    def lose(self, *more: str | Path) -> None:
        for name in ("home", "notes", "more", "etc", *more):
            shutil.rmtree(self.folder / name)
        (self.folder / "home").mkdir()

    def sent(self) -> list[Path]:
        """The settings files in the store."""
        return sorted(self.folder.glob("nas/*/settings/*"))

    def restored(self) -> bool:
        found = [self.folder / "notes" / "a.md", self.folder / "more" / "b.md"]
        return [one.read_text() for one in found if one.exists()] == ["# a note\n", "# more\n"]


def steps_left(printed: str) -> list[str]:
    """The steps that a recovery printed, without their numbers."""
    listed = printed.partition("left to do on this machine:\n")[2]
    return re.findall(r"^  \d+\. (.*)$", listed, re.MULTILINE)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def test_the_page_and_the_store_suffice_for_sources_only_settings_name(tables: Tables) -> None:
    tables.backup()
    sent = tables.sent()
    tables.refnet("--config", str(tables.file), "copy").succeeds()
    assert tables.sent() == sent  # sent once
    assert len(sent) == 1
    tables.lose("backups")
    where = ("--from", f"file://{tables.folder}/nas", "--signer", tables.signer)
    tables.refnet("recover", *where, "--plan").succeeds()
    done = tables.refnet("recover", *where, "--json")
    done.succeeds()
    assert (done.json["complete"], done.json["missing"], sorted(done.json["ages"])) == (
        True,
        {},
        ["more", "notes"],
    )
    assert tables.restored()


def test_a_recovery_puts_signed_settings_in_force_makes_keys_and_names_the_steps_left(
    tables: Tables,
) -> None:
    tables.backup()
    sent = tables.file.read_text()
    tables.lose("backups")
    where = ("--store", f"file://{tables.folder}/nas", "--signer", tables.signer)
    done = tables.refnet("recover", *where).out
    file = tables.folder / "home" / "refnet.toml"
    assert f"the settings of the lost machine are in force: {file}" in done
    assert (file.read_text(), file.stat().st_mode & 0o777) == (sent, 0o600)
    assert [one.partition("   #")[0] for one in steps_left(done)] == [
        "refnet check",
        f"refnet schedule install{'' if os.geteuid() == 0 else ' --user'}",
        "refnet backup",
        "refnet key page",
    ]
    assert tables.refnet("key", "new", "--machine").out.startswith("nothing is missing\n")
    night = tables.refnet("backup", "notes", "--no-prove")
    night.succeeds()
    assert "copied to nas" in night.out


def test_a_recovery_killed_after_it_put_the_settings_in_force_names_the_steps_again(tables: Tables) -> None:
    tables.backup()
    tables.lose("backups")
    where = ("--store", f"file://{tables.folder}/nas", "--signer", tables.signer)
    steps = steps_left(tables.refnet("recover", *where).out)
    home = tables.folder / "home"
    (home / "recovered.json").rename(home / "recovery.json")  # as before its end was recorded
    (home / "keys" / "catalog").unlink()
    again = tables.refnet("recover", *where)
    assert again.code == 0, again.out + again.err
    assert "notes_" in again.out
    makes = "refnet key new --machine   # makes this machine's keys, which sign its copies"
    assert steps_left(again.out) == [makes, *steps]


def test_settings_of_the_configuration_come_with_keys_and_the_steps_left(tables: Tables) -> None:
    text = f'config_dir = "{tables.file.parent}"\nconfig.entries = ["refnet.toml"]\n{tables.file.read_text()}'
    tables.file.write_text(text)
    own = ("--config", str(tables.file))
    tables.refnet(*own, "backup", "config", "notes", "more", "--no-prove").succeeds()
    tables.lose("backups")
    where = ("--store", f"file://{tables.folder}/nas", "--signer", tables.signer)
    done = tables.refnet("recover", *where)
    assert done.code == 0, done.out + done.err
    assert tables.file.read_text() == text
    assert not (tables.folder / "home" / "refnet.toml").exists()
    assert f"made {tables.folder}/home/keys/signing" in done.out
    start = f"refnet --config {tables.file}"
    assert [one.partition("   #")[0] for one in steps_left(done.out)] == [
        f"{start} check",
        f"{start} schedule install{'' if os.geteuid() == 0 else ' --user'}",
        f"{start} backup",
        f"{start} key page",
    ]
    night = tables.refnet(*own, "backup", "notes", "--no-prove")
    assert "copied to nas" in night.out


@pytest.mark.parametrize("why", ["any signer", "a program of the backup"])
def test_settings_that_may_not_be_put_in_force_become_a_step(tables: Tables, why: str) -> None:
    if why == "a program of the backup":
        tables.file.write_text(f'{tables.file.read_text()}[postgres]\nbin_dir = "{tables.folder}"\n')
    tables.backup()
    tables.lose("backups")
    signer = ("--any-signer",) if why == "any signer" else ("--signer", tables.signer)
    done = tables.refnet("recover", "--store", f"file://{tables.folder}/nas", *signer)
    file = tables.folder / "home" / "refnet.toml"
    assert not file.exists()
    steps = steps_left(done.out)
    assert steps[0].startswith("install -D -m 600 ")
    assert steps[1].startswith("refnet key new --machine ")
    subprocess.run(["bash", "-c", steps[0]], check=True)
    assert file.exists()
    assert "notes_" in tables.refnet("backup", "notes", "--no-prove").out


def test_a_step_brings_the_artifacts_into_the_backup_folder_that_the_settings_name(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "other place"
    copy = settings_copies.keep(here, f'backup_dir = "{there}"\n'.encode(), datetime.now(UTC))
    (here / "notes").mkdir()
    environment = {"HOME": str(tmp_path), variable("home"): str(tmp_path / "home")}
    settings = Settings(home=tmp_path / "home", backup_dir=here)
    came_back = CameBack(settings, copy, copy.read_bytes(), True, environment)
    again = came_back.protect((), final=True)
    file = tmp_path / "home" / "refnet.toml"
    assert (again.done, file.exists()) == ((), False)
    for command, _ in again.steps[:2]:
        subprocess.run(["bash", "-c", command], check=True)
    assert (there / "notes").is_dir()
    assert file.read_bytes() == copy.read_bytes()


def test_a_step_never_copies_into_a_folder_that_unsigned_settings_name(tmp_path: Path) -> None:
    text = b'backup_dir = "/etc/cron.d"\n'
    copy = settings_copies.keep(tmp_path / "here", text, datetime.now(UTC))
    environment = {"HOME": str(tmp_path), variable("home"): str(tmp_path / "home")}
    settings = Settings(home=tmp_path / "home", backup_dir=tmp_path / "here")
    again = CameBack(settings, copy, text, False, environment).protect((), final=True)
    assert [command for command, _ in again.steps if "cron.d" in command] == []
    assert not (tmp_path / "home" / "refnet.toml").exists()


def test_signed_settings_with_a_hook_that_nobody_permitted_are_not_put_in_force(tables: Tables) -> None:
    ran = tables.folder / "ran"
    tables.file.write_text(f'{tables.file.read_text()}[hooks]\nafter_backup = "/usr/bin/touch {ran}"\n')
    tables.backup()
    ran.unlink(missing_ok=True)
    tables.lose("backups")
    where = ("--store", f"file://{tables.folder}/nas", "--signer", tables.signer)
    assert tables.refnet("recover", *where, "--force").code == 6
    assert not (tables.folder / "home" / "refnet.toml").exists()
    assert not ran.exists()


def test_what_no_settings_name_is_not_restored_and_there_is_no_rto(tables: Tables) -> None:
    tables.backup()
    tables.lose("backups", tables.sent()[0].parent.relative_to(tables.folder))
    where = ("--from", f"file://{tables.folder}/nas", "--signer", tables.signer)
    planned = tables.refnet("recover", *where, "--plan")
    assert planned.code == 1, planned.err
    assert "notes is not restored: neither the settings here nor those in the store name it" in planned.out
    done = tables.refnet("recover", *where)
    assert done.code == 1, done.err
    assert "NOT RESTORED: notes: the settings do not name it" in done.out
    assert "RTO" not in done.out
    again = tables.refnet("recover", "--plan")
    assert again.code == 1, again.err
    assert "problem: notes is not restored: the settings do not name it" in again.out


def test_a_copy_of_the_settings_by_another_key_is_not_read(tables: Tables, tmp_path: Path) -> None:
    tables.backup()
    other = tmp_path / "other"
    other.mkdir()
    forger = Tables(other)
    text = tables.file.read_text().replace(str(tables.folder), str(other))
    recipient = next(one for one in tables.file.read_text().splitlines() if "recipients" in one)
    lines = [recipient if "recipients" in one else one for one in text.splitlines()]
    forger.file.write_text("\n".join(lines))
    forger.backup()
    [own], [theirs] = tables.sent(), forger.sent()
    ours = own.parent
    shutil.copy(theirs, ours / theirs.name)
    shutil.copy(theirs, ours / theirs.name.replace(theirs.name[:8], "29990101"))
    tables.lose("backups")
    where = ("--from", f"file://{tables.folder}/nas", "--signer", tables.signer)
    tables.refnet("recover", *where).succeeds()
    assert tables.restored()


def test_an_encrypted_backup_folder_has_the_settings_too(tmp_path: Path) -> None:
    tables = Tables(tmp_path, local=True)
    tables.backup()
    assert not list((tmp_path / "backups").rglob("*.toml"))
    tables.lose()
    listed = tables.refnet("list")
    assert (listed.code, "are encrypted: `refnet list --store file://" in listed.out) == (0, True)
    for more in ((), ("--plan",)):
        tables.refnet("recover", *more).fails(
            2, "are encrypted", f"--store file://{tmp_path}/backups/encrypted"
        )
    local = {"REFNET_ENCRYPTION_LOCAL": "true"}
    tables.refnet("recover", "--signer", tables.signer, "--force", **local).succeeds()
    assert tables.restored()
    assert [*tmp_path.rglob("*.toml")] == [tmp_path / "home" / "refnet.toml"]  # in force again


def test_check_is_an_error_where_a_recovery_would_not_find_the_settings(tables: Tables) -> None:
    tables.backup()
    config = ("--config", str(tables.file))
    what = "would not find the settings"
    assert what not in tables.refnet(*config, "check").out
    next((tables.folder / "home" / "remote" / "nas").glob("settings.json")).unlink()
    shutil.rmtree(tables.folder / "backups" / ".refnet-settings")
    found = tables.refnet(*config, "check", "--json").json
    wrong = [one for one in found["checks"] if what in one["says"]]
    assert [one["state"] for one in wrong] == ["error", "error"]
    tables.backup()
    assert what not in tables.refnet(*config, "check").out


def test_an_unrestorable_source_stops_no_other_and_can_be_skipped(tables: Tables) -> None:
    tables.backup()
    shutil.rmtree(tables.folder / "notes")
    (tables.folder / "notes").write_text("not a folder\n")
    shutil.rmtree(tables.folder / "more")
    config = ("--config", str(tables.file))
    done = tables.refnet(*config, "recover")
    assert done.code == 1, done.err
    assert "NOT RESTORED: notes: " in done.out
    assert (tables.folder / "more" / "b.md").exists()
    assert "RTO" not in done.out
    skipped = tables.refnet(*config, "recover", "-q", "--skip", "notes", "--force")
    assert skipped.code == 1, skipped.err
    assert "NOT RESTORED: notes: left out by --skip" in skipped.out
    tables.refnet(*config, "recover", "--skip", "nothing").fails(2, "'nothing' is not a source of the set")


def test_a_recoverys_plan_exits_like_the_recovery_if_a_role_has_powers(
    server: Cluster, tmp_path: Path
) -> None:
    target = server.target("powers")
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE powers TEMPLATE template0")
        admin.execute("CREATE ROLE reads_all BYPASSRLS")
    try:
        with target.connect() as session:
            session.execute("CREATE TABLE t (id int PRIMARY KEY)")
            session.execute("ALTER TABLE t OWNER TO reads_all")
        refnet = Command(tmp_path / "home", tmp_path / "backups", url_of(target))
        refnet("backup", "database", "--no-prove").succeeds()
        with server.target().connect() as admin:
            admin.execute("DROP DATABASE powers WITH (FORCE)")
            admin.execute("DROP ROLE reads_all")
        planned = refnet("recover", "--plan")
        assert planned.code == 1
        why = "the role reads_all would be created with powers"
        assert why in planned.out
        assert [
            one["message"]
            for one in refnet("recover", "--plan", "--json").json["problems"]
            if why in one["message"]
        ]
        done = refnet("recover")
        assert (done.code, f"NOT RESTORED: database: {why}" in done.out) == (1, True)
        assert refnet("recover", "--role-powers", "--plan").code == 0
        done = refnet("recover", "--role-powers")
        assert done.code == 0, done.out
        assert "(RTO)" in done.out
    finally:
        with server.target().connect() as admin:
            admin.execute("DROP DATABASE IF EXISTS powers WITH (FORCE)")
            admin.execute("DROP ROLE IF EXISTS reads_all")


def test_a_recovery_that_skips_the_database_needs_no_artifact_of_it(tables: Tables) -> None:
    tables.backup()
    golden = ROOT / "tests" / "golden" / "backups" / "database"  # of another database
    shutil.copytree(golden, tables.folder / "backups" / "database")
    recover = ("--config", str(tables.file), "recover", "--plan")
    url = {"REFNET_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/shop"}
    tables.refnet(*recover, **url).fails(1, "no complete artifact of the database shop")
    planned = tables.refnet(*recover, "--skip", "database", **url)
    assert planned.code == 1, planned.err  # the settings name it
    assert "notes_" in planned.out
    assert "database is not restored: left out by --skip" in planned.out


def test_a_recovery_of_which_everything_is_left_out_is_refused(tables: Tables) -> None:
    tables.backup()
    skip = ("--skip", "notes", "--skip", "more")
    tables.refnet("--config", str(tables.file), "recover", *skip).fails(2, "--skip leaves nothing to recover")


def test_two_recoveries_at_once_do_not_restore_beside_each_other(tables: Tables) -> None:
    tables.backup()
    recover = ("--config", str(tables.file), "recover", "--force")
    locks = tables.folder / "home" / "locks" / ".recovery"
    locks.mkdir(parents=True, mode=0o700)
    with backup_folder.locked(locks, "a recovery"):
        tables.refnet(*recover).fails(
            5, f"the recovery is locked by another run of RefNet (process {os.getpid()})"
        )
    assert tables.refnet(*recover).code == 0
