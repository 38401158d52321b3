"""Copies to remote stores: after each backup and by hand; what is missing is said, and sent by the next run."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.command import Command
from tests.integration.at_terminal import on_a_terminal

from refnet import settings
from refnet.actions.backup import Options, backup
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.clock import Clock, utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets.folder import FolderBucket
from refnet.store.cutting import Cutting
from refnet.store.keys import MachineKeys, Opener, parse_keys
from refnet.store.remote import RemoteStore
from refnet.store.remote_manifests import Trust
from refnet.store.remote_records import RemoteRecords
from refnet.tasks import _said


@pytest.fixture(scope="module")
def refnet(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command with a folder of notes and two stores, of which `away` is not mounted."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("home", "notes", "near"):
        (folder / name).mkdir(mode=0o700)
    (folder / "notes" / "a.md").write_text("# a known note\n" * 1000)
    command = Command(folder / "home", folder / "backups", "", {"REFNET_DATABASE_URL": ""})
    made = command("key", "new", "--json").json
    (folder / "recovery").write_text(made["recovery_key"])
    _write(folder, made["recipient"])
    return command


def _write(folder: Path, *recipients: str) -> None:
    (folder / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{folder}/notes"\n[encryption]\nrecipients = {json.dumps(recipients)}\n'
        f'[stores.near]\nurl = "file://{folder}/near"\n[stores.away]\nurl = "file://{folder}/away"\n'
    )
    (folder / "refnet.toml").chmod(0o600)


def _unmount(folder: Path) -> None:
    (folder / "away").rename(folder / "disk")


def _mount(folder: Path) -> None:
    (folder / "disk").rename(folder / "away")


def _context(refnet: Command) -> Context:
    environment = {
        "REFNET_HOME": str(refnet.home),
        "REFNET_BACKUP_DIR": str(refnet.backups),
        "REFNET_LOG_FOLDER": "none",
    }
    return Context(settings.load(environment, refnet.home.parent, root=True, cores=2))


def _store(refnet: Command, name: str) -> RemoteStore:
    """The store as another process opens it, with the recovery key."""
    folder = refnet.home.parent
    keys = MachineKeys(refnet.home / "keys")
    given = parse_keys((folder / "recovery").read_bytes(), "recovery")
    trust = Trust(Opener(None, given.keys), frozenset([keys.signer().fingerprint]))
    return RemoteStore(name, FolderBucket(folder / name), folder / "elsewhere", trust)


def test_copies_after_a_backup_and_by_hand(refnet: Command) -> None:
    folder = refnet.home.parent
    assert "and prove it, then copy it to near, away" in refnet("backup", "notes", "--plan").out
    backup = refnet("backup", "notes")
    backup.fails(1, "is not copied to away", f"{folder}/away does not exist")
    assert re.search(
        r"copied to near: fetched, [0-9.]+ [KM]?i?B in [^:]*: ([0-9.]+ [KM]?i?B) sent, 0 B shared", backup.out
    )
    run = json.loads((refnet.home / "runs" / "journal.jsonl").read_text().splitlines()[-1])
    assert (run["ended"], run["reason"]) == ("failed", "copy")
    assert "away" in run["message"]

    near = _store(refnet, "near")
    [copy] = near.entries()
    local = folder / "backups" / "notes" / copy.name
    with near.artifact(copy).open() as reader:
        assert reader.read() == local.read_bytes()
    assert b"known" not in b"".join(one.read_bytes() for one in (folder / "near").rglob("*.age"))
    assert copy.document.evidence[-1].level == "proven"

    planned = refnet("copy", "--plan", "--json")
    assert planned.code == 1
    states = {one["store"]: (one["level"], bool(one["error"])) for one in planned.json["copies"]}
    assert states == {"near": ("fetched", False), "away": (None, True)}

    (folder / "away").mkdir(mode=0o700)
    planned = refnet("copy", "notes", "--plan", "--bandwidth", "20MB/s")
    planned.succeeds()
    assert f"would copy {copy.name} to away" in planned.out
    assert list((folder / "away").iterdir()) == []
    wrong = refnet("copy", copy.name, "--bandwidth", "20M")
    wrong.fails(
        2, "--bandwidth must be a speed from 1 KiB/s", "Did you mean 20480 KiB/s?", "such as 20 MiB/s"
    )
    sent = refnet("copy", copy.name, "--to", f"file://{folder}/away", "--bandwidth", "1 MB/s")
    sent.succeeds()
    assert "fetched" in sent.out
    again = refnet("copy", copy.name, "--to", f"file://{folder}/away", "--json").json["copies"]
    assert [(one["new"], one["sent"], one["shared"]) for one in again] == [(False, None, None)]
    done = refnet("copy", "--json")
    done.succeeds()
    assert [(one["level"], one["new"]) for one in done.json["copies"]] == [("fetched", False)] * 2
    assert len(_store(refnet, "away").entries()) == 1


def test_a_retried_task_sends_the_missing_copy_without_a_new_artifact(refnet: Command) -> None:
    folder, notes = refnet.home.parent, SourceName("notes", Kind.FOLDER)
    context = _context(refnet)
    _unmount(folder)
    (folder / "notes" / "b.md").write_text("# new\n")
    asked = context.clock.now()
    made = backup(context, notes, Options(since=asked))
    assert made
    with pytest.raises(RefnetError, match="is not copied to away") as error:
        _said(made)
    assert error.value.transient
    _mount(folder)
    again = backup(context, notes, Options(since=asked))
    assert again
    assert (again.earlier, again.manifest.name) == (True, made.manifest.name)
    assert _said(again) == {"outcome": "done before", "artifact": made.manifest.name}
    assert made.manifest.name in [one.name for one in _store(refnet, "away").entries()]


def test_a_terminal_shows_how_much_of_a_copy_has_arrived(refnet: Command) -> None:
    refnet("backup", "notes", "--no-prove")
    shown = []
    for option in ("--to", "-q", "--json"):
        place = refnet.home.parent / f"place{option}"
        place.mkdir(mode=0o700)
        more = () if option == "--to" else (option,)
        shown.append(on_a_terminal(refnet, "copy", "notes", "--to", f"file://{place}", *more))
        assert len([*place.rglob("*.age")]) == 4  # and the settings

    assert "copy to " in shown[0]
    assert "read back from " in shown[0]
    assert shown[1:] == ["", ""]


def test_a_retried_backup_sends_the_missing_copy_without_a_new_artifact(refnet: Command) -> None:
    folder, journal = refnet.home.parent, refnet.home / "runs" / "journal.jsonl"
    _unmount(folder)
    (folder / "notes" / "c.md").write_text("# newer\n")
    refnet("backup", "notes").fails(1, "is not copied to away")
    made = sorted((folder / "backups" / "notes").glob("*.tar.gz"))
    retried = refnet("backup", "notes", "--if-older", "1h")
    retried.fails(1, "is not copied to away")
    assert f"{made[-1].name}  " in retried.out
    assert "is new enough; no backup was made" in retried.out
    *_, last = map(json.loads, journal.read_text().splitlines())
    assert (last["ended"], last["reason"], last["artifact"]) == ("failed", "copy", made[-1].name)

    _mount(folder)
    planned = refnet("backup", "notes", "--if-older", "1h", "--plan")
    planned.succeeds()
    assert f"needs no backup: {made[-1].name} is new enough" in planned.out
    [sent] = refnet("backup", "notes", "--if-older", "60min", "--json").json["results"]
    assert (sent["outcome"], [one["new"] for one in sent["copies"]]) == ("done before", [False, True])
    assert sorted((folder / "backups" / "notes").glob("*.tar.gz")) == made
    *_, last = map(json.loads, journal.read_text().splitlines())
    assert (last["ended"], last["artifact"]) == ("done", made[-1].name)
    refnet("backup", "notes", "--if-older", "1w").fails(2, "'1w' is not a span of time")
    refnet("backup", "--table", "t", "--if-older", "1h").fails(2, "omit --table and --to")


def test_a_retry_makes_no_new_artifact_however_long_the_sending_took(refnet: Command) -> None:
    folder = refnet.home.parent
    days = 1.0
    context = replace(_context(refnet), clock=Clock(lambda: utc_now() + timedelta(days=days)))
    notes, retried = SourceName("notes", Kind.FOLDER), Options(if_older=timedelta(minutes=30))
    _unmount(folder)
    first = backup(context, notes, retried)
    assert first
    assert (first.earlier, first.exit) == (False, Exit.FAILED)
    journal = refnet.home / "runs" / "journal.jsonl"
    *before, last = journal.read_text().splitlines()
    slow = json.loads(last) | {"seconds": 5 * 3600.0}
    journal.write_text("\n".join([*before, json.dumps(slow), ""]))

    days += 5 / 24
    again = backup(context, notes, retried)
    assert again
    assert (again.earlier, again.manifest.name) == (True, first.manifest.name)
    _mount(folder)
    sent = backup(context, notes, retried)
    assert sent
    assert (sent.earlier, sent.exit) == (True, Exit.DONE)
    other = backup(context, notes, retried)
    assert other
    assert (other.earlier, other.exit) == (False, Exit.DONE)


def test_nothing_is_copied_into_the_empty_folder_of_an_unmounted_disk(refnet: Command) -> None:
    folder = refnet.home.parent
    _unmount(folder)
    (folder / "away").mkdir(mode=0o700)
    for words in (("copy", "--to", "away"), ("copy", "--plan", "--to", f"file://{folder}/away")):
        refnet(*words).fails(1, "is empty, but this machine sent", "is it mounted?", "store accept")
    assert list((folder / "away").iterdir()) == []
    rows = {one["what"]: one for one in refnet("check", "--json").json["checks"]}
    assert "is it mounted?" in rows["store away"]["says"]

    (folder / "disk").rename(folder / "old")
    refnet("store", "accept", f"file://{folder}/away", "--force").succeeds()
    refnet("copy", "--to", "away").succeeds()
    assert len(_store(refnet, "away").entries()) == 1


def test_copies_deleted_from_a_store_raise_an_alarm_until_accepted(refnet: Command) -> None:
    first = min((refnet.home.parent / "near").glob("*/manifests/*"))
    first.unlink()
    assert "refnet store accept" in refnet("list", "--store", "near").out
    planned = refnet("store", "accept", "near", "--plan")
    planned.succeeds()
    assert "missing: number " in planned.out
    refnet("store", "accept", "near").fails(6, "copies in near are missing")
    [gap] = refnet("store", "accept", "near", "--force", "--json").json["gaps"]
    assert "missing: number " in gap["why"]
    assert refnet("list", "--store", "near", "--json").json["gaps"] == []
    assert _store(refnet, "near").contents().gaps == (), "a machine without records reads it there"
    refnet("store", "accept", "near", "--force").fails(2, "has no gap")


def test_without_a_recipient_nothing_leaves_the_machine(refnet: Command) -> None:
    folder = refnet.home.parent
    (folder / "plain").mkdir(mode=0o700)
    _write(folder)
    rows = {one["what"]: one for one in refnet("check", "--json").json["checks"]}
    assert rows["copies near"]["state"] == "error"
    assert "encryption.recipients is not set" in rows["copies near"]["says"]
    planned = refnet("backup", "notes", "--plan")
    assert planned.code == 2
    assert "nothing can be copied to near, away: encryption.recipients is not set" in planned.err
    assert "would back up" in planned.out
    made = refnet("backup", "notes", "--no-prove")
    assert made.code == 1
    note, *_ = made.err.splitlines()
    assert "nothing can be copied to near, away: encryption.recipients is not set" in note
    assert made.out.startswith("notes")
    refnet("copy", "--to", f"file://{folder}/plain", REFNET_ENCRYPTION_RECIPIENTS="").fails(
        2, "encryption.recipients"
    )
    assert list((folder / "plain").iterdir()) == []


def test_an_unknown_store_or_artifact_is_refused(refnet: Command) -> None:
    refnet("copy", "--to", "nowhere").fails(2, "nowhere")
    refnet("copy", "notes_20200101_000000.tar.gz").fails(2, "not in the catalog")
    refnet("copy", REFNET_CONFIG=os.devnull).fails(2)


def test_a_copy_that_was_not_read_back_for_30_days_is_only_sent_until_the_next_run(tmp_path: Path) -> None:
    for name in ("home", "notes", "near", "away"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "notes" / "a.md").write_text("# a note\n")
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    _write(tmp_path, refnet("key", "new", "--json").json["recipient"])
    refnet("backup", "notes", "--no-prove").succeeds()
    cutting = Cutting.of(MachineKeys.in_home(tmp_path / "home").catalog().revealed())
    records = RemoteRecords(tmp_path / "home" / "remote" / "near", cutting)
    records.add_read_back(utc_now() - timedelta(days=31), records.read_back(), [])

    def state(store: str) -> str:
        return str(refnet("list", "--store", store, "--json").json["artifacts"][0]["state"])

    assert (state("near"), state("away")) == ("sent", "fetched")
    assert "\nstate   " in (shown := refnet("show", "notes", "--store", "near").out)
    assert re.search(r"^state +sent$", shown, re.MULTILINE)
    said = {one["check"]: one for one in refnet("monitor", "--json").json["checks"]}["copy near"]
    assert said["status"] == "warning"
    assert "was not read back from there for 30 days: `refnet copy` does it" in said["says"]

    assert "notes_" in refnet("copy", "notes", "--store", "near").out
    assert state("near") == "fetched"
