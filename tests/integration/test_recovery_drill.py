"""A drill of the whole recovery: what an empty machine would bring back, and nothing live is touched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from tests.command import Result
from tests.integration.test_recover_settings import Tables

_PLACES = ("notes", "more", "etc", "nas", "backups", "home/keys")


class Drilled(Tables):
    """The machine of the tables after a backup."""

    def __init__(self, folder: Path, *, local: bool = False) -> None:
        super().__init__(folder, local=local)
        self.backup()

    def own(self, *arguments: str, key: bool = False) -> Result:
        given = {} if key else {"REFNET_IDENTITY_FILE": ""}
        return self.refnet("--config", str(self.file), *arguments, **given)

    def from_store(self, *more: str) -> Result:
        return self.own("drill", "--recovery", "--store", "nas", *more, key=True)

    def recovery(self, done: Result) -> Any:
        return done.json["recovery"]

    def monitored(self) -> tuple[str, str]:
        """Status and message of the monitor's check of the store."""
        [found] = (
            one for one in self.own("monitor", "--json").json["checks"] if one["check"] == "recovery from nas"
        )
        return found["status"].lower(), found["says"]

    def files(self) -> dict[str, str]:
        """What a drill leaves as it is: the SHA-256 of each file, but for the evidence of proofs."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for place in _PLACES
            for path in sorted((self.folder / place).rglob("*"))
            if path.is_file() and not path.name.endswith(".evidence")
        }


@pytest.fixture
def machine(tmp_path: Path) -> Drilled:
    return Drilled(tmp_path)


def test_a_drill_from_a_store_needs_the_key_alone_and_changes_nothing_live(machine: Drilled) -> None:
    assert machine.monitored()[0] == "warning"
    before = machine.files()
    done = machine.from_store("--json")
    assert done.code == 0, done.out + done.err
    assert machine.files() == before
    found = machine.recovery(done)
    assert (found["store"], found["misses"], found["fetched"]["copies"]) == ("nas", [], 2)
    assert "the recovery key" in found["asks"]
    assert [one["level"] for one in done.json["sources"]] == ["proven", "proven"]
    assert Path(done.json["signature"]).exists()
    assert f"A recovery from nas (file://{machine.folder}/nas)" in Path(done.json["report"]).read_text()
    assert machine.monitored()[0] == "ok"
    assert [*(machine.folder / "home" / "scratch").glob("[!.]*")] == []


def test_a_drill_from_a_store_reads_what_was_sent_and_not_what_is_live(machine: Drilled) -> None:
    (machine.folder / "later").mkdir()
    text = machine.file.read_text()
    machine.file.write_text(f'{text}[folders.later]\npath = "{machine.folder}/later"\n')
    for source in ("notes", "more"):
        (machine.folder / source / "later.md").write_text("not sent yet\n")
    machine.folder.joinpath("notes", "a.md").unlink()
    done = machine.from_store()
    assert done.code == 0, done.out + done.err
    assert "later" not in done.out


def test_a_source_without_a_copy_is_missed_and_the_monitor_warns_of_it(machine: Drilled) -> None:
    (machine.folder / "later").mkdir()
    text = machine.file.read_text()
    machine.file.write_text(f'{text}[folders.later]\npath = "{machine.folder}/later"\n')
    assert machine.own("backup", "notes", "--no-prove").code == 0  # its copy brings the new settings along
    done = machine.from_store()
    assert done.code == 1, done.out + done.err
    assert "  MISSES later is not restored: " in done.out
    status, says = machine.monitored()
    assert status == "warning"
    assert "later is not restored" in says
    assert machine.own("drill", "--recovery").code == 1


def test_without_a_copy_of_the_settings_a_drill_says_what_is_missed(machine: Drilled) -> None:
    for copy in machine.sent():
        copy.unlink()
    done = machine.from_store()
    assert done.code == 1, done.out + done.err
    assert "  MISSES the settings: no copy of them is there" in done.out
    assert "  MISSES notes is not restored: the settings do not name it" in done.out


def test_a_damaged_copy_is_missed_and_the_other_sources_are_proven(machine: Drilled) -> None:
    [manifest] = machine.folder.glob("nas/*/manifests/*_more_*")
    before = {*machine.folder.glob("nas/*/pieces/*")}
    (machine.folder / "notes" / "a.md").write_text("# another note\n")
    assert machine.own("backup", "notes", "--no-prove").code == 0
    for piece in before:
        piece.write_bytes(piece.read_bytes()[:-1] + b"!")
    done = machine.from_store("--json")
    assert manifest.exists()
    assert done.code != 0, done.out + done.err
    assert [one["level"] for one in done.json["sources"] if one["source"] == "notes"] == ["proven"]
    assert any(one.startswith("more: ") for one in machine.recovery(done)["misses"]), done.out


def test_a_command_of_the_sent_settings_is_asked_for_and_does_not_run(machine: Drilled) -> None:
    ran = machine.folder / "ran"
    machine.file.write_text(f'hooks.after_restore = ["touch {ran}"]\n{machine.file.read_text()}')
    assert machine.own("backup", "notes", "--no-prove").code == 0
    done = machine.from_store("--json")
    assert done.code == 0, done.out + done.err
    assert [one for one in machine.recovery(done)["asks"] if f"touch {ran}" in one]
    assert not ran.exists()


def test_a_drill_of_the_backup_folder_needs_no_key(machine: Drilled) -> None:
    before = machine.files()
    done = machine.own("drill", "--recovery", "--json")
    assert done.code == 0, done.out + done.err
    found = machine.recovery(done)
    assert (found["store"], found["misses"], found["fetched"]["copies"]) == ("local", [], 0)
    assert {name: machine.files()[name] for name in before} == before
    assert machine.monitored()[0] == "warning"  # the store was not drilled


def test_an_encrypted_backup_folder_is_drilled_with_the_key(tmp_path: Path) -> None:
    machine = Drilled(tmp_path, local=True)
    closed = machine.own("drill", "--recovery")
    assert closed.code == 3, closed.out + closed.err
    assert "without the recovery key, --recovery can prove nothing" in closed.err
    done = machine.own("drill", "--recovery", "--json", key=True)
    assert done.code == 0, done.out + done.err
    found = machine.recovery(done)
    assert (found["misses"], found["fetched"]["copies"]) == ([], 2)


def test_a_drill_of_a_recovery_is_of_all_sources(machine: Drilled) -> None:
    machine.own("drill", "notes", "--recovery").fails(2, "--recovery is for all sources")


def test_without_a_key_a_store_is_not_drilled(machine: Drilled) -> None:
    machine.own("drill", "--recovery", "--store", "nas").fails(2, "the recovery key is needed")


@pytest.mark.parametrize("made", ["fifo", "link", "garbage", "another place"])
def test_a_record_that_cannot_be_trusted_is_no_drill(machine: Drilled, made: str) -> None:
    assert machine.from_store().code == 0
    record = machine.folder / "home" / "remote" / "nas" / "recovery_drill.json"
    text = record.read_text()
    record.unlink()
    if made == "fifo":
        os.mkfifo(record)
    elif made == "link":
        (machine.folder / "elsewhere").write_text(text)
        record.symlink_to(machine.folder / "elsewhere")
    else:
        record.write_text("{" if made == "garbage" else text.replace("file://", "s3://"))
    status, says = machine.monitored()
    assert (status, says.partition(";")[0]) == ("warning", "never drilled with the recovery key")
