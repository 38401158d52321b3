"""What a run is, why it failed, and what a history of runs says."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from refnet.catalog.run import (
    BUCKETS,
    EXPECTED,
    Ended,
    History,
    Origin,
    Reason,
    Run,
    RunKind,
    Totals,
    reason_of,
)
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connect_error import ConnectError

_RUN = Run("a", RunKind.BACKUP, SourceName.DATABASE, datetime(2026, 11, 25, tzinfo=UTC), Ended.DONE, 4.0)
_FAILED = replace(_RUN, ended=Ended.FAILED, reason=Reason.SERVER)
_LOCKED = replace(_RUN, ended=Ended.FAILED, reason=Reason.LOCKED)


def _caused(error: RefnetError, cause: Exception) -> RefnetError:
    try:
        try:
            raise cause
        except type(cause):
            raise error from None
    except RefnetError as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RefnetError("m", "h", Exit.LOCKED), Reason.LOCKED),
        (RefnetError("m", "h", Exit.DAMAGED), Reason.DAMAGED),
        (RefnetError("m", "h", Exit.USAGE), Reason.SETTINGS),
        (RefnetError("m", "h"), Reason.OTHER),
        (RefnetError("pg_dump: No space left on device", "h"), Reason.NO_SPACE),
        (_caused(RefnetError("m", "h"), OSError(errno.ENOSPC, "full")), Reason.NO_SPACE),
        (_caused(RefnetError("m", "h"), OSError(errno.EROFS, "read-only")), Reason.NOT_ALLOWED),
        (_caused(RefnetError("m", "h"), FileNotFoundError(errno.ENOENT, "gone")), Reason.NOT_THERE),
        (_caused(RefnetError("m", "h"), psycopg.OperationalError("down")), Reason.SERVER),
        (ConnectError("m", "h"), Reason.SERVER),
        (KeyboardInterrupt(), Reason.INTERRUPTED),
    ],
)
def test_the_reason_of_a_failure_is_found_in_its_code_or_its_cause(
    error: BaseException, reason: Reason
) -> None:
    assert reason_of(error) is reason


def test_a_run_is_read_back_as_it_was_written() -> None:
    run = replace(_FAILED, message="日本", hint="do", artifact="refnet_x.sql.gz")
    assert Run.from_json(run.to_json()) == run


@pytest.mark.parametrize("line", ["", "{}", "[]", "7", '{"id": "a"}', _RUN.to_json()[:-9]])
def test_what_is_no_run_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        Run.from_json(line)


def test_totals_count_each_duration_in_the_bucket_that_holds_it() -> None:
    seconds = [0.5, 1.0, 1.5, 30_000.0]
    totals = Totals().with_runs(replace(_RUN, seconds=each) for each in seconds)
    counts = totals.buckets[SourceName.DATABASE]
    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[len(BUCKETS)] == 1
    assert totals.sums[SourceName.DATABASE] == sum(seconds)
    assert Totals.from_json(totals.to_json()) == totals


def test_a_run_that_met_another_runs_lock_says_nothing_of_its_source() -> None:
    history = History((_RUN, _LOCKED))
    assert history.last(RunKind.BACKUP, SourceName.DATABASE) == _RUN
    assert history.failing_since(RunKind.BACKUP, SourceName.DATABASE) is None


_STOPPED = replace(_RUN, ended=Ended.STOPPED, reason=Reason.INTERRUPTED, message="stopped by Ctrl-C")


def test_a_stopped_run_is_no_failure_and_hides_none() -> None:
    history = History((_FAILED, _STOPPED))
    assert history.last(RunKind.BACKUP, SourceName.DATABASE) == _FAILED
    assert history.stopped(SourceName.DATABASE) == "stopped by Ctrl-C"
    assert History((_STOPPED, _RUN)).stopped(SourceName.DATABASE) == ""
    assert Totals().with_runs([_STOPPED]) == Totals()


def test_a_stopped_run_of_an_earlier_version_is_read_as_stopped() -> None:
    values = replace(_FAILED, reason=Reason.INTERRUPTED, message="KeyboardInterrupt").values()
    old = {name: one for name, one in values.items() if name not in {"by", "user", "child"}}
    found = Run.from_json(json.dumps(old))
    assert (found.ended, found.message, found.by) == (Ended.STOPPED, "stopped", None)
    assert Run.from_json(json.dumps(old | {"reason": "server"})).ended is Ended.FAILED


@pytest.mark.parametrize("kind", [one for one in RunKind if one not in EXPECTED])
def test_runs_that_nobody_expects_are_recorded_and_not_counted(kind: RunKind) -> None:
    run = replace(_FAILED, kind=kind, source="", by=Origin.BROWSER, child="20261128T010203-0123456789ab")
    assert Run.from_json(run.to_json()) == run
    assert Totals().with_runs([run]) == Totals()


@pytest.mark.parametrize("by", ["nobody", 1, ["browser"]])
def test_an_origin_that_is_none_is_refused(by: object) -> None:
    with pytest.raises(ValueError):
        Run.from_json(json.dumps(_RUN.values() | {"by": by}))


def test_failing_since_is_the_first_failure_after_the_last_good_run() -> None:
    first, second = replace(_FAILED, id="b"), replace(_FAILED, id="c")
    other = replace(_RUN, source=SourceName.CONFIG)
    history = History((_FAILED, _RUN, first, other, _LOCKED, second))
    assert history.failing_since(RunKind.BACKUP, SourceName.DATABASE) == first
    assert history.failing_since(RunKind.BACKUP, SourceName.CONFIG) is None
    assert history.failing_since(RunKind.DRILL, SourceName.DATABASE) is None


@pytest.mark.parametrize("kind", [RunKind.BACKUP, RunKind.DRILL])
def test_a_backup_or_a_drill_of_no_source_is_malformed(kind: RunKind) -> None:
    line = json.dumps(_RUN.values() | {"kind": kind, "source": ""})
    with pytest.raises(ValueError, match="without a source"):
        Run.from_json(line)
    assert Run.from_json(line.replace(kind, RunKind.PRUNE)).source == ""
