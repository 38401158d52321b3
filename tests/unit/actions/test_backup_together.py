"""Several backups at once: a program each, all snapshots first, a killed one stops no other."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests import backup_child

from refnet.actions import backup_together
from refnet.actions.backup import Options
from refnet.actions.backup_together import back_up_together
from refnet.catalog.source_name import Kind, SourceName, in_groups
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.signals import interruptible
from refnet.settings import Settings

A, B, C = (SourceName(name, Kind.DATABASE) for name in ("a", "b", "c"))
NOTES, ROLES = SourceName("notes", Kind.FOLDER), SourceName("main-globals", Kind.GLOBALS)


class Backups:
    """Backups by an act of tests/backup_child.py."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder / "acts", monkeypatch
        self.folder.mkdir()
        self.context = Context(Settings(home=folder / "home", backup_dir=folder / "backups"))
        self.notes: list[str] = []
        self.shown: list[tuple[SourceName, str, int, int | None]] = []
        self.found: dict[SourceName, Any] = {}

    def run(self, act: str, *names: SourceName, jobs: int = 2, ended: Any = None) -> float | None:
        words = (sys.executable, backup_child.__file__, act, str(self.folder))
        self._monkeypatch.setattr(backup_together, "PROGRAM", words)
        self._monkeypatch.setenv("PYTHONPATH", str(Path(backup_child.__file__).parents[1]))
        return back_up_together(self._opened, names, Options(), jobs, ended or self.found.__setitem__)

    @contextmanager
    def _opened(self, name: SourceName) -> Any:
        def progress(step: str, done: int, total: int | None) -> None:
            self.shown.append((name, step, done, total))

        yield Context(self.context.settings, progress=progress, note=self.notes.append)


@pytest.fixture
def backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backups:
    return Backups(tmp_path, monkeypatch)


def test_each_is_copied_once_its_snapshot_is_open_and_it_has_its_turn(backups: Backups) -> None:
    apart = backups.run("all_open", A, B, C, jobs=1)
    assert set(backups.found) == {A, B, C}
    assert apart is not None
    assert len(list(backups.folder.glob("copied-*"))) == 3


def test_at_most_so_many_are_at_work(backups: Backups) -> None:
    backups.run("at_work", A, B, C, NOTES, ROLES, jobs=2)
    assert max(backups.found.values()) <= 2


def test_one_that_fails_or_is_killed_stops_no_other(backups: Backups) -> None:
    apart = backups.run("breaks", A, B, C, NOTES, jobs=1)
    assert (backups.found[A].message, backups.found[A].transient) == ("a is down", True)
    assert "the backup of b was killed" in backups.found[B].message
    assert (backups.found[C], backups.found[NOTES]) == ("c", "notes")
    assert apart is not None


def test_an_interrupt_ends_those_that_run(backups: Backups) -> None:
    def interrupt(_name: SourceName, _result: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backups.run("waits_for_its_end", A, B, ended=interrupt)


def test_progress_and_notes_of_a_program_are_those_of_its_context(backups: Backups) -> None:
    backups.run("shows", A, B)
    assert sorted(backups.notes) == ["a has a hint", "b has a hint"]
    assert {(A, "rows", 1000, 1000), (B, "rows", 1000, 1000)} <= {*backups.shown}
    assert len(backups.shown) < 1000  # one that is shown and gone costs no message


def test_no_setting_is_in_the_command_line_of_a_program(backups: Backups) -> None:
    backups.context = Context(
        Settings(home=backups.folder, backup_dir=backups.folder, database_url="postgresql://x:hunter2@h/d")
    )
    backups.run("shows", A)
    assert "hunter2" not in backups.found[A][1]


def test_a_snapshot_that_waits_too_long_for_its_turn_is_released(backups: Backups) -> None:
    def ended(name: SourceName, result: Any) -> None:
        backups.found[name] = result
        if name != A:
            raise KeyboardInterrupt  # the first one hangs

    with pytest.raises(KeyboardInterrupt):
        backups.run("waits_too_long", A, B, jobs=1, ended=ended)
    assert "has released its snapshot" in backups.found[B].message
    assert backups.found[B].transient


def test_one_that_hangs_is_ended_by_force_and_the_others_go_on(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hasten(monkeypatch, silent=3.0)
    backups.run("hangs", A, B, jobs=1)  # B waits for its turn as long, and is not ended
    assert "the backup of a made no progress for" in backups.found[A].message
    assert backups.found[A].transient
    assert backups.found[B] == "b"


def test_one_that_reports_progress_is_not_ended_though_nobody_is_shown_it(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hasten(monkeypatch, silent=4.0)
    results: list[Any] = []
    context = Context(backups.context.settings)  # a task of Celery shows no progress
    monkeypatch.setattr(backups, "_opened", lambda _name: nullcontext(context))
    backups.run("reports", A, ended=lambda _name, result: results.append(result))
    assert results == ["a"]


def _hasten(monkeypatch: pytest.MonkeyPatch, silent: float) -> None:
    monkeypatch.setattr(backup_together, "MOST_SILENT", silent)
    monkeypatch.setattr(backup_together, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(backup_together, "_TO_END", 0.3)


@pytest.mark.parametrize(
    ("order", "groups"),
    [
        ((), [(A, ROLES), (NOTES,)]),
        (("databases", "folders"), [(A, ROLES), (NOTES,)]),
        (("folders",), [(NOTES,), (A, ROLES)]),
        (("notes", "a"), [(NOTES,), (A,), (ROLES,)]),
        (("other",), [(A, ROLES), (NOTES,)]),
    ],
)
def test_files_are_taken_after_databases_unless_settings_say_otherwise(
    order: tuple[str, ...], groups: list[tuple[SourceName, ...]]
) -> None:
    assert in_groups((A, ROLES, NOTES), order) == groups


def test_a_signal_while_a_program_starts_ends_it_without_a_traceback(
    backups: Backups, capfd: pytest.CaptureFixture[str]
) -> None:
    with interruptible():
        backups.run("signalled", A)
    assert isinstance(backups.found[A], RefnetError)
    assert capfd.readouterr().err == ""
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
