"""What RefNet itself writes down: runs, totals, swaps, recoveries, what was told, previous versions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents, lines

from refnet.catalog.run import Ended, Reason, Run, RunKind, Totals
from refnet.catalog.source_name import SourceName
from refnet.recovery import plan as recovery_plan
from refnet.sources.folder import swap_journal
from refnet.store import previous_records
from refnet.store.run_journal import RunJournal
from refnet.telemetry import notify

NOW = datetime(2026, 11, 25, 17, 0, 1, 250_000, tzinfo=UTC)
RUN = Run(
    "f58e5d885f78",
    RunKind.BACKUP,
    SourceName.DATABASE,
    NOW,
    Ended.FAILED,
    1.5,
    Reason.SERVER,
    "論文",
    "wait",
    "a",
)
DONE = Run("0123456789ab", RunKind.BACKUP, SourceName.CONFIG, NOW, Ended.DONE, 70.5)
TOTALS = Totals().with_runs([RUN, DONE])
RECOVERY = recovery_plan.Journal(
    NOW, {SourceName.DATABASE: "a"}, (recovery_plan.Stage.CONFIG,), (SourceName.CONFIG,)
).to_json()
SWAP = swap_journal.SwapJournal(
    SourceName.OBSIDIAN,
    "vault_20261125.tar.gz",
    NOW,
    swap_journal.SwapReason.UNDONE,
    "/srv/vault",
    beside=True,
    work=".refnet-work",
    token="0" * 32,
    owner=1000,
    base=("vault",),
    units=(
        swap_journal.SwapUnit("a.md", 7),
        swap_journal.SwapUnit("b\udcff.md", None),
        swap_journal.SwapUnit("c.md", 8, ("a", "b")),
    ),
)
MARK = previous_records.DatabaseMark(
    "refnet", previous_records.MarkState.RESTORED, NOW, "a", "7:9:7,8", "論文", 10
)
RECORD = previous_records.PreviousRecord("74", "refnet_before_20261125_170001", 16384, "refnet", 16385, MARK)
TOLD = {"database backup": asdict(notify.ReportedProblem("2026-11-25T17:00:01+00:00", "down\nstart it"))}


@fuzzed
@given(documents(json.loads(RUN.to_json()), RUN.to_json().encode()))
def test_a_run_is_read_or_refused(line: bytes) -> None:
    run = outcome(lambda: Run.from_json(line), ValueError)
    if run:
        assert run.started.tzinfo
        assert math.isfinite(run.seconds)
        assert Run.from_json(run.to_json().encode()).started == run.started
        Totals.from_json(Totals().with_runs([run]).to_json())


@fuzzed
@given(documents(json.loads(TOTALS.to_json())))
def test_totals_are_read_or_refused(line: bytes) -> None:
    totals = outcome(lambda: Totals.from_json(line), ValueError)
    if totals:
        more = totals.with_runs([RUN, DONE])
        assert Totals.from_json(more.to_json()) == more


@fuzzed
@given(
    whole=lines([TOTALS.to_json(), RUN.to_json(), DONE.to_json()]), begun=documents(json.loads(RUN.to_json()))
)
def test_a_journal_of_runs_with_lines_that_are_none_is_read_and_written(
    whole: bytes, begun: bytes, folder: Path
) -> None:
    (folder / "journal.jsonl").write_bytes(whole)
    (folder / "f58e5d885f79.running").write_bytes(begun)
    journal = RunJournal(folder)
    history = outcome(journal.history)
    assert history is not None
    assert len({run.id for run in history.runs}) == len(history.runs)


@fuzzed
@given(documents(json.loads(RECOVERY), RECOVERY.encode()))
def test_a_journal_of_a_recovery_is_read_or_refused(text: bytes) -> None:
    journal = outcome(lambda: recovery_plan.Journal.from_json(text.decode(errors="replace")), ValueError)
    if journal:
        assert journal.began.tzinfo
        assert recovery_plan.Journal.from_json(journal.to_json()) == journal


@fuzzed
@given(text=documents(TOLD))
def test_what_was_told_is_read_or_forgotten(text: bytes, folder: Path) -> None:
    path = folder / "notify.json"
    path.write_bytes(text)
    state = outcome(lambda: notify._read(path))
    assert state is not None
    kept_state, steps = notify.decide(state, {"database backup": None}, NOW, "host")
    for _, after in steps:
        notify._write(path, after)
    notify._write(path, kept_state)


@fuzzed
@given(documents(json.loads(RECORD.to_json()), RECORD.to_json().encode()))
def test_the_record_of_a_previous_version_is_read_or_refused(text: bytes) -> None:
    record = outcome(lambda: previous_records.PreviousRecord.from_json(text), ValueError)
    if record:
        assert previous_records.PreviousRecord.from_json(record.to_json().encode()) == record
        assert record.doubt(record.system, record.oid, record.owner) == ""


@fuzzed
@given(documents(json.loads(MARK.to_json()), MARK.to_json().encode()))
def test_the_mark_of_a_database_is_read_or_refused(text: bytes) -> None:
    mark = outcome(lambda: previous_records.DatabaseMark.from_json(text), ValueError)
    if mark:
        assert previous_records.DatabaseMark.from_json(mark.to_json().encode()) == mark


@fuzzed
@given(documents(json.loads(SWAP.to_json()), SWAP.to_json().encode()))
def test_the_journal_of_a_swap_is_read_or_refused(text: bytes) -> None:
    swap = outcome(lambda: swap_journal.SwapJournal.read(text, SWAP.name), ValueError)
    if swap:
        assert swap_journal.SwapJournal.read(swap.to_json().encode(), swap.name) == swap
        folders = (name for unit in swap.units for name in (*unit.folder, unit.name))
        for name in (swap.work, *swap.base, *folders):
            assert len(Path(name).parts) == 1
            assert name != ".."
