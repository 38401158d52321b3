"""The overview: one sentence on everything, and what is known of each source."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.telemetry.conftest import NOW, World

from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.monitoring import Status
from refnet.catalog.run import Reason, Run, RunKind
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.core.errors import RefnetError
from refnet.telemetry.facts import TREND, Facts, Overview, SourceState, overview, unreadable

DATABASE, CONFIG, OBSIDIAN = SourceName.DATABASE, SourceName.CONFIG, SourceName.OBSIDIAN
TROUBLE = RefnetError("/backups is not the store that was there", "Mount the right disk.")


def facts(world: World) -> Facts:
    """The facts on a disk with free space."""
    return replace(world.facts(), free_bytes=1 << 40)


def states(world: World) -> dict[SourceName, SourceState]:
    return {one.source: one for one in overview(facts(world)).sources}


def protected(world: World) -> None:
    for source in (DATABASE, CONFIG, OBSIDIAN):
        world.artifact(source)


def test_everything_is_protected_only_where_the_monitor_finds_nothing(world: World) -> None:
    protected(world)
    found = overview(facts(world))
    assert (found.status, found.says) == (Status.NEW, "Everything is protected")
    assert all(one.protected for one in found.sources)


def test_a_source_that_is_not_protected_is_named_with_its_worst_reason(world: World) -> None:
    protected(world)
    world.artifact(CONFIG, ago=timedelta(minutes=5), level=Level.INTACT)
    world.damage(world.artifact(CONFIG, ago=timedelta(minutes=1)))
    found = overview(facts(world))
    assert found.says.startswith("2 of 3 sources are protected; config: damaged: ")
    assert found.status is Status.CRITICAL
    assert [one.status for one in found.sources[1].problems] == [Status.CRITICAL, Status.WARNING]


def test_an_unproven_artifact_protects_nothing_and_the_reason_is_given(world: World) -> None:
    made = world.artifact(level=Level.RESTORED)
    reasons = ("it has a table of C code",)
    world.store.record(Entry(made), Evidence(NOW, Level.PROVEN, Outcome.UNVERIFIED, 1.0, reasons=reasons))
    world.configured = frozenset([DATABASE])
    assert overview(facts(world)).says == (
        "0 of 1 sources are protected; database: could not verify beyond restored: it has a table of C code"
    )


def test_nothing_is_backed_up_yet_is_no_alarm_and_no_promise(world: World) -> None:
    found = overview(facts(world))
    assert (found.new, found.says) == (True, "Nothing is backed up yet")
    assert [one.protected for one in found.sources] == [False] * 3


def test_artifacts_that_are_gone_are_not_called_new(world: World) -> None:
    world.configured = frozenset([DATABASE])
    run = replace(Run("a", RunKind.BACKUP, DATABASE, NOW), artifact="refnet_20261125_020000.sql.gz")
    world.journal.begin(run)
    world.journal.end(run)
    found = overview(facts(world))
    assert not found.new
    assert found.says.startswith("0 of 1 sources are protected; database: every artifact is gone")


def test_a_source_with_its_schedule_off_is_named_even_when_protected(world: World) -> None:
    protected(world)
    there = facts(world)
    times = {name: when for name, when in there.schedule.times.items() if name != "config"}
    there = replace(there, schedule=replace(there.schedule, times=times))
    found = overview(there)
    assert found.says == "Everything is protected; not scheduled: config"
    assert [one.source for one in found.sources if one.off] == [CONFIG]


def test_a_source_that_is_configured_no_more_is_named_and_not_judged(world: World) -> None:
    protected(world)
    world.configured = frozenset([DATABASE])
    assert CONFIG not in states(world)
    assert CONFIG in overview(world.facts()).unnamed


def test_a_full_store_needs_attention_though_every_source_is_protected(world: World) -> None:
    protected(world)
    found = overview(replace(world.facts(), free_bytes=1))
    assert found.says.startswith("Every source is protected; the store needs attention; free space: 1 B free")


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        (unreadable(NOW, TROUBLE), Status.UNKNOWN, "Could not verify whether everything is protected"),
        (None, Status.CRITICAL, "The backup folder is not the store of earlier runs"),
    ],
)
def test_what_cannot_be_read_is_never_called_protected(
    world: World, found: Overview | None, status: Status, says: str
) -> None:
    protected(world)
    seen = found or overview(replace(facts(world), trouble=TROUBLE))
    assert (seen.status, seen.says, seen.sources) == (status, f"{says}; {TROUBLE.message}", ())


def test_a_loss_costs_the_age_of_the_newest_restorable_artifact(world: World) -> None:
    usable = world.artifact(ago=timedelta(hours=5))
    damaged = world.artifact(ago=timedelta(hours=1))
    world.damage(damaged)
    found = states(world)[DATABASE]
    assert found.newest
    assert found.usable
    assert (found.newest.name, found.usable.name) == (damaged.name, usable.name)
    assert found.rpo(NOW) == timedelta(hours=5)
    assert states(world)[CONFIG].rpo(NOW) is None


def test_a_loss_costs_a_database_of_a_cluster_only_the_lag_of_its_wal(world: World) -> None:
    base = Entry(world.artifact(ago=timedelta(hours=5)))
    until = NOW - timedelta(seconds=3)
    report = StreamReport(StreamState.STREAMING, NOW, 7, 1, 2, 1, until)
    stream = StreamStatus("main", NOW, "/archive", report=report, base=base)

    def rpo(found: StreamStatus) -> timedelta | None:
        seen = overview(replace(facts(world), streams=(found,), by_wal={DATABASE: found.source}))
        return next(one for one in seen.sources if one.source == DATABASE).rpo(NOW)

    assert rpo(stream) == timedelta(seconds=3)
    assert rpo(replace(stream, base=None)) == timedelta(hours=5)  # no moment can be restored by WAL
    old = replace(report, received_until=NOW - timedelta(days=1))
    assert rpo(replace(stream, report=old)) == timedelta(hours=5)


def test_a_loss_that_costs_nothing_is_0_seconds_in_json(world: World) -> None:
    found = replace(states(world)[DATABASE], by_wal=NOW)
    assert found.to_json(NOW)["rpo_seconds"] == 0


def test_the_recovery_time_is_that_of_the_last_passed_proof_or_drill(world: World) -> None:
    made = world.artifact(ago=timedelta(days=2))
    found = states(world)[DATABASE]
    assert found.proof
    assert (found.proof.seconds, found.proof.drill, found.drill) == (3.0, False, None)
    world.store.record(Entry(made), Evidence(NOW, Level.PROVEN, Outcome.PASSED, 9.0, drill=True))
    world.store.record(
        Entry(made), Evidence(NOW + timedelta(1), Level.PROVEN, Outcome.FAILED, 1.0, drill=True)
    )
    found = states(world)[DATABASE]
    assert found.proof
    assert found.drill
    assert (found.proof.seconds, found.proof.drill, found.drill.outcome) == (9.0, True, Outcome.FAILED)


def test_a_drill_that_stopped_halfway_is_not_shown_as_passed(world: World) -> None:
    made = world.artifact(level=None)
    for level, outcome in ((Level.RESTORED, Outcome.PASSED), (Level.PROVEN, Outcome.UNVERIFIED)):
        world.store.record(Entry(made), Evidence(NOW, level, outcome, 2.0, drill=True))
    found = states(world)[DATABASE]
    assert (found.drill and found.drill.outcome, found.proof) == (Outcome.UNVERIFIED, None)


def test_a_drill_of_an_artifact_that_is_gone_is_known_by_the_journal(world: World) -> None:
    world.run(kind=RunKind.DRILL, seconds=12.0)
    world.run(kind=RunKind.DRILL, failed=Reason.LOCKED)
    found = states(world)[DATABASE]
    assert found.drill
    assert found.proof
    assert (found.drill.at, found.drill.outcome, found.proof.seconds) == (
        NOW + timedelta(seconds=12), Outcome.PASSED, 12.0,
    )  # fmt: skip


def test_a_backup_at_work_is_said_and_a_drill_is_no_backup(world: World) -> None:
    world.journal.begin(Run("a", RunKind.BACKUP, DATABASE, NOW))
    world.journal.begin(Run("b", RunKind.DRILL, CONFIG, NOW))
    found = states(world)
    assert (found[DATABASE].at_work, found[CONFIG].at_work) == (NOW, None)


def test_the_trend_has_the_last_complete_artifacts_oldest_first(world: World) -> None:
    for hours in (3, 2, 1):
        world.artifact(ago=timedelta(hours=hours), data=bytes(hours))
    world.damage(world.artifact(ago=timedelta(minutes=30)))
    assert [size for _, size in states(world)[DATABASE].sizes] == [3, 2, 1]
    there = facts(world)
    many = tuple(
        replace(one, manifest=replace(one.manifest, created=NOW - timedelta(days=number), published=None))
        for number, one in enumerate(there.catalog.entries[:1] * (TREND + 9))
    )
    found = overview(replace(there, catalog=type(there.catalog).of(many))).sources[0]
    assert (len(found.sizes), found.sizes[-1][0]) == (TREND, NOW)


def test_a_database_that_does_not_answer_is_named(world: World) -> None:
    there = facts(world)
    silent = replace(there, targets={DATABASE: Identity("papers")})
    assert (overview(there).silent, overview(silent).silent) == ("", "papers")
    assert overview(replace(there, targets={DATABASE: Identity("papers", "7")})).silent == ""


def test_artifacts_of_a_source_that_the_settings_do_not_name_are_said(world: World) -> None:
    world.artifact(SourceName("old", Kind.FOLDER))
    assert overview(facts(world)).unnamed == ("old",)


def test_the_json_has_the_sentence_and_the_figures_of_each_source(world: World) -> None:
    made = world.artifact(ago=timedelta(hours=1)).name
    said = overview(facts(world)).to_json()
    assert said["says"].startswith("1 of 3 sources are protected; config: ")
    assert said["sources"][0] == {
        "source": "database", "protected": True, "status": "new", "newest": made,
        "state": "proven", "usable": made, "rpo_seconds": 3600, "rto_seconds": 3.0,
        "rto_measured_by": "proof", "rto_measured": "2026-11-25T11:00:05.000000+00:00", "last_drill": None,
        "last_drill_outcome": None, "next_run": "2026-11-26T02:00:00.000000+00:00",
    }  # fmt: skip
    known = {name for name, value in said["sources"][1].items() if value is not None}
    assert known == {"source", "protected", "status", "next_run"}


def test_one_source_alone_has_its_own_checks(world: World) -> None:
    protected(world)
    found = overview(facts(world), CONFIG)
    assert [one.source for one in found.sources] == [CONFIG]
    assert {one.source for one in found.checks} == {CONFIG, None}
