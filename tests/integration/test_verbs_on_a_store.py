"""`--store` of the commands that read artifacts: a copy is listed, shown, verified, printed and restored where it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.command import Command


@pytest.fixture(scope="module")
def refnet(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command with a folder of notes, and a copy of its backup in a store."""
    return _sent(tmp_path_factory.mktemp("store"))


def _sent(folder: Path) -> Command:
    for name in ("home", "notes", "nas"):
        (folder / name).mkdir(mode=0o700)
    (folder / "notes" / "a.md").write_text("# a note\n")
    (folder / "notes" / "b.md").write_text("# another\n")
    command = Command(folder / "home", folder / "backups", "", {"REFNET_DATABASE_URL": ""})
    made = command("key", "new", "--json").json
    (folder / "key").write_text(made["recovery_key"])
    (folder / "key").chmod(0o600)
    (folder / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{folder}/notes"\n[encryption]\nrecipients = {json.dumps([made["recipient"]])}\n'
        f'[stores.nas]\nurl = "file://{folder}/nas"\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    command("backup", "notes").succeeds()
    return command


def _key(refnet: Command) -> tuple[str, str]:
    return "--identity-file", str(refnet.home.parent / "key")


def test_a_store_is_listed_and_shown_without_the_recovery_key(refnet: Command) -> None:
    listed = refnet("list", "--store", "nas", "--json").json
    [copy] = listed["artifacts"]
    assert listed["store"].startswith("nas (file://")
    assert listed["gaps"] == []
    assert copy["state"] == "fetched"
    assert re.fullmatch(r"[0-9a-f]{32}/manifests/\d{8}T\d{6}Z_notes_[0-9a-f]{32}\.age", copy["path"])
    shown = refnet("show", "notes", "--store", "nas")
    shown.succeeds()
    assert copy["name"] in shown.out
    assert "\nstore      nas\n" in shown.out
    assert "UTC  fetched in " in shown.out
    unknown = refnet("show", "notes_1.tar.gz", "--store", "nas")
    unknown.fails(2, "Give a name that `refnet list --store nas` shows, or the path of a file.")


def test_a_copy_is_proven_where_it_is(refnet: Command) -> None:
    verified = refnet("verify", "notes", "--store", "nas", *_key(refnet))
    verified.succeeds()
    assert " in nas: proven" in verified.out
    assert refnet("list", "--store", "nas", "--json").json["artifacts"][0]["state"] == "proven"
    monitored = refnet("monitor", "--store", "nas", "--json").json["checks"]
    assert {one["check"] for one in monitored} == {"copy nas", "store nas"}


def test_a_drill_of_a_store_opens_every_piece_and_reports_it(refnet: Command) -> None:
    drilled = refnet("drill", "--store", "nas", *_key(refnet))
    drilled.succeeds()
    assert re.search(
        r"^nas: opened \d+ pieces? \(.*\), copies: 1: each is what was sent$", drilled.out, re.MULTILINE
    )
    report = refnet("drill", "--store", "nas", *_key(refnet), "--json").json
    assert (report["pieces"]["copies"], report["pieces"]["damaged"]) == (1, 0)
    assert "Every piece in nas" in Path(report["report"]).read_text()
    assert "pieces" not in refnet("drill", "notes", "--store", "nas", *_key(refnet), "--json").json


def test_a_file_of_a_copy_is_printed_and_restored(refnet: Command) -> None:
    notes = refnet.home.parent / "notes"
    assert refnet("cat", "notes", "a.md", "--store", "nas", *_key(refnet)).out == "# a note\n"
    (notes / "a.md").unlink()
    restored = refnet("restore", "notes", "--store", "nas", *_key(refnet), "--yes")
    restored.succeeds()
    assert "in nas" in restored.out
    assert (notes / "a.md").read_text() == "# a note\n"


def test_copies_are_searched_and_compared_where_they_are(refnet: Command) -> None:
    place = ("--store", "nas", *_key(refnet))
    assert "notes_" in refnet("find", "notes", "b.md", *place).out
    logged = refnet("log", "notes/b.md", *place)
    assert (logged.code, logged.err) == (0, "")
    assert "1 artifact of notes read" in logged.out
    differs = refnet("diff", "notes", *place, "--json")
    assert (differs.code, differs.err) == (0, "")
    assert differs.json["equal"] is True


def test_the_bytes_of_a_copy_need_the_recovery_key(refnet: Command) -> None:
    refnet("verify", "--store", "nas").fails(2, "recovery key", "--identity-file")


def test_a_copy_of_an_unknown_signer_is_not_chosen(refnet: Command, tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text(f'[folders.notes]\npath = "{tmp_path}/notes"\n')
    (tmp_path / "refnet.toml").chmod(0o600)
    other = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    place = ("--store", f"file://{refnet.home.parent}/nas", *_key(refnet))
    listed = other("list", *place)
    assert "signed by an unknown key SHA256:" in listed.out
    into = ("--to", str(tmp_path / "back"))
    other("restore", "notes", *place, *into).fails(
        1, "no copy of notes in url-", "signed by an unknown key SHA256:", "--signer SHA256:"
    )
    signer = refnet("key", "show", "--json").json["signer"]
    restored = other("list", *place, "--signer", signer, "--json").json["artifacts"]
    assert len(restored) == 1
    anyone = other("list", *place, "--any-signer", "--json")
    assert len(anyone.json["artifacts"]) == 1
    assert signer in anyone.err


def test_a_place_without_copies_is_named_before_asking_for_the_key(refnet: Command) -> None:
    place = f"file://{refnet.home.parent}/notes"
    refnet("restore", "notes", "--store", place, "--plan").fails(1, "no copy in url-", place, "--deleted")
    refnet("restore", "database", "--store", "nas", *_key(refnet), "--plan").fails(
        1, "no copy of database in nas", "`refnet copy` sends one"
    )


def test_options_of_a_store_need_one(refnet: Command) -> None:
    refnet("list", *_key(refnet)).fails(2, "--store")
    refnet("list", "--store", "nsa").fails(2, "did you mean nas")
    refnet("list", "--store", "nas", "--signer", "SHA256:x").fails(2, "--signer", "recovery page")


def test_a_command_that_reads_says_that_newer_copies_were_removed(refnet: Command) -> None:
    refnet("backup", "notes").succeeds()
    newest = max((refnet.home.parent / "nas").glob("*/manifests/*"))
    newest.unlink()

    for command in (("cat", "notes", "a.md"), ("restore", "notes", "--plan")):
        done = refnet(*command, "--store", "nas", *_key(refnet))
        assert done.code == 0
        assert "note: nas (" in done.err
        assert "this machine sent number 2" in done.err


def test_an_alarm_of_a_list_names_the_command_for_this_store(refnet: Command) -> None:
    [manifest] = (refnet.home.parent / "nas").glob("*/manifests/*.age")
    aside = manifest.rename(refnet.home.parent / "aside")
    listed = refnet("list", "--store", "nas")
    aside.rename(manifest)
    assert "there is no manifest of this machine" in listed.out
    assert "`refnet store accept nas`" in listed.out


def test_without_a_good_artifact_here_the_store_is_named_before_a_backup(tmp_path: Path) -> None:
    refnet = _sent(tmp_path)
    [here] = (refnet.backups / "notes").glob("notes_*.tar.gz")
    whole = here.read_bytes()
    note = refnet.home.parent / "notes" / "a.md"
    before = note.read_bytes()
    here.write_bytes(whole[:-100] + bytes(100))
    assert refnet("verify", "notes").code == 4
    note.write_text("broken\n")
    refused = refnet("restore", "notes", "--force")
    refused.fails(
        1, "no complete artifact of notes, 1 damaged one", "`refnet restore notes --store nas`", "live now"
    )
    assert refnet("list", "notes", "--store", "nas").code == 0
    refnet("restore", "notes", "--store", "nas", "--force", *_key(refnet)).succeeds()
    assert note.read_bytes() == before
    for path in (refnet.backups / "notes").glob("notes_*"):
        path.unlink()
    refnet("restore", "notes", "--force").fails(
        1, "no complete artifact of notes", "`refnet fetch notes --store nas`"
    )
    refnet("fetch", "notes", "--store", "nas", *_key(refnet)).succeeds()
    refnet("restore", "notes", "--force").succeeds()
    assert here.read_bytes() == whole
