"""prune: for any history, nothing that is needed goes; a second prune changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory_store import MemoryStore

from refnet.actions.prune import Rules
from refnet.catalog.artifact import Made
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Leftover, Store
from refnet.core.errors import Exit, RefnetError

START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = Retention(days=7)
DATABASE = SourceName.DATABASE


def make(store: Store, created: datetime, *, partial: bool = False, source: SourceName = DATABASE) -> Entry:
    with store.draft(source) as draft:
        draft.out.write(b"x")
        manifest = draft.publish(Made(created, {}, partial=partial), created, 1.0)
    return next(entry for entry in store.entries() if entry.name == manifest.name)


def judge(store: Store, entry: Entry, level: Level, outcome: Outcome) -> None:
    store.record(entry, Evidence(entry.created, level, outcome, 1.0))


#: A history, an event a step: how far the clock moves (hours; it may jump back), and what happens then.
EVENTS = st.tuples(
    st.sampled_from([24.0, 1.0, 0.0, 169.0, 900.0, -30.0, -5000.0, 9000.0]),
    st.sampled_from(["proven", "written", "prune", "failed proof", "partial", "damage one"]),
    st.integers(0, 50),
)
RETENTIONS = st.builds(
    Retention,
    days=st.integers(0, 40),
    daily=st.sampled_from([0, 0, 0, 1, 5]),
    weekly=st.sampled_from([0, 0, 0, 1, 3]),
    monthly=st.sampled_from([0, 0, 0, 1, 3]),
    yearly=st.sampled_from([0, 0, 0, 1]),
    keep_last=st.sampled_from([0, 0, 0, 3]),
)


def last_proven(store: Store) -> str | None:
    whole = [e for e in store.entries() if e.proven and not e.manifest.partial]
    return max(whole, key=lambda e: (e.created, e.name)).name if whole else None


@settings(max_examples=300, deadline=None)
@given(history=st.lists(EVENTS, min_size=3, max_size=25), retention=RETENTIONS)
def test_prune_never_deletes_the_last_proven_artifact_and_is_idempotent(
    history: list[tuple[float, str, int]], retention: Retention
) -> None:
    store, now = MemoryStore(), START
    other = make(store, START - timedelta(days=4000), source=SourceName.OBSIDIAN)
    for hours, event, number in [*history, (0.0, "prune", 0)]:
        now += timedelta(hours=hours)
        mine = [entry for entry in store.entries() if entry.source == DATABASE]
        if event in {"proven", "written", "failed proof", "partial"}:
            entry = make(store, now, partial=event == "partial")
            if event == "proven":
                judge(store, entry, Level.PROVEN, Outcome.PASSED)
            if event == "failed proof":
                judge(store, entry, Level.PROVEN, Outcome.FAILED)
        elif event == "damage one" and mine:
            judge(store, mine[number % len(mine)], Level.INTACT, Outcome.FAILED)
        elif event == "prune":
            proven = last_proven(store)
            ahead = {entry.name for entry in mine if entry.created > now}
            young = {
                e.name for e in mine if timedelta(0) <= now - e.created <= timedelta(days=retention.days)
            }

            Rules(store, retention, now).prune(DATABASE)

            left = {entry.name for entry in store.entries()}
            assert last_proven(store) == proven
            assert ahead | young | {other.name} <= left
            assert bool(mine) == any(entry.source == DATABASE for entry in store.entries())
            assert Rules(store, retention, now).plan(DATABASE).changes_nothing


def test_a_plan_is_what_a_prune_does(store: Store) -> None:
    for days in (30, 20, 3):
        judge(store, make(store, START - timedelta(days=days)), Level.PROVEN, Outcome.PASSED)

    planned = Rules(store, WEEK, START).plan(DATABASE)
    done = Rules(store, WEEK, START).prune(DATABASE)

    assert planned == done
    assert [(START - d.entry.created).days for d in done.deleted] == [30, 20]
    assert done.bytes_freed == 2
    assert [(START - entry.created).days for entry in store.entries()] == [3]


def test_leftovers_go_and_those_of_another_source_stay() -> None:
    store = MemoryStore()
    mine = Leftover(DATABASE, ".refnet-1.part", 9, "written by a run that did not end")
    other = Leftover(SourceName.CONFIG, ".refnet-2.part", 9, "written by a run that did not end")
    store.left = [mine, other]

    done = Rules(store, WEEK, START).prune(DATABASE)

    assert done.leftovers == (mine,)
    assert store.leftovers() == (other,)


def test_what_a_restore_kept_goes_after_a_week_and_no_sooner(store: Store) -> None:
    removed: list[str] = []

    def previous_versions() -> list[PreviousVersion]:
        return [
            PreviousVersion(
                DATABASE, what, START - timedelta(days=days), lambda what=what: removed.append(what)
            )
            for what, days in (("the old database", 8), ("the database of yesterday", 1))
        ]

    done = Rules(store, WEEK, START, None, (previous_versions,)).prune(DATABASE)

    assert removed == ["the old database"]
    assert [aside.what for aside in done.previous_versions] == ["the old database"]


def test_what_cannot_be_asked_stops_nothing_else_and_is_told(store: Store) -> None:
    def down() -> list[PreviousVersion]:
        raise RefnetError("the server is down", "Start it.")

    make(store, START - timedelta(days=30))
    make(store, START)
    done = Rules(store, WEEK, START, None, (down,)).prune(DATABASE)

    assert [error.message for error in done.unknown] == ["the server is down"]
    assert len(store.entries()) == 1


def test_a_prune_waits_for_nobody_and_takes_nothing_from_a_running_backup(store: Store) -> None:
    make(store, START - timedelta(days=30))
    make(store, START)
    with store.lock(DATABASE), pytest.raises(RefnetError) as refused:
        Rules(store, WEEK, START).prune(DATABASE)

    assert refused.value.code is Exit.LOCKED
    assert len(store.entries()) == 2


def test_nothing_is_locked_where_nothing_is_to_be_done(store: Store, tmp_path: Any) -> None:
    assert Rules(store, WEEK, START).prune(DATABASE).changes_nothing
    assert list(tmp_path.iterdir()) == []
