"""Several backups at once: a process each, all snapshots first, a killed one stops no other."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from refnet.actions import backup_together
from refnet.actions.backup import Options
from refnet.actions.backup_together import back_up_together
from refnet.catalog.source_name import Kind, SourceName, in_groups
from refnet.core.errors import RefnetError
from refnet.core.signals import interruptible

A, B, C = (SourceName(name, Kind.DATABASE) for name in ("a", "b", "c"))
NOTES, ROLES = SourceName("notes", Kind.FOLDER), SourceName("main-globals", Kind.GLOBALS)


def run(monkeypatch: pytest.MonkeyPatch, act: Any, *names: SourceName, jobs: int = 2) -> tuple[Any, Any]:
    """Back up `names` by `act`, in processes of their own; the results, and how far apart the snapshots are."""
    found: dict[SourceName, Any] = {}
    monkeypatch.setattr(backup_together, "backup", act)
    context: Any = None
    apart = back_up_together(lambda _: nullcontext(context), names, Options(), jobs, found.__setitem__)
    return found, apart


def test_all_snapshots_are_open_before_a_second_one_is_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def act(_context: Any, name: SourceName, options: Options) -> Any:
        (tmp_path / f"open-{name}").touch()
        options.turn()
        (tmp_path / f"copied-{name}").touch()
        options.turn()  # of a second attempt: it waits for nothing
        return len(list(tmp_path.glob("open-*"))) if name == C else None

    found, apart = run(monkeypatch, act, A, B, C, jobs=1)
    assert set(found) == {A, B, C}
    assert apart is not None
    assert len(list(tmp_path.glob("copied-*"))) == 3


def test_at_most_so_many_are_at_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def act(_context: Any, name: SourceName, options: Options) -> Any:
        options.turn()
        mine = tmp_path / name
        mine.touch()
        time.sleep(0.05)  # time for another one to begin
        found = len(list(tmp_path.iterdir()))
        mine.unlink()
        return found

    found, _ = run(monkeypatch, act, A, B, C, NOTES, ROLES, jobs=2)
    assert max(found.values()) <= 2


def test_one_that_fails_or_is_killed_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(_context: Any, name: SourceName, options: Options) -> Any:
        if name == A:
            raise RefnetError("a is down", "Start it.", transient=True)
        options.turn()
        if name == B:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(name)

    found, apart = run(monkeypatch, act, A, B, C, NOTES, jobs=1)
    assert (found[A].message, found[A].transient) == ("a is down", True)
    assert "the backup of b was killed" in found[B].message
    assert (found[C], found[NOTES]) == ("c", "notes")
    assert apart is not None


def test_an_interrupt_ends_those_that_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def act(_context: Any, name: SourceName, options: Options) -> Any:
        if name == A:
            return "done"
        options.turn()
        try:
            signal.pause()
        except KeyboardInterrupt:
            (tmp_path / f"cleaned-{name}").touch()
            raise

    def interrupt(_name: SourceName, _result: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_together, "backup", act)
    context: Any = None
    with pytest.raises(KeyboardInterrupt):
        back_up_together(lambda _: nullcontext(context), (A, B), Options(), 2, interrupt)


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


def test_a_signal_while_a_process_starts_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backup_together, "end_with_parent", lambda number: os.kill(os.getpid(), number))
    with interruptible():
        found, _ = run(monkeypatch, lambda *_: pytest.fail("it was not interrupted"), A)
    assert isinstance(found[A], RefnetError)
    assert capfd.readouterr().err == ""
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_child_whose_end_a_signal_hid_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(group: Any, _jobs: int) -> Any:
        for _, child in group._children.values():
            os.waitpid(child.pid, 0)  # as where Ctrl-C comes before multiprocessing has noted the end
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_together._Group, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, lambda *_: None, A)
