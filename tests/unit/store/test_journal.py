"""The journal of runs survives crashes, tells of lost runs, and stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.catalog.run import Ended, Reason, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store.run_journal import RunJournal

_AT = datetime(2026, 11, 25, 2, tzinfo=UTC)

_BEGIN_AND_DIE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from refnet.catalog.run import Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.store.run_journal import RunJournal
RunJournal(Path(sys.argv[1])).begin(Run("lost1", RunKind.BACKUP, SourceName.DATABASE, datetime.now(UTC)))
os.kill(os.getpid(), 9)
"""


def _run(number: int = 1, **values: object) -> Run:
    at = _AT + timedelta(days=number)
    return replace(Run(f"id{number}", RunKind.BACKUP, SourceName.DATABASE, at), **values)  # type: ignore[arg-type]


def _done(number: int = 1, seconds: float = 3.0) -> Run:
    return _run(number, ended=Ended.DONE, seconds=seconds)


def _failed(number: int = 1, reason: Reason = Reason.SERVER) -> Run:
    return _run(number, ended=Ended.FAILED, reason=reason, message="the server is down")


def _kept(journal: RunJournal, *runs: Run) -> None:
    for run in runs:
        journal.begin(replace(run, ended=None, reason=None, seconds=0.0))
        journal.end(run)


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    history = RunJournal(tmp_path / "runs").history()
    assert history.runs == ()
    assert history.last(RunKind.BACKUP, SourceName.DATABASE) is None


def test_runs_are_told_as_they_ended_by_any_later_process(tmp_path: Path) -> None:
    _kept(RunJournal(tmp_path / "runs"), _done(1), _failed(2))
    history = RunJournal(tmp_path / "runs").history()
    assert history.runs == (_done(1), _failed(2))
    assert history.totals.failures == {(RunKind.BACKUP, SourceName.DATABASE, Reason.SERVER): 1}
    assert history.totals.sums == {SourceName.DATABASE: 3.0}
    assert not list((tmp_path / "runs").glob("*.running"))


def test_a_run_at_work_is_told_as_such(tmp_path: Path) -> None:
    journal = RunJournal(tmp_path / "runs")
    journal.begin(_run())
    history = RunJournal(tmp_path / "runs").history()
    assert history.at_work == (_run(),)
    assert history.runs == ()
    journal.end(_done())
    assert RunJournal(tmp_path / "runs").history().at_work == ()


def test_a_killed_process_leaves_a_lost_run_that_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    died = subprocess.run([sys.executable, "-c", _BEGIN_AND_DIE, str(folder)], check=False)
    assert died.returncode == -9
    for _ in range(2):
        history = RunJournal(folder).history()
        (lost,) = history.runs
        assert (lost.id, lost.ended, lost.reason) == ("lost1", Ended.FAILED, Reason.LOST)
    _kept(RunJournal(folder), _done(2))
    history = RunJournal(folder).history()
    assert [run.id for run in history.runs] == ["lost1", "id2"]
    assert history.totals.failures == {(RunKind.BACKUP, SourceName.DATABASE, Reason.LOST): 1}


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_a_crash_cut_short_hides_no_other(tmp_path: Path, cut: int) -> None:
    journal = RunJournal(tmp_path / "runs")
    _kept(journal, _done(1), _done(2))
    file = tmp_path / "runs" / "journal.jsonl"
    os.truncate(file, file.stat().st_size - cut)
    _kept(journal, _failed(3))
    told = [run.id for run in journal.history().runs]
    assert told == (["id1", "id2", "id3"] if cut == 1 else ["id1", "id3"])


def test_the_journal_stays_small_and_its_counts_never_go_back(tmp_path: Path) -> None:
    journal = RunJournal(tmp_path / "runs")
    drilled = replace(_done(0), id="drill", kind=RunKind.DRILL)
    _kept(journal, drilled)
    counts = []
    for number in range(1, 1500):
        journal.end(_failed(number) if number % 3 else _done(number))
        if number % 100 == 0:
            totals = journal.history().totals
            counts.append((sum(totals.failures.values()), sum(totals.buckets[SourceName.DATABASE])))
    assert counts == [(number - number // 3, number // 3) for number in range(100, 1500, 100)]
    assert (tmp_path / "runs" / "journal.jsonl").stat().st_size < 300_000
    assert journal.history().last(RunKind.DRILL, SourceName.DATABASE) == drilled


def test_many_processes_write_without_losing_a_run(tmp_path: Path) -> None:
    script = _BEGIN_AND_DIE.split("RunJournal(Path", maxsplit=1)[0] + (
        "from dataclasses import replace\nfrom refnet.catalog.run import Ended\n"
        "for i in range(40):\n"
        "    j = RunJournal(Path(sys.argv[1])); r = Run(f'{os.getpid()}-{i}', RunKind.BACKUP, SourceName.CONFIG, datetime.now(UTC))\n"
        "    j.begin(r); j.end(replace(r, ended=Ended.DONE))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "runs")]) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    history = RunJournal(tmp_path / "runs").history()
    assert sum(history.totals.buckets[SourceName.CONFIG]) == 160
    assert all(run.ended is Ended.DONE for run in history.runs)


def test_a_folder_that_cannot_be_written_is_an_error_of_two_lines(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder belongs")
    with pytest.raises(RefnetError) as caught:
        RunJournal(tmp_path / "runs").begin(_run())
    assert caught.value.message
    assert caught.value.hint


def test_an_unchanged_journal_is_parsed_once_and_a_changed_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kept(RunJournal(tmp_path), _done(1))
    reader, parsed, real = RunJournal(tmp_path), list[bytes](), Run.from_json

    def counted(line: bytes) -> Run:
        parsed.append(line)
        return real(line)

    monkeypatch.setattr(Run, "from_json", counted)
    assert reader.history() == reader.history()
    assert len(parsed) == 1
    monkeypatch.undo()
    _kept(RunJournal(tmp_path), _done(2))
    assert [one.id for one in reader.history().runs] == ["id1", "id2"]
