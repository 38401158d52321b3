"""The monitor's checks of copies: what is missing, not read back, removed by somebody, or cannot be known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.remote_copies import LOCAL, NOW, PROOF, document, signed

from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.monitoring import Check, Limits, Status
from refnet.catalog.monitoring_stores import watch_copies
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import Gap, StoreState, is_missing
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.core.errors import RefnetError

DAY = timedelta(days=1)
LIMITS = dict.fromkeys(STANDARD, Limits(DAY, None))
READ = Evidence(NOW, Level.WRITTEN, Outcome.PASSED, 1.0)
LATER = replace(LOCAL, name="refnet_20261126_170001.sql.gz", created=NOW + DAY, sha256="12" * 32)


def _copy(local: Manifest, *evidence: Evidence) -> Copy:
    return Copy(local, evidence, signed=signed(document(local=local)))


def _state(*copies: Copy) -> StoreState:
    return StoreState("cloud", frozenset([SourceName.DATABASE]), copies)


def _checks(state: StoreState, *local: Manifest, after: timedelta = timedelta(hours=3)) -> list[Check]:
    entries = Catalog.of(Entry(one, (PROOF,)) for one in local)
    newest = max((one.created for one in local), default=NOW)
    return list(watch_copies((state,), entries, LIMITS, newest + after))


@pytest.mark.parametrize(
    ("state", "local", "status", "words"),
    [
        (_state(_copy(LOCAL, READ)), [LOCAL], Status.OK, "fetched, 3 h old"),
        (_state(_copy(LOCAL, PROOF)), [LOCAL], Status.OK, "proven"),
        (_state(_copy(LOCAL)), [LOCAL], Status.WARNING, "never read back"),
        (_state(replace(_copy(LOCAL, READ), stale=True)), [LOCAL], Status.WARNING, "was not read back from there for 30 days"),
        (_state(replace(_copy(LOCAL, PROOF), stale=True)), [LOCAL], Status.OK, "proven"),
        (_state(_copy(LOCAL, READ)), [], Status.OK, "fetched"),
        (_state(_copy(LOCAL, READ)), [LOCAL, LATER], Status.CRITICAL, f"{LATER.name} has no copy"),
        (_state(), [LOCAL], Status.WARNING, "has no copy there (the newest: none)"),
    ],
)  # fmt: skip
def test_the_newest_artifact_has_a_copy_or_that_is_said(
    state: StoreState, local: list[Manifest], status: Status, words: str
) -> None:
    [check] = _checks(state, *local)
    assert (check.source, check.what, check.status) == (SourceName.DATABASE, "copy cloud", status)
    assert words in check.says


def test_a_damaged_copy_is_said_until_there_is_another() -> None:
    damaged = _copy(LOCAL, replace(READ, outcome=Outcome.FAILED))
    first, second = _checks(_state(damaged), LOCAL)
    assert "has no copy" in first.says
    assert f"damaged there: {LOCAL.name}" in second.says
    assert {first.status, second.status} == {Status.WARNING}
    [check] = _checks(_state(_copy(LOCAL, READ), damaged), LOCAL)
    assert check.status is Status.OK


def test_a_copy_may_take_two_hours_before_it_is_missed() -> None:
    [check] = _checks(_state(_copy(LOCAL, READ)), LOCAL, LATER, after=timedelta(hours=1))
    assert check.status is Status.OK
    [check] = _checks(_state(), LOCAL, after=timedelta(hours=1))
    assert check.status is Status.NEW
    [check] = _checks(_state(), LOCAL, after=timedelta(hours=27))
    assert check.status is Status.CRITICAL


def test_an_artifact_that_shrank_needs_no_copy_until_it_is_accepted() -> None:
    shrunk = replace(LATER, shrunk=("8 tables fewer",))
    [check] = _checks(_state(_copy(LOCAL, READ)), LOCAL, shrunk)
    assert check.status is Status.OK
    assert not is_missing(_state(), Entry(shrunk))
    assert is_missing(_state(), Entry(shrunk, (replace(READ, accepts=True),)))


def test_a_gap_is_critical() -> None:
    state = replace(_state(_copy(LOCAL, READ)), gaps=(Gap("missing: number 2", 2),))
    assert [one.status for one in _checks(state, LOCAL)] == [Status.OK, Status.CRITICAL]
    assert list(watch_copies((state,), Catalog(()), LIMITS, NOW, SourceName.CONFIG)) == []


@pytest.mark.parametrize(
    ("listed", "status"),
    [(None, Status.CRITICAL), (timedelta(hours=2), Status.WARNING), (2 * DAY, Status.CRITICAL)],
)
def test_a_store_that_cannot_be_listed_becomes_critical(listed: timedelta | None, status: Status) -> None:
    away = replace(_state(), trouble=RefnetError("no answer", "Wait."), listed=listed and NOW - listed)
    [check] = watch_copies((away,), Catalog(()), LIMITS, NOW)
    assert (check.source, check.status) == (None, status)
    assert "cannot be listed" in check.says
