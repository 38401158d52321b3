"""The catalog: the newest, the set of a moment, and the TIME of a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TOKYO = ZoneInfo("Asia/Tokyo")


def entry(
    hours: float, source: SourceName = SourceName.DATABASE, *, damaged: bool = False, **made: Any
) -> Entry:
    created = NOON + timedelta(hours=hours)
    manifest = Manifest(source, f"{source} {hours}", created, 1, "", 1.0, **made)
    return Entry(manifest, (Evidence(NOON, Level.INTACT, Outcome.FAILED, 1.0),) if damaged else ())


CATALOG = Catalog.of(
    [
        entry(0),
        entry(-24),
        entry(2, damaged=True),
        entry(3, partial=True),
        entry(-5, SourceName.CONFIG),
        entry(-1, SourceName.OBSIDIAN),
    ]
)


def test_entries_are_oldest_first_whatever_order_they_came_in() -> None:
    assert [one.name for one in CATALOG.of_source(SourceName.DATABASE)] == [
        "database -24",
        "database 0",
        "database 2",
        "database 3",
    ]


@pytest.mark.parametrize(
    ("at", "name"),
    [(None, "database 0"), (0, "database 0"), (-0.1, "database -24"), (-24, "database -24"), (-25, None)],
)
def test_the_newest_whole_one_is_at_or_before_the_moment(at: float | None, name: str | None) -> None:
    found = CATALOG.newest_complete(SourceName.DATABASE, None if at is None else NOON + timedelta(hours=at))
    assert (found.name if found else None) == name


def test_the_newest_is_the_last_made_and_a_moment_is_that_of_the_snapshot() -> None:
    """The second artifact was made last, by a server whose clock is ten days behind."""
    first = entry(0, published=NOON)
    behind = entry(-240, published=NOON + timedelta(hours=24))
    catalog = Catalog.of([behind, first])

    assert catalog.newest_complete(SourceName.DATABASE) == behind
    assert catalog.newest_complete(SourceName.DATABASE, NOON + timedelta(hours=1)) == first
    assert catalog.newest_complete(SourceName.DATABASE, NOON - timedelta(hours=1)) == behind
    assert catalog.oldest_complete([SourceName.DATABASE]) == behind


def test_a_set_holds_what_there_was_of_each_source() -> None:
    assert {source: one.name for source, one in CATALOG.set_at().items()} == {
        SourceName.DATABASE: "database 0",
        SourceName.CONFIG: "config -5",
        SourceName.OBSIDIAN: "obsidian -1",
    }
    assert set(CATALOG.set_at(NOON - timedelta(hours=10))) == {SourceName.DATABASE}
    assert CATALOG.set_at(NOON - timedelta(days=10)) == {}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25T02:00", datetime(2026, 11, 25, 2, 0, tzinfo=TOKYO)),
        ("2026-11-25 02:00:30", datetime(2026, 11, 25, 2, 0, 30, tzinfo=TOKYO)),
        ("2026-11-25T02:00+00:00", datetime(2026, 11, 25, 2, 0, tzinfo=UTC)),
        ("2026-11-25", datetime(2026, 11, 25, 23, 59, 59, 999_999, tzinfo=TOKYO)),
    ],
)
def test_a_time_is_local_by_default_and_a_day_ends_in_the_evening(text: str, moment: datetime) -> None:
    assert parse_time(text, TOKYO) == moment


def test_without_a_zone_a_time_is_the_machines() -> None:
    assert parse_time("2026-11-25T02:00", None).tzinfo is not None


@pytest.mark.parametrize("text", ["yesterday", "", "25.11.2026", "2026-13-01"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(RefnetError, match="is not a time") as refused:
        parse_time(text, TOKYO)
    assert refused.value.code is Exit.USAGE
