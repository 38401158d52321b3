"""backup: one straight line, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.actions.conftest import NOW, Lab

from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.actions.backup_result import Backup
from refnet.catalog.artifact import silent
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Store
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError

Make = Callable[..., Backup]


@pytest.fixture
def make(store: Store, now: Any, clock: Any) -> Make:
    def run(source: Any, prove: bool = True, since: datetime | None = None) -> Backup:
        zone = timezone(timedelta(hours=9))
        options = Options(prove=prove, since=since)
        return backup(Lab(store, source, Clock(now, clock, zone=zone)), source, store, options)

    return run


def test_a_backup_is_published_then_proven_and_the_evidence_is_kept(
    make: Make, store: Store, lines: Any
) -> None:
    made = make(lines())

    (entry,) = store.entries()
    assert entry.manifest == made.manifest
    assert entry.proven
    assert (entry.evidence[-1].level, entry.evidence[-1].server) == (Level.PROVEN, "scratch 1")
    assert made.exit is Exit.DONE
    assert list(made.seconds) == ["dump", "publish", "prove"]


def test_the_manifest_has_the_publication_time_and_evidence_the_warnings(
    make: Make, store: Store, lines: Any
) -> None:
    class Behind(lines):
        def dump(self, out: Any, progress: Any = silent, turn: Any = None) -> Any:
            return replace(super().dump(out, progress), warnings=("the server's clock is behind",))

    made = make(Behind(created=NOW - timedelta(days=2200)))

    (entry,) = store.entries()
    assert (entry.manifest.published, entry.made) == (NOW, NOW)
    assert made.warnings == entry.evidence[0].reasons == ("the server's clock is behind",)
    assert [line.level for line in entry.evidence] == [Level.WRITTEN, Level.PROVEN]
    assert entry.proven


def test_the_name_holds_the_local_time_of_the_snapshot(make: Make, lines: Any) -> None:
    assert make(lines()).manifest.name == "refnet_20261126_020001.sql.gz"


def test_without_a_proof_nothing_is_said_to_be_proven(make: Make, store: Store, lines: Any) -> None:
    made = make(lines(), prove=False)

    assert made.proof is None
    assert store.entries()[0].state == "written"
    assert "prove" not in made.seconds


def test_a_proof_that_fails_marks_the_artifact_damaged(make: Make, store: Store, lines: Any) -> None:
    class Lossy(lines):
        def dump(self, out: Any, progress: Any = silent, turn: Any = None) -> Any:
            made = super().dump(out, progress)
            made.details["content"] = "0" * 64
            return made

    made = make(Lossy())

    assert made.exit is Exit.DAMAGED
    assert store.entries()[0].state == "damaged"
    assert [line.outcome for line in store.entries()[0].evidence] == [Outcome.PASSED, Outcome.FAILED]


def test_what_cannot_be_verified_ends_with_its_own_code(make: Make, store: Store, lines: Any) -> None:
    made = make(lines(reaches=Level.RESTORED))

    assert made.exit is Exit.UNVERIFIED
    assert made.proof is not None
    assert made.proof.outcome is Outcome.UNVERIFIED
    assert store.entries()[0].state == "restored"


def test_a_proof_that_cannot_run_leaves_a_good_artifact(make: Make, store: Store, lines: Any) -> None:
    made = make(lines(refuses=RefnetError("no server programs are here", "Install PostgreSQL.")))

    assert made.exit is Exit.UNVERIFIED
    assert store.entries()[0].state == "written"
    assert made.proof is not None
    assert made.proof.reasons == ("the proof itself: no server programs are here. Install PostgreSQL.",)


def test_a_source_that_fails_leaves_nothing_and_no_lock(make: Make, store: Store, lines: Any) -> None:
    class Broken(lines):
        def dump(self, out: Any, progress: Any = silent, turn: Any = None) -> Any:
            out.write(b"half")
            raise RefnetError("the server is down", "Start it.")

    with pytest.raises(RefnetError, match="the server is down"):
        make(Broken())

    assert (store.entries(), store.leftovers()) == ((), ())
    assert make(lines()).exit is Exit.DONE


def test_a_second_backup_of_the_same_source_is_refused(make: Make, store: Store, lines: Any) -> None:
    with store.lock(SourceName.DATABASE), pytest.raises(RefnetError) as refused:
        make(lines())

    assert refused.value.code is Exit.LOCKED
    assert store.entries() == ()


def test_evidence_that_cannot_be_kept_is_told(make: Make, store: Store, lines: Any, now: Any) -> None:
    def refuse(*_: object) -> None:
        raise RefnetError("the disk is read-only", "Mount it writable.")

    store.record = refuse
    assert make(lines()).unrecorded == "the disk is read-only"


def test_the_name_is_that_of_the_snapshot_even_when_the_clock_jumped_back(
    make: Make, store: Store, lines: Any
) -> None:
    first = make(lines(), prove=False)
    second = make(lines(created=first.manifest.created - timedelta(days=2)), prove=False)
    third = make(lines(), prove=False)

    assert second.manifest.name < first.manifest.name
    assert third.manifest.name == "refnet_20261126_020001_2.sql.gz"
    assert isinstance(first.manifest.created, datetime)


def test_the_second_of_two_simultaneous_backups_finds_the_first_artifact(
    make: Make, store: Store, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, lock = lines(name=SourceName.CONFIG), store.lock

    def locked(name: SourceName) -> Any:
        monkeypatch.setattr(store, "lock", lock)
        make(source)  # the first one ends while the second waits for the lock
        return lock(name)

    monkeypatch.setattr(store, "lock", locked)
    second = make(source, since=NOW - timedelta(seconds=1))

    (entry,) = store.entries()
    assert second.earlier
    assert second.manifest == entry.manifest
    assert not make(source, since=NOW + timedelta(days=1)).earlier
