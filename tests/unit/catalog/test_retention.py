"""Retention: what is kept, what is not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from refnet.catalog import retention
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.retention import Decision, decide, simulate
from refnet.catalog.schedule import Retention, Schedule, TaskName, When
from refnet.catalog.source_name import SourceName

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
WEEK = Retention(days=7)
PROVEN = (Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0),)
DAMAGED = (*PROVEN, Evidence(NOW, Level.INTACT, Outcome.FAILED, 1.0))


def entry(days: float, evidence: Sequence[Evidence] = PROVEN, *, partial: bool = False) -> Entry:
    """An artifact made `days` ago."""
    created = NOW - timedelta(days=days)
    name = f"refnet_{created:%Y%m%d_%H%M%S}_{partial}_{len(evidence)}.sql.gz"
    manifest = Manifest(SourceName.DATABASE, name, created, 10, "", 1.0, partial=partial)
    return Entry(manifest, tuple(evidence))


def kept(decisions: Sequence[Decision]) -> list[int]:
    """The ages in days of what is kept, oldest first."""
    return [(NOW - decision.entry.created).days for decision in decisions if decision.keep]


def reasons(decisions: Sequence[Decision], days: int) -> tuple[str, ...]:
    return next(d.reasons for d in decisions if (NOW - d.entry.created).days == days)


def test_every_artifact_younger_than_the_period_is_kept_and_older_ones_go() -> None:
    decisions = decide([entry(days) for days in range(12)], WEEK, NOW, None)

    assert kept(decisions) == [7, 6, 5, 4, 3, 2, 1, 0]
    assert reasons(decisions, 0) == ("younger than 7 days", "the last proven one", "the newest complete one")
    assert reasons(decisions, 9) == ("9 days old, kept for 7 days",)


def test_the_last_proven_one_is_kept_however_old_it_is() -> None:
    decisions = decide([entry(800), entry(700), entry(20, []), entry(10, [])], WEEK, NOW, None)

    assert kept(decisions) == [700, 10]
    assert reasons(decisions, 700) == ("the last proven one",)
    assert reasons(decisions, 10) == ("the newest complete one",)


def test_a_damaged_one_is_never_the_last_proven_one() -> None:
    decisions = decide([entry(30), entry(20, DAMAGED)], WEEK, NOW, None)

    assert kept(decisions) == [30]
    assert reasons(decisions, 20) == ("damaged, 20 days old, kept for 7 days",)


def test_where_no_whole_one_is_left_the_newest_is_kept() -> None:
    assert kept(decide([entry(30, DAMAGED), entry(20, DAMAGED)], WEEK, NOW, None)) == [20]


def test_an_artifact_of_some_tables_goes_by_age_and_counts_for_nothing() -> None:
    decisions = decide(
        [entry(40), entry(30, partial=True), entry(2, partial=True)], Retention(days=7, monthly=5), NOW, None
    )

    assert kept(decisions) == [40, 2]
    assert reasons(decisions, 30) == ("only some tables, 30 days old, kept for 7 days",)


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(days=0, daily=3), [2, 1, 0]),
        (Retention(days=2, weekly=3), [10, 3, 2, 1, 0]),
        (Retention(days=0, monthly=3), [56, 25, 0]),
        (Retention(days=0, yearly=3), [329, 0]),
        (Retention(days=1, daily=3, weekly=2, monthly=2), [25, 3, 2, 1, 0]),
    ],
)
def test_counts_keep_the_newest_artifact_of_each_period(retention: Retention, expected: list[int]) -> None:
    """One artifact a day for 400 days, up to Wednesday 25 November 2026."""
    assert kept(decide([entry(days) for days in range(400)], retention, NOW, UTC_ZONE)) == expected


def test_the_last_complete_ones_are_kept_by_number() -> None:
    entries = [entry(40), entry(30), entry(20, DAMAGED), entry(15, partial=True), entry(10, [])]
    decisions = decide(entries, Retention(days=0, keep_last=2), NOW, None)

    assert kept(decisions) == [30, 10]
    assert kept(decide(entries, Retention(days=0, keep_last=3), NOW, None)) == [40, 30, 10]
    assert reasons(decisions, 10) == ("the newest complete one", "one of the last 2")


def test_a_pinned_one_is_kept_and_counts_for_nothing() -> None:
    pinned = replace(entry(30, DAMAGED), marks=Marks(pinned=True, until=NOW))
    entries = [entry(40), pinned, replace(entry(20), marks=Marks(pinned=True, until=NOW - timedelta(days=1)))]

    assert kept(decide([*entries, entry(10)], WEEK, NOW, UTC_ZONE)) == [30, 10]
    assert reasons(decide(entries, WEEK, NOW, UTC_ZONE), 30) == ("pinned until 2026-11-25 04:00:00 UTC",)


UTC_ZONE = ZoneInfo("UTC")


def test_a_proven_artifact_serves_a_period_before_a_newer_unproven_one() -> None:
    decisions = decide([entry(40.02), entry(40.01, []), entry(0)], Retention(days=7, daily=9), NOW, UTC_ZONE)

    assert [round((NOW - d.entry.created).total_seconds() / 86400, 2) for d in decisions if d.keep] == [
        40.02,
        0,
    ]


def test_days_are_those_of_the_zone() -> None:
    """22:00 and 04:00 UTC are two days in London and one in Tokyo."""
    pair = [entry(1.25), entry(1.0)]
    keep_days = Retention(days=0, daily=9)

    assert (
        len([d for d in decide([*pair, entry(0)], keep_days, NOW, ZoneInfo("Europe/London")) if d.keep]) == 3
    )
    assert len([d for d in decide([*pair, entry(0)], keep_days, NOW, ZoneInfo("Asia/Tokyo")) if d.keep]) == 2


def test_an_artifact_from_the_future_is_kept_and_is_not_the_last_proven() -> None:
    decisions = decide([entry(30), entry(20), entry(-900)], WEEK, NOW, None)

    assert kept(decisions) == [20, -900]
    assert reasons(decisions, 20) == ("the last proven one", "the newest complete one")
    assert "dated in the future" in reasons(decisions, -900)


def of_database(days: float, database: str, system: str | None = "1") -> Entry:
    one = entry(days)
    details = {"database": database, "system_identifier": system}
    name = f"{database}_{system}_{days}.sql.gz"
    return replace(one, manifest=replace(one.manifest, details=details, name=name))


def test_the_last_proven_artifact_of_one_database_lets_none_of_another_go() -> None:
    shop = [of_database(days, "shop") for days in (40, 30)]
    wiki = [of_database(days, "wiki") for days in (9, 8, 1)]
    moved = [of_database(20, "shop", "2")]
    dump = [entry(50, [])]

    assert kept(decide([*shop, *wiki, *moved, *dump], WEEK, NOW, None)) == [50, 30, 20, 1]


def test_the_days_of_one_database_are_not_served_by_another() -> None:
    both = [of_database(day + part, name) for day in range(5) for part, name in ((0, "shop"), (0.01, "wiki"))]

    decisions = decide(both, Retention(days=0, daily=3), NOW, UTC_ZONE)

    assert [one.entry.name.split("_")[0] for one in decisions if one.keep].count("shop") == 3


def test_an_artifact_dated_years_back_is_as_old_as_its_publication() -> None:
    """Made tonight, on a server that says 2020; retention is by the later of both."""
    tonight = entry(2200)
    tonight = replace(tonight, manifest=replace(tonight.manifest, published=NOW))
    decisions = decide([entry(30), entry(20), tonight], WEEK, NOW, None)

    assert [decision.entry.name for decision in decisions if decision.keep] == [tonight.name]
    assert decisions[-1].reasons == ("younger than 7 days", "the last proven one", "the newest complete one")


def shrunk(days: float, evidence: Sequence[Evidence] = PROVEN) -> Entry:
    made = entry(days, evidence)
    return replace(
        made, manifest=replace(made.manifest, shrunk=("8 tables → 0",), shrunk_from="the one before")
    )


def test_the_last_proven_before_a_shrunk_one_is_kept_until_accepted() -> None:
    accepted = (*PROVEN, Evidence(NOW, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, accepts=True))
    before = [entry(50), entry(40), entry(35, [])]
    decisions = decide([*before, *(shrunk(days) for days in (30, 20, 5, 1))], WEEK, NOW, None)

    assert kept(decisions) == [40, 5, 1]
    assert reasons(decisions, 40) == (f"the last one before {decisions[3].entry.name} shrank",)
    assert kept(decide([*before, shrunk(5), shrunk(1, accepted)], WEEK, NOW, None)) == [40, 5, 1]
    assert kept(decide([*before, shrunk(5, accepted), shrunk(1, accepted)], WEEK, NOW, None)) == [5, 1]
    assert kept(decide([entry(35, []), shrunk(5), shrunk(1)], WEEK, NOW, None)) == [35, 5, 1]


def test_nothing_is_decided_about_nothing() -> None:
    assert decide([], WEEK, NOW, None) == ()


def test_a_simulated_year_keeps_what_the_settings_promise() -> None:
    rules = Retention(days=7, weekly=4, monthly=12)
    schedule = Schedule({TaskName.DATABASE: When(0, 2)}, UTC_ZONE)
    year = (NOW, NOW + timedelta(days=365))
    decisions = simulate(SourceName.DATABASE, [entry(3)], rules, schedule, year)

    ages = [(NOW + timedelta(days=365) - decision.entry.created).days for decision in decisions]
    assert ages == sorted(ages, reverse=True)
    assert ages[-7:] == [6, 5, 4, 3, 2, 1, 0]
    assert len({f"{d.entry.created:%Y-%m}" for d in decisions}) == 12
    assert {decision.entry.manifest.size for decision in decisions} == {10}


def test_a_simulation_that_prunes_now_and_then_keeps_what_a_prune_after_each_run_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules, end = Retention(days=2, daily=5, weekly=2, keep_last=3), NOW + timedelta(days=20)
    schedule = Schedule({TaskName.DATABASE: When(45)}, UTC_ZONE)
    there = [entry(30), entry(3, []), entry(1, DAMAGED)]
    runs = [NOW + timedelta(minutes=45, hours=hour) for hour in range(20 * 24)]
    wanted = there
    for run in runs:
        made = replace(entry(0).manifest, created=run, name=f"{run:%d%H%M}")
        wanted = [
            one.entry for one in decide([*wanted, Entry(made, PROVEN)], rules, run, UTC_ZONE) if one.keep
        ]
    calls = []
    monkeypatch.setattr(retention, "decide", lambda *given: calls.append(given) or decide(*given))
    found = simulate(SourceName.DATABASE, there, rules, schedule, (NOW, end))
    assert [one.entry.created for one in found] == [
        one.entry.created for one in decide(wanted, rules, end, UTC_ZONE) if one.keep
    ]
    assert len(calls) < len(runs) / 10


def test_a_simulation_never_takes_a_name_twice() -> None:
    today = replace(entry(0).manifest, source=SourceName.CONFIG, name="config_20261125.tar.gz")
    schedule = Schedule({TaskName.CONFIG: When(0, 5)}, UTC_ZONE)
    days = (NOW, NOW + timedelta(days=2))
    decisions = simulate(SourceName.CONFIG, [Entry(today)], Retention(days=28), schedule, days)

    assert [decision.entry.name for decision in decisions] == [
        "config_20261125.tar.gz",
        "config_20261125_050000.tar.gz",
        "config_20261126.tar.gz",
    ]
