"""Links, FIFOs and marks that somebody puts where RefNet writes: nothing is followed, and nothing holds it up."""

from __future__ import annotations

import os
import pwd
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refnet.catalog.run import Run, RunKind
from refnet.core.errors import RefnetError
from refnet.core.files import NEW_FILE, make_folder, opened
from refnet.demo.stage import MARK, stage
from refnet.recovery.plan import Journal, JournalFile, Stage, read_journal
from refnet.recovery.services import LocalServices
from refnet.scheduling.service import prepare
from refnet.scheduling.units import Service
from refnet.store import backup_folder
from refnet.store.run_journal import RunJournal
from refnet.telemetry.logging import LogFile
from refnet.telemetry.notify import Message, report

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def plant(path: Path, kind: str, victim: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "hard link":
        path.hardlink_to(victim)
    elif kind == "folder":
        path.mkdir()
    elif kind == "not UTF-8":
        path.write_bytes(b"{\xff}")
    elif kind == "endless":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        os.mkfifo(path)


def test_a_new_file_is_readable_by_nobody_else_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with opened(tmp_path / "new", NEW_FILE) as handle:
            assert os.fstat(handle).st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_a_log_is_written_to_no_file_but_its_own_and_never_waits(tmp_path, victim, kind, capsys):
    plant(tmp_path / "logs" / "refnet-backup.log", kind, victim)

    LogFile(tmp_path / "logs" / "refnet-backup.log")("info", {"event": "done"})

    assert "refnet-backup.log cannot be written" in capsys.readouterr().err
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_the_journal_of_a_recovery_is_written_through_no_link(tmp_path, victim, kind):
    plant(tmp_path / "home" / ".recovery.json.part", kind, victim)
    JournalFile(lambda: tmp_path / "home" / "recovery.json", Journal(NOW, {}, (), ()), lambda: NOW).done(
        Stage.CONFIG
    )
    assert (tmp_path / "home" / "recovery.json").is_file()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "not UTF-8", "endless"])
def test_a_journal_of_a_recovery_that_cannot_be_read_is_none(tmp_path, victim, kind):
    victim.write_text(Journal(NOW, {}, (), ()).to_json())
    plant(path := tmp_path / "home" / "recovery.json", kind, victim)
    assert read_journal(path, NOW) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "not UTF-8", "endless"])
def test_the_file_of_an_active_run_that_cannot_be_read_is_no_run(tmp_path, victim, kind):
    victim.write_text(Run("a", RunKind.PRUNE, "", NOW).to_json())
    plant(tmp_path / "runs" / "a.running", kind, victim)
    history = RunJournal(tmp_path / "runs").history()
    assert (history.runs, history.at_work) == ((), ())


@pytest.mark.parametrize(
    ("kind", "says"),
    [("link", "is not a regular file"), ("fifo", "is not a regular file"), ("endless", "is larger than")],
)
def test_a_journal_of_runs_that_cannot_be_read_is_an_error(tmp_path, victim, kind, says):
    plant(tmp_path / "runs" / "journal.jsonl", kind, victim)
    with pytest.raises(RefnetError, match=says):
        RunJournal(tmp_path / "runs").history()


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_backup_folder_is_locked_by_a_file_alone(tmp_path, victim, kind):
    plant(tmp_path / "database" / backup_folder.LOCK_NAME, kind, victim)
    with (
        pytest.raises(RefnetError, match="is not a regular file"),
        backup_folder.locked(tmp_path / "database", "database"),
    ):
        pytest.fail("it is locked")
    assert victim.read_text() == "precious"


def test_nobody_is_told_to_move_a_device_away() -> None:
    with pytest.raises(RefnetError, match="/dev/null is not a folder") as raised:
        make_folder(Path("/dev/null/backups"))
    assert raised.value.hint == "Choose another folder."


def test_a_marker_that_is_too_large_is_not_called_a_full_disk(tmp_path, victim):
    plant(tmp_path / "backups" / backup_folder.MARKER, "endless", victim)
    with pytest.raises(RefnetError, match="it is larger than 16384 bytes") as raised:
        backup_folder.id_in(tmp_path / "backups")
    assert "move it away" in raised.value.hint


@pytest.mark.parametrize("kind", ["link", "fifo"])
@pytest.mark.parametrize("name", ["notify.json", "notify.new"])
def test_what_was_told_is_kept_through_no_link(tmp_path, victim, kind, name):
    plant(tmp_path / "home" / name, kind, victim)

    def send(_: Message) -> list[str]:
        return []

    refused = (
        pytest.raises(RefnetError, match="not a regular file") if name == "notify.json" else nullcontext()
    )
    with refused:
        report(tmp_path / "home", lambda: {"all store": "it fails"}, send, now=lambda: NOW, host="here")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_services_log_is_written_through_no_link(tmp_path, victim, kind):
    services = LocalServices(tmp_path / "services", lambda: None, {})
    plant(services._lock("sleep 60").with_suffix(".log"), kind, victim)
    with pytest.raises(RefnetError, match="is not a regular file"):
        services.start(["sleep 60"])
    assert victim.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_folder_swapped_during_a_schedule_install_is_not_given_away(tmp_path, monkeypatch, kind):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    make = Path.mkdir

    def exchanged(path: Path, *arguments: object, **options: object) -> None:
        make(path, *arguments, **options)  # type: ignore[arg-type]
        if path.name == "home":
            path.rmdir()
            path.symlink_to(precious) if kind == "link" else precious.rename(path)

    service = Service(
        program=("/bin/true",), folder=tmp_path, user="nobody", writable=(tmp_path / "home",), logs=None, beside=(),
        seen=(), environment={}, own_server=False, vault_to_come=None,
    )  # fmt: skip
    monkeypatch.setattr(Path, "mkdir", exchanged)
    with pytest.raises(RefnetError, match="home"):
        prepare(service)
    left = precious if kind == "link" else tmp_path / "home"
    assert left.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(
    "planted", ["a mark of another user", "a mark that is a link", "a folder of another user"]
)
def test_a_demo_clears_no_folder_that_no_demo_of_this_user_made(tmp_path, victim, planted):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    if planted == "a mark that is a link":
        (folder / MARK).symlink_to(victim)
    else:
        (folder / MARK).write_text("")
        os.chown(folder / MARK if "mark" in planted else folder, pwd.getpwnam("nobody").pw_uid, -1)

    with (
        pytest.raises(RefnetError, match=r"is not a demo's|belongs to nobody"),
        stage(folder, {}, lambda *_: None),
    ):
        pytest.fail("the demo began")

    assert (folder / "precious").read_text() == "precious"
