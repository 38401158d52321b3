"""The position in the WAL at which a server has exactly what a snapshot sees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast
from unittest.mock import MagicMock

import pytest
from tests.unit.catalog.test_recovery_target import BASES, ONE, at

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
from refnet.catalog.wal import CommitRecord
from refnet.core.errors import Exit, RefnetError
from refnet.sources.cluster.cross_proof import Snapshot, compared, cross_plan
from refnet.sources.database.artifact.index import Index

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


def commits(*xids: int) -> list[CommitRecord]:
    return [CommitRecord(100 + at, xid, NOON + timedelta(seconds=at)) for at, xid in enumerate(xids)]


def test_the_first_commit_that_a_snapshot_does_not_see_ends_it() -> None:
    snapshot = Snapshot.read("700:705:701,703")
    assert snapshot.end([commits(699, 700, 702, 704, 701, 703, 705)], LATER) == 104
    assert snapshot.end([commits(699, 700, 702, 704, 705)], LATER) == 104
    assert snapshot.end([commits(699, 700, 702, 704)], LATER) is None
    assert Snapshot.read("700:700:").end([commits(699, 700)], LATER) == 101


def test_commits_in_another_order_than_they_became_visible_have_no_end() -> None:
    with pytest.raises(ValueError, match="different order"):
        Snapshot.read("700:705:701").end([commits(699, 701, 702)], LATER)


def test_without_a_commit_from_before_an_artifact_an_earlier_one_may_be_the_first() -> None:
    """The artifact may be older than the base, and the archive begins with the base."""
    snapshot = Snapshot.read("700:700:")
    for stretches in ([commits(700, 701)], [commits(699), commits(700)], [], [[]], [commits(699), []]):
        with pytest.raises(ValueError, match="no commit from before"):
            snapshot.end(stretches, LATER)
    assert snapshot.end([commits(697), commits(699, 700)], LATER) == 101


def test_what_commits_much_later_is_not_read() -> None:
    def endless() -> Iterator[CommitRecord]:
        yield from commits(700, 705)
        yield CommitRecord(200, 706, LATER + timedelta(seconds=1))
        raise AssertionError

    assert Snapshot.read("705:705:").end([endless()], LATER) == 101


@pytest.mark.parametrize("epoch", [0, 3])
def test_transaction_ids_of_the_wal_have_32_bits(epoch: int) -> None:
    base = (epoch << 32) + (1 << 32)
    snapshot = Snapshot.read(f"{base - 2}:{base + 3}:{base + 1}")
    seen = {xid: snapshot.sees(xid) for xid in ((1 << 32) - 3, (1 << 32) - 1, 0, 1, 2, 3, 4, 1 << 30)}
    assert [xid for xid, sees in seen.items() if not sees] == [1, 3, 4, 1 << 30]


def test_the_artifact_of_another_server_is_not_compared() -> None:
    """As after a move of the database: the snapshot of the old server sees every transaction of the new one."""

    with pytest.raises(RefnetError, match="of another server"):
        cross_plan(index(system_identifier="8", snapshot="9000:9000:"), ONE, BASES)
    assert cross_plan(index(system_identifier="7", snapshot="9000:9000:"), ONE, BASES).base == BASES[-1]


def index(**server: str | None) -> Index:
    return cast("Index", SimpleNamespace(server=server, snapshot=at(8).isoformat()))


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ({"system_identifier": None, "snapshot": "9000:9000:"}, "does not record its server"),
        ({"system_identifier": "7"}, "does not record its snapshot"),  # of an older RefNet
        ({"system_identifier": "7", "snapshot": None}, "does not record its snapshot"),
    ],
)
def test_an_artifact_that_may_be_of_another_server_is_not_compared(
    server: dict[str, str | None], why: str
) -> None:
    """Another database would differ, and the base backup would be called damaged."""
    with pytest.raises(RefnetError, match=why) as refused:
        cross_plan(index(**server), ONE, BASES)
    assert refused.value.code is Exit.UNVERIFIED


def test_a_table_whose_name_ends_like_the_finding_of_the_sequences_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = (Finding("table public.all sequences", Outcome.FAILED), Finding("2 sequences", Outcome.FAILED))
    session = MagicMock()
    session.connect.return_value.__enter__.return_value.execute.return_value.fetchall.return_value = []
    found = MagicMock()
    found.cluster.target.return_value = session
    artifact = MagicMock()
    artifact.index.sequences = ("a", "b")
    artifact.compare.return_value = findings
    monkeypatch.setattr("refnet.sources.cluster.cross_proof.Workers", MagicMock())
    assert compared(found, artifact, MagicMock()) == findings[:1]
