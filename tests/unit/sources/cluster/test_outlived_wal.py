"""The WAL that a prune deletes: what no kept base, and no moment that is young enough, needs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.wal_segments import SERVER, SIZE, archive

from refnet.catalog.cluster_base import BaseFacts, BaseKind, NeededWal
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import segment_of
from refnet.sources.cluster.base_wal import outlived_wal

NAME = SourceName("main-cluster", Kind.CLUSTER)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def facts(number: int, *, segments: int = 1, timeline: int = 1) -> BaseFacts:
    """A base that needs the WAL of so many segments, from the one with that number on."""
    start, end = number * SIZE + 40, (number + segments - 1) * SIZE + 300
    return BaseFacts(SERVER.system_identifier, "17.7", BaseKind.FULL, "", start, end, timeline, 1, 0)


def name(number: int) -> str:
    return segment_of(number * SIZE, 1, SIZE)


def test_only_the_wal_of_long_term_bases_stays_before_the_window(tmp_path: Path) -> None:
    made = archive(tmp_path, *map(name, range(1, 13)))
    needed = NeededWal(SERVER.system_identifier, facts(9), ((facts(2, segments=2), NOON), (facts(6), NOON)))
    found = outlived_wal(NAME, made, needed)
    assert found
    assert "5 segments of WAL" in found.what
    assert found.days == {NOON.date()}
    found.remove()
    assert {one.name for one in made.segments(1)} == {name(one) for one in (2, 3, 6, 9, 10, 11, 12)}
    assert not made.gaps(9 * SIZE, 1)
    assert outlived_wal(NAME, made, needed) is None


def test_nothing_is_deleted_of_a_young_archive(tmp_path: Path) -> None:
    made = archive(tmp_path, name(5), name(6))
    assert outlived_wal(NAME, made, NeededWal(SERVER.system_identifier, facts(5), ())) is None
