"""The monitor: what is an alarm, what is only new."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.monitoring import Check, Limits, Status, watch, watch_half_made, watch_previous, worst
from refnet.catalog.monitoring_stores import watch_store
from refnet.catalog.run import Ended, History, Run, RunKind, Totals
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.store import HalfMade, Leftover, Unlisted
from refnet.telemetry.notify import findings

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DATABASE, CONFIG = SourceName.DATABASE, SourceName.CONFIG
DAILY = Limits(timedelta(days=1), timedelta(days=31))
OK, NEW, WARNING, CRITICAL = Status.OK, Status.NEW, Status.WARNING, Status.CRITICAL


def line(level: Level, outcome: Outcome, *, days: float = 0, drill: bool = False) -> Evidence:
    return Evidence(NOW - timedelta(days=days), level, outcome, 1.0, reasons=("because",), drill=drill)


PROVEN = line(Level.PROVEN, Outcome.PASSED)
FAILED = line(Level.INTACT, Outcome.FAILED)


def entry(
    days: float, *evidence: Evidence, size: int = 1000, source: SourceName = DATABASE, **changes: Any
) -> Entry:
    created = NOW - timedelta(days=days)
    manifest = Manifest(source, f"{source}_{days}_{size}", created, size, "", 1.0)
    return Entry(replace(manifest, **changes), evidence)


def run(days: float, kind: RunKind = RunKind.BACKUP, ended: Ended = Ended.DONE) -> Run:
    return Run("1", kind, DATABASE, NOW - timedelta(days=days), ended, 1.0, message="the server is down")


def check(
    what: str,
    *entries: Entry,
    source: SourceName = DATABASE,
    limits: Limits = DAILY,
    runs: tuple[Run, ...] = (),
) -> Check:
    checks = watch(source, Catalog.of(entries), History(runs), limits, NOW)
    return next(one for one in checks if one.what == what)


HEALTHY = [entry(days, PROVEN) for days in (4.5, 3.5, 2.5, 1.5, 0.5)]


def test_a_healthy_source_is_ok_throughout() -> None:
    drilled = entry(0.4, PROVEN, line(Level.PROVEN, Outcome.PASSED, drill=True))
    checks = watch(DATABASE, Catalog.of([*HEALTHY, drilled]), History(), DAILY, NOW)

    assert {one.status for one in checks} == {OK}
    assert [one.what for one in checks] == ["age", "size", "proof", "damage", "drill"]


def test_a_fresh_small_library_raises_no_alarm() -> None:
    checks = watch(DATABASE, Catalog.of([entry(0.01, PROVEN, size=900)]), History(), DAILY, NOW)

    assert worst(checks) is NEW
    assert worst(checks).exit == 0
    assert {one.what: one.status for one in checks} == {
        "age": OK,
        "size": NEW,
        "proof": OK,
        "damage": OK,
        "drill": NEW,
    }


@pytest.mark.parametrize(
    ("days", "status"),
    [
        (0, OK),
        (1, OK),
        (1.05, OK),
        (1.1, WARNING),
        (2, WARNING),
        (2.1, CRITICAL),
        (400, CRITICAL),
        (-1, WARNING),
    ],
)
def test_the_newest_may_be_as_old_as_its_schedule_and_a_grace_allow(days: float, status: Status) -> None:
    assert check("age", entry(days, PROVEN)).status is status


def test_age_counts_from_publication_when_the_servers_clock_is_behind() -> None:
    assert check("age", entry(2200, PROVEN, published=NOW - timedelta(hours=1))).status is OK


def test_what_was_noticed_when_the_newest_was_made_is_a_warning() -> None:
    found = check("made", entry(0.5, line(Level.WRITTEN, Outcome.PASSED), PROVEN))
    assert (found.status, found.says) == (WARNING, "because")


def test_age_is_that_of_the_newest_whole_artifact() -> None:
    assert check("age", entry(3, PROVEN), entry(0.2, PROVEN, FAILED)).status is CRITICAL
    assert check("age", entry(3, PROVEN), entry(0.2, PROVEN, partial=True)).status is CRITICAL
    assert check("age", entry(0.2, PROVEN, FAILED)).status is CRITICAL


def test_no_artifact_at_all_is_critical() -> None:
    assert check("age").status is CRITICAL


def test_no_artifact_is_critical_from_the_first_one_on() -> None:
    made = replace(run(0.01), artifact="refnet_20261125_114536.sql.gz")
    assert check("age", runs=(run(0.5, ended=Ended.FAILED),)).status is NEW
    gone = check("age", runs=(made,))
    assert gone.status is CRITICAL
    assert gone.says == "every artifact is gone: the last one was refnet_20261125_114536.sql.gz"

    totals = Totals().with_runs([made])
    counted = watch(
        DATABASE, Catalog.of([]), History((run(0.5, ended=Ended.FAILED),), (), totals), DAILY, NOW
    )
    assert (counted[0].status, counted[0].says) == (
        CRITICAL,
        "every artifact is gone: 1 was made earlier",
    )
    history = History((made,), (), Totals())
    bare = watch(DATABASE, Catalog.of([]), history, DAILY, NOW, (made.artifact,))
    assert (bare[0].status, bare[0].says) == (CRITICAL, "none of its artifacts is encrypted")


def test_a_source_whose_first_time_has_not_passed_is_new() -> None:
    weekly = replace(DAILY, interval=timedelta(days=7))

    assert check("age", entry(3, PROVEN), source=CONFIG, limits=weekly).status is NEW
    assert check("age", entry(8, PROVEN), source=CONFIG, limits=weekly).status is CRITICAL
    assert check("age", source=CONFIG, limits=weekly, runs=(run(3),)).status is NEW


@pytest.mark.parametrize(
    ("before", "size", "status"),
    [
        ([1000, 1000], 10, NEW),
        ([1000, 1000, 1000], 499, WARNING),
        ([1000, 1000, 1000], 501, OK),
        ([1000, 1000, 1000, 9_000_000], 600, OK),
        ([9_000_000] * 3 + [1000] * 7, 900, OK),
    ],
)
def test_an_artifact_is_small_against_its_own_history(before: list[int], size: int, status: Status) -> None:
    earlier = [entry(20 - number, PROVEN, size=each) for number, each in enumerate(before)]
    assert check("size", *earlier, entry(0.5, PROVEN, size=size)).status is status


def test_damaged_and_partial_artifacts_are_no_history() -> None:
    earlier = [entry(9 - n, PROVEN, FAILED, size=10**6) for n in range(4)]
    earlier += [entry(5 - n, PROVEN, size=10**6, partial=True) for n in range(4)]
    assert check("size", *earlier, entry(0.5, PROVEN)).status is NEW


def test_the_floor_is_what_the_setting_says() -> None:
    floor = replace(DAILY, min_bytes=1_048_576)
    assert check("size", entry(0.5, PROVEN), limits=floor).status is WARNING
    assert check("size", entry(0.5, PROVEN, size=1_048_576), limits=floor).status is NEW


@pytest.mark.parametrize(
    ("evidence", "status", "says"),
    [
        ((PROVEN,), OK, "proven"),
        ((), WARNING, "only written"),
        ((line(Level.RESTORED, Outcome.PASSED),), WARNING, "only restored"),
        (
            (line(Level.INTACT, Outcome.PASSED), line(Level.PROVEN, Outcome.UNVERIFIED)),
            WARNING,
            "could not verify beyond intact: because",
        ),
    ],
)
def test_the_newest_should_be_proven(evidence: tuple[Evidence, ...], status: Status, says: str) -> None:
    found = check("proof", entry(0.5, *evidence))
    assert found.status is status
    assert says in found.says


def test_damage_is_critical_where_nothing_whole_is_newer() -> None:
    assert check("damage", entry(3, PROVEN, FAILED), entry(0.5, PROVEN)).status is WARNING
    assert check("damage", entry(3, PROVEN), entry(0.5, FAILED)).status is CRITICAL


@pytest.mark.parametrize(
    ("entries", "runs", "status"),
    [
        ([entry(0.5, PROVEN)], (), NEW),
        ([entry(60, PROVEN), entry(0.5, PROVEN)], (), WARNING),
        ([entry(0.5, PROVEN, line(Level.PROVEN, Outcome.PASSED, days=20, drill=True))], (), OK),
        ([entry(0.5, PROVEN, line(Level.PROVEN, Outcome.PASSED, days=40, drill=True))], (), WARNING),
        ([entry(0.5, PROVEN)], (run(20, RunKind.DRILL),), OK),
        ([entry(0.5, PROVEN)], (run(40, RunKind.DRILL),), WARNING),
        ([entry(0.5, PROVEN)], (run(40),), WARNING),
    ],
)
def test_a_drill_is_overdue_by_evidence_or_by_the_journal(
    entries: list[Entry], runs: tuple[Run, ...], status: Status
) -> None:
    assert check("drill", *entries, runs=runs).status is status


def test_a_drill_that_could_not_verify_is_reported_despite_its_evidence() -> None:
    begun = run(1, RunKind.DRILL, Ended.UNVERIFIED)
    started = replace(begun, seconds=3600.0, message="could not verify it")
    own = Evidence(started.end, Level.PROVEN, Outcome.UNVERIFIED, 3599.0, drill=True)
    later = Evidence(started.end + timedelta(hours=1), Level.PROVEN, Outcome.PASSED, 1.0, drill=True)

    found = check("drill", entry(1.5, PROVEN, own), runs=(started,))
    assert (found.status, found.says) == (WARNING, "the last one, 24 h ago, could not verify it")
    assert check("drill", entry(1.5, PROVEN, own, later), runs=(started,)).status is OK


def test_a_last_run_that_failed_is_told_until_one_succeeds() -> None:
    failed = run(0.1, ended=Ended.FAILED)
    assert check("last run", entry(0.5, PROVEN), runs=(failed,)).says == "failed: the server is down"

    stopped = replace(run(0.05, ended=Ended.STOPPED), message="stopped by Ctrl-C; no artifact was made")
    assert check("last run", entry(0.5, PROVEN), runs=(failed, stopped)).status is WARNING
    alone = check("last run", entry(0.5, PROVEN), runs=(run(0.5), stopped))
    assert (alone.status, alone.says) == (OK, "stopped by Ctrl-C; no artifact was made")

    after = watch(DATABASE, Catalog.of([entry(0.05, PROVEN)]), History((failed,)), DAILY, NOW)
    assert "last run" not in {one.what for one in after}


@pytest.mark.parametrize(
    ("hours", "before", "alarm"),
    [
        (0.9, (60.0,), False),  # below an hour nothing is alarmed
        (1.1, (60.0, 120.0), True),
        (5.9, (60.0, 7200.0), False),
        (6.1, (60.0, 7200.0), True),
        (23.0, (), False),
        (25.0, (), True),
        (-1.0, (60.0,), False),  # the clock was set back
    ],
)
def test_a_run_far_over_its_usual_time_is_an_alarm_until_it_ends(
    hours: float, before: tuple[float, ...], alarm: bool
) -> None:
    ended = tuple(replace(run(2), id=f"{seconds}", seconds=seconds) for seconds in before)
    now = replace(run(hours / 24), id="now", ended=None)
    at_work = History(ended, (now,))
    checks = watch(DATABASE, Catalog.of([*HEALTHY]), at_work, DAILY, NOW)
    assert [one.status for one in checks if one.what == "running"] == [WARNING] * alarm
    messages = findings(checks, at_work)
    assert ("has run for" in (messages.get("database running") or "")) is alarm
    after = watch(DATABASE, Catalog.of([*HEALTHY]), History((*ended, run(hours / 24))), DAILY, NOW)
    assert "running" not in {one.what for one in after}
    assert (
        findings(after, History((*ended, run(hours / 24)))).get("database running", "") is None
    )  # recovered


@pytest.mark.parametrize(
    ("free", "status"),
    [(None, Status.UNKNOWN), (999, CRITICAL), (1000, WARNING), (2999, WARNING), (3000, OK)],
)
def test_room_is_measured_by_what_the_next_run_takes(free: int | None, status: Status) -> None:
    (found,) = watch_store(Catalog.of(HEALTHY), (), (), free)
    assert found.status is status


def test_the_next_run_takes_what_the_newest_artifacts_of_all_sources_take() -> None:
    shop = SourceName("shop", Kind.DATABASE)
    (found,) = watch_store(Catalog.of([*HEALTHY, entry(0.5, PROVEN, source=shop)]), (), (), 1999)
    assert found.status is CRITICAL


def test_leftovers_and_unreadable_files_warn_and_foreign_files_do_not() -> None:
    many = [Leftover(DATABASE, f"name {number}", 1, "why") for number in range(5)]
    foreign = Unlisted(DATABASE, "old", 1, "has no manifest", "adopt it", unreadable=False)
    linked = Unlisted(DATABASE, "away", 1, "is a link", "bring it back", unreadable=True)
    found = {one.what: one for one in watch_store(Catalog.of([]), many, [foreign, linked], 10)}

    assert found["leftovers"].status is WARNING
    assert found["leftovers"].says.startswith("name 0, name 1, name 2 and 2 more")
    assert found["not listed"].status is OK
    assert found["unreadable"].status is WARNING
    assert found["unreadable"].says == "away is a link: `refnet list` says what to do"


@pytest.mark.parametrize(
    ("days", "status"), [(None, WARNING), ([], None), ([0.5], OK), ([8.9, 1], OK), ([1, 9.1], WARNING)]
)
def test_previous_versions_are_counted_and_one_left_by_prune_is_a_warning(
    days: list[float] | None, status: Status | None
) -> None:
    since = None if days is None else [NOW - timedelta(days=one) for one in days]
    found = watch_previous(DATABASE, since, timedelta(days=7), NOW)
    assert [one.status for one in found] == ([status] if status else [])
    assert all(one.says.startswith(f"{len(days or [])}, " if days else "cannot be read") for one in found)


def test_a_shrunk_newest_artifact_is_critical_until_accepted_or_regrown() -> None:
    shrank = {"shrunk": ("8 tables → 0", "9 rows → 0"), "shrunk_from": "the one before"}
    accepted = replace(line(Level.WRITTEN, Outcome.UNVERIFIED), accepts=True)
    found = check("shrunk", entry(1.5, PROVEN), entry(0.5, PROVEN, **shrank))
    assert found.status is CRITICAL
    assert "much less than the one before: 8 tables → 0; 9 rows → 0; `refnet accept " in found.says
    assert check("shrunk", entry(1.5, PROVEN), entry(0.5, PROVEN, accepted, **shrank)).status is OK
    assert check("shrunk", entry(1.5, PROVEN, **shrank), entry(0.5, PROVEN)).status is OK


def test_evidence_that_was_lost_is_a_warning_that_says_so() -> None:
    lost = replace(line(Level.WRITTEN, Outcome.UNVERIFIED), revokes=True)
    found = check("proof", entry(0.5, PROVEN, lost))
    assert (found.status, found.says) == (WARNING, "could not verify: because")


def test_the_whole_is_as_bad_as_its_worst_part() -> None:
    def of(*statuses: Status) -> int:
        return worst([Check(None, "", status, "") for status in statuses]).exit

    assert (of(OK, NEW), of(OK, WARNING), of(WARNING, CRITICAL, Status.UNKNOWN), of()) == (0, 1, 2, 3)
    assert of(Status.UNKNOWN, OK) == 3


def test_what_is_off_is_never_overdue_and_says_so() -> None:
    off = Limits(None, None)
    old = check("age", entry(400, PROVEN), limits=off)
    assert (old.status, old.says) == (OK, "database_400_1000 is 400 d old; its schedule is off")
    assert check("drill", entry(400, PROVEN), limits=off).says == "none, and its schedule is off"
    drilled = entry(400, line(Level.PROVEN, Outcome.PASSED, days=399, drill=True))
    assert check("drill", drilled, limits=off).says == "the last one was 399 d ago; its schedule is off"
    assert check("age", limits=off).status is WARNING
    assert check("age", entry(1, FAILED), limits=off).status is CRITICAL


def test_a_killed_restores_copy_is_named_and_is_a_warning_after_a_day() -> None:
    copies = [
        HalfMade(SourceName.DATABASE, "app_copy_20261125_020000", NOW - timedelta(hours=hours))
        for hours in (1, 25)
    ]

    young, old = watch_half_made(copies, NOW)

    assert (young.status, old.status) == (Status.OK, Status.WARNING)
    assert old.says.startswith("app_copy_20261125_020000, from 25 h ago, of a killed restore")


@pytest.mark.parametrize(
    ("age", "newest", "status", "says"),
    [
        (6.5, (line(Level.INTACT, Outcome.PASSED),), OK, "is proven and 6 d old, one is proven every 7 d"),
        (
            8.2,
            (line(Level.INTACT, Outcome.PASSED),),
            WARNING,
            "is proven and 8 d old, one is proven every 7 d",
        ),
        (6.5, (), WARNING, "the newest is only written"),
        (
            6.5,
            (line(Level.INTACT, Outcome.PASSED), line(Level.PROVEN, Outcome.UNVERIFIED)),
            WARNING,
            "could not verify",
        ),
    ],
)
def test_between_two_proofs_an_intact_backup_is_no_alarm(
    age: float, newest: tuple[Evidence, ...], status: Status, says: str
) -> None:
    weekly = replace(DAILY, proof_interval=timedelta(days=7))
    found = check("proof", entry(age, PROVEN), entry(0.5, *newest), limits=weekly)
    assert found.status is status
    assert says in found.says
